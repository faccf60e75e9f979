"""The base model and the adapter on it: loading, continuing from a parent, writing. Safetensors and nothing else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from apprentice.training.adapters.plan import CONFIG, WEIGHTS, Plan, Settings
from apprentice.training.versions import VersionError, check_manifest
from apprentice.training.worker import Refused

type Tensors = dict[str, Any]


def precision(settings: Settings, *, cuda: bool) -> Literal["no", "bf16", "fp16"]:
    """The number format of the computation: bf16 where the hardware has it, float32 on a CPU unless asked for."""
    if settings.dtype == "bfloat16":
        return "bf16"
    if settings.dtype == "float32" or not cuda:
        return "no"
    if settings.dtype == "float16" or not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16"
    return "bf16"


def load_base(settings: Settings, *, device: Any) -> Any:
    """The base model on ``device``, frozen. Raises :class:`Refused`."""
    options: dict[str, Any] = {"dtype": _storage(settings, device), "attn_implementation": "sdpa"}
    if settings.quantization == "4bit":
        options |= {"quantization_config": _four_bits(device), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            settings.base_model, local_files_only=settings.local, use_safetensors=True, **options
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise Refused(
            f"the base model {settings.base_model} cannot be loaded: {error}; it has to be a causal language model "
            "with its weights in safetensors"
        ) from error
    model.generation_config = GenerationConfig()  # its own may sample or punish repetition
    return model if settings.quantization == "4bit" else model.to(device)


def _storage(settings: Settings, device: Any) -> Any:
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    formats = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return formats[precision(settings, cuda=torch.device(device).type == "cuda")]


def _four_bits(device: Any) -> Any:
    import importlib.util

    if torch.device(device).type != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        raise Refused(
            "quantization: 4bit needs a CUDA GPU and the package bitsandbytes (pip install bitsandbytes); "
            "give the job a GPU in local.training.gpus, or write quantization: none"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16,
    )


def attach(model: Any, settings: Settings) -> Any:
    """A fresh adapter on the base model, its weights in float32. Raises :class:`Refused` where no layer is named so."""
    if settings.quantization == "4bit":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    whole = settings.target_modules == ("all-linear",)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.scale,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if whole else list(settings.target_modules),
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise Refused(f"local.training.target_modules does not fit {settings.base_model}: {error}") from error
    if settings.gradient_checkpointing:
        _recompute(adapted, "enable", {"use_reentrant": False})
    adapted.config.use_cache = False
    return adapted.train()


def for_answering(adapted: Any) -> Any:
    """The model as it answers: nothing computed twice, keys and values remembered."""
    _recompute(adapted, "disable")
    adapted.config.use_cache = True
    return adapted.eval()


def _recompute(adapted: Any, switch: str, *options: Any) -> None:
    """Gradient checkpointing, which transformers renames."""
    method = getattr(adapted, f"activation_checkpointing_{switch}", None)
    (method or getattr(adapted, f"gradient_checkpointing_{switch}"))(*options)


def continue_from(adapted: Any, plan: Plan) -> str | None:
    """Start from the parent's adapter; returns why not, in words, where it does not fit. Raises :class:`Refused`."""
    job = plan.job
    if job.parent is None or job.parent_folder is None or not plan.settings.continue_from_parent:
        return None
    folder = Path(job.parent_folder)
    try:
        manifest = check_manifest(folder)
    except VersionError as error:
        raise Refused(f"the parent {job.parent} cannot be read: {error}") from error
    if manifest.base != plan.settings.base_model:
        return f"{job.parent} is an adapter of {manifest.base}"
    if not (folder / WEIGHTS).is_file():
        return f"{job.parent} has no {WEIGHTS}"
    theirs, ours = json.loads((folder / CONFIG).read_text(encoding="utf-8")), _config(adapted)
    theirs["target_modules"] = sorted(theirs.get("target_modules") or ())
    for name in ("r", "lora_alpha", "target_modules"):
        if theirs.get(name) != ours[name]:
            return f"{job.parent} has another {name}"
    put_weights(adapted, load_file(folder / WEIGHTS))
    return None


def adapter_weights(adapted: Any, state: Mapping[str, Any] | None = None) -> Tensors:
    """A copy of the adapter's weights in the CPU's memory; from ``state`` where the model itself is in pieces."""
    found = get_peft_model_state_dict(adapted, state_dict=state)
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()}


def put_weights(adapted: Any, weights: Tensors) -> None:
    """Set the adapter's weights. Raises :class:`Refused` where they are another model's."""
    result = set_peft_model_state_dict(adapted, weights)
    if result.unexpected_keys or any("lora_" in name for name in result.missing_keys):
        raise Refused("an adapter does not fit the base model: was the model exchanged? Train from scratch")


def write_adapter(adapted: Any, weights: Tensors, folder: Path) -> None:
    """The adapter in the form of peft."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(_config(adapted)), encoding="utf-8")


def _config(adapted: Any) -> dict[str, Any]:
    config = adapted.peft_config["default"].to_dict()
    told: dict[str, Any] = json.loads(json.dumps(config, default=lambda value: sorted(value)))
    return {**told, "target_modules": sorted(told["target_modules"])}
