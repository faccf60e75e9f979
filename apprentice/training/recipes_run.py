"""What the training scripts of the recipes have in common: rows, number formats, the time cap, progress, the result.

Runs in the trainer's subprocess, where torch and transformers are imported.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from apprentice.training.recipes_settings import LINE, Recipe

ADAPTER, HISTORY = "adapter", "history.json"
"""What a script leaves in the work folder: the finished adapter, and what was logged on the way."""


def tell(fraction: float, message: str) -> None:
    """Report progress to the trainer."""
    print(f"{LINE}{json.dumps([fraction, message])}", flush=True)  # noqa: T201  # the trainer listens


def dataset(path: str, columns: tuple[str, ...]) -> Any:
    """Tokenized rows as a ``datasets.Dataset``."""
    from datasets import Dataset

    rows = [json.loads(line) for line in Path(path).read_bytes().splitlines()]
    return Dataset.from_dict({name: [row[name] for row in rows] for name in columns})


def number_format(recipe: Recipe) -> str:
    """The name of the base model's number format: what is asked for, or the best one that the hardware computes in."""
    import torch

    if recipe.dtype != "auto":
        return recipe.dtype
    if not recipe.gpus:
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def device_map() -> dict[str, int]:
    """Everything on this process's own GPU."""
    return {"": int(os.environ.get("LOCAL_RANK", "0"))}


def callbacks(recipe: Recipe) -> list[Any]:
    """Progress, the time cap, early stopping: for any trainer that descends from transformers' own."""
    from transformers import EarlyStoppingCallback, TrainerCallback

    until = time.monotonic() + recipe.max_seconds

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            if time.monotonic() >= until:
                control.should_training_stop = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero and state.max_steps > 0 and "loss" in (logs or {}):
                text = f"step {state.global_step} of {state.max_steps}, loss {float(logs['loss']):.3g}"
                tell(state.global_step / state.max_steps, text)

    stopping = recipe.held_back is not None and recipe.early_stopping > 0
    return [Watch(), *([EarlyStoppingCallback(recipe.early_stopping)] if stopping else [])]


def finish(trainer: Any, recipe: Recipe) -> None:
    """Train from where an interrupted run left off, then save the adapter and the log."""
    from transformers.trainer_utils import get_last_checkpoint

    work = Path(recipe.work)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(recipe.work) if work.is_dir() else None)
    if trainer.is_world_process_zero():
        trainer.model.save_pretrained(str(work / ADAPTER), safe_serialization=True)
        history = [{name: value for name, value in each.items() if _plain(value)} for each in trainer.state.log_history]
        (work / HISTORY).write_bytes(msgspec.json.encode(history))


def _plain(value: Any) -> bool:
    return isinstance(value, int | float)
