"""Training of adapters: tokens per second beside TRL's SFTTrainer, with the same model, data, LoRA and number format.

Tokens are those of the examples, each counted whole as often as it was trained on, whatever a program computes for
them. The models have random weights, but for the tiny one: speed does not depend on them.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from apprentice.training.adapters.packing import Row, lay_out
from apprentice.training.adapters.plan import Plan, Settings
from apprentice.training.adapters.rows import Chat, encode
from apprentice_actors.ports import Example, TrainingJob
from tests import tiny_llama

_SEED = 3
_QWEN = {
    "0.5B": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "intermediate_size": 4864},
    "1.5B": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "intermediate_size": 8960},
}
"""Shapes of Qwen2.5."""
_SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1024}

type Maker = Callable[[], Any]
type Run = Callable[[], tuple[float, int]]
"""Trains once; returns the seconds of the steps and the tokens that were computed, 0 where that is not known."""


def run_training(*, quick: bool = False) -> dict[str, Any]:
    """On the CPU: this worker and TRL, packed and not, in turns."""
    import torch

    logging.getLogger("transformers").setLevel(logging.ERROR)
    base = str(tiny_llama.cached_base())
    rounds, count = (1, 32) if quick else (3, 48)
    found: list[dict[str, Any]] = []
    models: dict[str, Maker] = {"1.2M": lambda: _load(base)}
    if not quick:
        models["11M"] = partial(_random_llama, **_SMALL)
    for name, maker in models.items():
        found += _compare(name, maker, _plan(base, batch_size=6), tiny_llama.examples(count, seed=1), rounds)
    return {"threads": torch.get_num_threads(), "merged_max_difference": _merged(base), "rows": found}


def run_on_gpu(*, quick: bool = False) -> dict[str, Any]:
    """On the first GPU: 500 examples on Qwen's shapes in bf16, and the share of the card's measured bf16 rate.

    Counted are the multiplications of the layers' weights, forward and backward to the activations; what is computed a
    second time to save memory, attention and the last layer are not.
    """
    import torch

    if not torch.cuda.is_available():
        return {"gpu": None, "rows": [{"gpu": "there is no GPU on this machine; nothing was measured"}]}
    base = str(tiny_llama.cached_base())
    rate = _bf16_rate()
    found: list[dict[str, Any]] = []
    for name in ("0.5B",) if quick else _QWEN:
        for checkpointing in (False, True):
            plan = _plan(base, batch_size=32, gradient_checkpointing=checkpointing, rank=16, max_length=2048)
            rows = _compare(
                f"{name}{', checkpointing' if checkpointing else ''}",
                partial(_random_qwen, **_QWEN[name]),
                plan,
                tiny_llama.examples(500, seed=1),
                rounds=1,
                device="cuda",
            )
            weights = _layer_weights(_QWEN[name])
            for row in rows:
                done = 4.0 * weights * row["computed"]
                row["share_of_bf16"] = round(done / row["seconds"] / rate, 3) if row["computed"] else ""
            found += rows
    return {"gpu": torch.cuda.get_device_name(0), "bf16_tflops": round(rate / 1e12, 1), "rows": found}


def _compare(
    name: str, maker: Maker, plan: Plan, examples: Sequence[Example], rounds: int, device: str = "cpu"
) -> list[dict[str, Any]]:
    chat, rows = _rows(plan, examples)
    tokens = sum(row.tokens for row in rows)
    apart = msgspec.structs.replace(plan, settings=msgspec.structs.replace(plan.settings, packing=False))
    runs: dict[str, Run] = {
        "apprentice, packed": lambda: _ours(maker(), plan, rows, device),
        "apprentice, packed, nothing shared": lambda: _ours(maker(), plan, rows, device, shared=0),
        "apprentice, padded": lambda: _ours(maker(), apart, rows, device),
        "TRL, packed": lambda: _trl(maker(), plan, examples, chat, device),
        "TRL, padded": lambda: _trl(maker(), apart, examples, chat, device),
    }
    _ours(maker(), plan, rows[:12], device)
    _trl(maker(), plan, examples[:12], chat, device)  # both warm
    taken: dict[str, list[tuple[float, int]]] = {label: [] for label in runs}
    for _ in range(rounds):
        for label, run in runs.items():
            taken[label].append(run())
    best_of_trl = max(tokens / _median(each) for label, each in taken.items() if label.startswith("TRL"))
    return [
        {
            "model": name,
            "trainer": label,
            "seconds": round(_median(each), 2),
            "tokens_per_s": round(tokens / _median(each)),
            "beside_best_TRL": round(tokens / _median(each) / best_of_trl, 2),
            "computed": each[0][1],
        }
        for label, each in taken.items()
    ]


def _median(taken: Sequence[tuple[float, int]]) -> float:
    return statistics.median(seconds for seconds, _ in taken)


# ---------------------------------------------------------------- the two trainers


def _ours(model: Any, plan: Plan, rows: Sequence[Row], device: str, shared: int | None = None) -> tuple[float, int]:
    from accelerate import Accelerator

    from apprentice.training.adapters.loop import Training
    from apprentice.training.adapters.model import attach

    settings = plan.settings
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no" if device == "cpu" else "bf16")
    training = Training(plan, rows, [], attach(model.to(device), settings), accelerator)
    training.shared = training.shared if shared is None else shared
    progress, _, _ = training.run(lambda fraction, text: None)
    batches = [rows[at : at + settings.batch_size] for at in range(0, len(rows), settings.batch_size)]
    layouts = (
        lay_out(
            batch,
            shared=training.shared,
            length_max=settings.max_length,
            packing=settings.packing,
            width=model.config.hidden_size,
        )
        for batch in batches
    )
    return progress.seconds, sum(layout.tokens for layout in layouts)


def _trl(model: Any, plan: Plan, examples: Sequence[Example], chat: Chat, device: str) -> tuple[float, int]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from apprentice.local.chat import messages, target
    from apprentice.training.adapters.model import attach

    settings = plan.settings
    data = Dataset.from_list(
        [
            {
                "prompt": messages(plan.question(row.input)),
                "completion": [{"role": "assistant", "content": target(row.output, plan.job.output_schema)}],
            }
            for row in examples
        ]
    )
    # A packed sequence holds about as many tokens as a padded batch, so that both take equally many steps.
    batch = max(1, settings.batch_size * 178 // settings.max_length) if settings.packing else settings.batch_size
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=attach(model.to(device), settings),
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=batch,
                num_train_epochs=settings.epochs,
                learning_rate=settings.learning_rate,
                lr_scheduler_type="cosine",
                gradient_checkpointing=settings.gradient_checkpointing,
                packing=settings.packing,
                max_length=settings.max_length,
                bf16=device != "cpu",
                use_cpu=device == "cpu",
                seed=_SEED,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                dataloader_pin_memory=device != "cpu",
            ),
            train_dataset=data,
            processing_class=chat.tokenizer,
        )
        start = time.perf_counter()
        trainer.train()
        return time.perf_counter() - start, 0


# ---------------------------------------------------------------- models and data


def _plan(base: str, **settings: Any) -> Plan:
    job = TrainingJob(
        job="benchmark",
        task=tiny_llama.TASK,
        version="tickets@v1",
        parent=None,
        parent_folder=None,
        folder="",
        train_file="",
        calibration_file="",
        output_schema=tiny_llama.SCHEMA,
        match_fields=(),
        seed=_SEED,
        description=tiny_llama.DESCRIPTION,
    )
    told = {"rank": 8, "epochs": 1, "gradient_checkpointing": False, **settings}
    return Plan(job=job, settings=Settings(base_model=base, **told), work="")


def _rows(plan: Plan, examples: Sequence[Example]) -> tuple[Chat, list[Row]]:
    from apprentice.training.adapters.rows import load_tokenizer

    chat = Chat(load_tokenizer(plan.settings), plan)
    rows, _ = encode(examples, chat, plan)
    return chat, rows


def _load(base: str) -> Any:
    from apprentice.training.adapters.model import load_base

    return load_base(Settings(base_model=base), device="cpu")


def _random_llama(**shape: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(_SEED)
    return LlamaForCausalLM(LlamaConfig(vocab_size=768, max_position_embeddings=4096, pad_token_id=3, **shape))


def _random_qwen(**shape: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(_SEED)
    config = Qwen2Config(
        vocab_size=151_936, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=32_768, **shape
    )
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")


def _layer_weights(shape: dict[str, int]) -> float:
    """Weights of the layers' matrices of a Qwen with two heads for keys and values."""
    hidden, heads, inner = shape["hidden_size"], shape["num_attention_heads"], shape["intermediate_size"]
    attention = 2 * hidden * hidden + 2 * hidden * (2 * hidden // heads)
    return float(shape["num_hidden_layers"] * (attention + 3 * hidden * inner))


def _bf16_rate(size: int = 8192, times: int = 20) -> float:
    """Floating-point operations per second of a large bf16 matrix product."""
    import torch

    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        left @ left
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        left @ left
    torch.cuda.synchronize()
    return times * 2.0 * size**3 / (time.perf_counter() - start)


def _merged(base: str) -> float:
    """Largest difference of a logit between an adapter beside the base and one merged into it, in float32."""
    import torch

    from apprentice.training.adapters.model import attach

    plan = _plan(base)
    _, rows = _rows(plan, tiny_llama.examples(8, seed=4))
    torch.manual_seed(_SEED)
    model = attach(_load(base), plan.settings).eval()
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    with torch.no_grad():
        asked = [torch.tensor([row.prompt]) for row in rows]
        apart = [model(input_ids=ids).logits for ids in asked]
        merged = model.merge_and_unload()
        return max(
            float((one - merged(input_ids=ids).logits).abs().max()) for one, ids in zip(apart, asked, strict=True)
        )
