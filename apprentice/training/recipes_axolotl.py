"""Axolotl: a configuration file made from a recipe, and what its output says.

The rows are tokenized already, so that Axolotl's own templates play no part. It cannot be told a time: a training that
runs into its time cap is stopped and leaves no version; one that was interrupted begins anew.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from apprentice.training.adapters.plan import Reply
from apprentice.training.recipes_settings import CHECKPOINTS_KEPT, RECIPE, Recipe

CONFIGURATION = "axolotl.yml"
MODULE = "axolotl.cli.train"
_LOSS = re.compile(r"""['"]loss['"]: ['"]?([0-9][0-9.eE+-]*)""")


def configuration(recipe: Recipe, *, flash: bool) -> dict[str, Any]:
    """The content of the configuration. ``flash`` says whether FlashAttention is there."""
    config: dict[str, Any] = {
        "base_model": recipe.base_model,
        "adapter": "qlora" if recipe.four_bit else "lora",
        "load_in_4bit": recipe.four_bit,
        "lora_r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": recipe.dropout,
        **_targets(recipe),
        "datasets": [_dataset(recipe.tokens)],
        "dataset_prepared_path": f"{recipe.work}/prepared",
        "output_dir": recipe.work,
        "sequence_len": recipe.max_length,
        "sample_packing": recipe.packing,
        "attn_implementation": "flash_attention_2" if flash else "sdpa",
        "micro_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation,
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "num_epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler": "cosine",
        "warmup_steps": recipe.warm_up_steps,
        "optimizer": "adamw_torch",
        "seed": recipe.seed,
        "logging_steps": 1,
        "save_total_limit": CHECKPOINTS_KEPT,
        **_precision(recipe),
    }
    if recipe.max_steps is not None:
        config["max_steps"] = recipe.max_steps
    if recipe.parent is not None:
        config["lora_model_dir"] = recipe.parent
    if not recipe.gpus:  # its fused kernels, which it would choose by itself, are written for GPUs
        config |= {"lora_mlp_kernel": False, "lora_qkv_kernel": False, "lora_o_kernel": False}
    return config | _evaluation(recipe)


def written(recipe: Recipe, *, flash: bool) -> str:
    """The configuration as YAML."""
    return yaml.safe_dump(configuration(recipe, flash=flash), sort_keys=False, allow_unicode=True)


class Listener:
    """Makes progress of the losses that Axolotl logs, one for each step. ``work`` is the job's work folder."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._steps = 0
        self._step = 0

    def __call__(self, line: str) -> Reply | None:
        """What a line means; None for a line of the log."""
        found = _LOSS.search(line)
        if found is None:
            return None
        self._steps = self._steps or Recipe.read(self._work / RECIPE).steps
        self._step += 1
        text = f"step {self._step} of {max(self._step, self._steps)}, loss {float(found[1]):.3g}"
        return Reply(progress=(min(1.0, self._step / self._steps), text))


def _targets(recipe: Recipe) -> dict[str, Any]:
    targets = recipe.targets
    return {"lora_target_linear": True} if isinstance(targets, str) else {"lora_target_modules": targets}


def _dataset(path: str) -> dict[str, str]:
    return {"path": path, "ds_type": "json", "split": "train"}


def _precision(recipe: Recipe) -> dict[str, Any]:
    match recipe.dtype:
        case "auto":
            return {"bf16": "auto"}
        case "bfloat16":
            return {"bf16": True}
        case "float16":
            return {"bf16": False, "fp16": True}
        case "float32":
            return {"bf16": False, "fp16": False, "tf32": False}


def _evaluation(recipe: Recipe) -> dict[str, Any]:
    if recipe.held_back is None:
        return {"save_steps": recipe.save_steps, "val_set_size": 0.0}
    return {
        "test_datasets": [_dataset(recipe.held_back)],
        "eval_sample_packing": False,
        "eval_steps": recipe.evaluate_steps,
        "save_steps": recipe.evaluate_steps,
        "early_stopping_patience": recipe.early_stopping,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }
