"""Versions for tests of local servers: LoRA adapters on the tiny base model, trained on the spot in seconds.

They are trained by a loop of their own, not by the product's trainer, so that servers are tested without it.
"""

import hashlib
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from apprentice.local import chat
from apprentice.local.confidence import fit
from apprentice.local.replies import Reply
from apprentice.training.versions import write_version
from apprentice_actors.ports import JsonObject, Question
from tests import tiny_llama

type Row = tuple[Question, JsonObject]

STEPS = 60
_BATCH = 8
_RANK = 8
FILES = ("adapter_model.safetensors", "adapter_config.json", "confidence.json")


def adapter(rows: Sequence[Row], *, steps: int = STEPS) -> Path:
    """A folder with an adapter that has learnt ``rows``, and its card; made once on this machine."""
    base = tiny_llama.cached_base()
    key = msgspec.json.encode([base.name, steps, [[msgspec.to_builtins(asked), out] for asked, out in rows]])
    source = Path(__file__).read_bytes()
    home = Path(tempfile.gettempdir()) / f"{base.name}-adapter-{hashlib.sha256(source + key).hexdigest()[:16]}"
    if not home.exists():
        made = Path(tempfile.mkdtemp(prefix="tiny-adapter-"))
        _train(base, made, rows, steps)
        _calibrate(base, made, rows)
        try:
            made.rename(home)
        except OSError:  # another process was faster
            if not home.exists():
                raise
    return home


def write(folder: Path, version: str, source: Path, *, base: str) -> str:
    """Write a version with the files of ``source``; returns the sha256 of its manifest."""

    def fill(into: Path) -> None:
        for name in FILES:
            (into / name).write_bytes((source / name).read_bytes())

    return write_version(
        folder,
        fill,
        version=version,
        base=base,
        parent=None,
        dataset="",
        calibration="",
        settings={},
        metrics={},
        created="2026-01-01T00:00:00+00:00",
    )


def tickets(rule: int, count: int = 160, seed: int = 1) -> list[Row]:
    """Rows of the toy task under a rule."""
    return [(tiny_llama.question(row.input), row.output) for row in tiny_llama.examples(count, seed=seed, rule=rule)]


def _train(base: Path, folder: Path, rows: Sequence[Row], steps: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    settings = LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    model.peft_config["default"].base_model_name_or_path = str(base)
    learned = [_tokens(tokenizer, asked, output) for asked, output in rows]
    chance = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, max(steps, 10), pct_start=0.1)
    model.train()
    for _ in range(steps):
        batch = [learned[chance.randrange(len(learned))] for _ in range(_BATCH)]
        width = max(len(ids) for ids, _ in batch)
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in batch])
        labels = torch.tensor([[-100] * told + row[told:] + [-100] * (width - len(row)) for row, told in batch])
        model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long(), labels=labels).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)


def _tokens(tokenizer: Any, asked: Question, output: JsonObject) -> tuple[list[int], int]:
    """The whole exchange, and how much of it is told, not learnt."""
    told = tokenizer.apply_chat_template(chat.messages(asked), tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(told, add_special_tokens=False)["input_ids"]
    answer = chat.target(output, chat.answer_schema(asked)) + tokenizer.eos_token
    return prompt + tokenizer(answer, add_special_tokens=False)["input_ids"], len(prompt)


def _calibrate(base: Path, folder: Path, rows: Sequence[Row]) -> None:
    """A card from the first rows; that they were learnt from makes it too sure, which these tests do not mind."""
    from apprentice.local.generating import Generator

    generator = Generator(str(base))
    generator.add("tickets@v1", folder)
    asked = rows[:40]
    replies = [each for at in range(0, len(asked), 8) for each in _answers(generator, asked[at : at + 8])]
    agreed = [chat.read(reply.text, row[0]) == row[1] for reply, row in zip(replies, asked, strict=True)]
    fit([reply.tokens for reply in replies], agreed, ()).save(folder)


def _answers(generator: Any, rows: Sequence[Row]) -> list[Reply]:
    found = generator.answer([asked for asked, _ in rows], "tickets@v1")
    assert all(isinstance(reply, Reply) for reply in found), found
    return list(found)


type Make = Callable[[Path, str], str]
