"""What the training scripts of the recipes have in common: rows, number formats, checkpoints, the time cap, the course.

Runs in the trainer's subprocess, where torch and transformers are imported. The adapter is the tool's; everything that
follows from it is made by the code that measures every adapter.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from apprentice.training.adapters.plan import Plan
from apprentice.training.adapters.schedule import TRAINING_SHARE
from apprentice.training.recipes_settings import ADAPTER, HISTORY, RECIPE, Recipe
from apprentice.training.work import STATE, state

type Told = Callable[[float, str], None]


def recipe_of(plan: Plan) -> Recipe:
    """The recipe that the stage before wrote."""
    return Recipe.read(Path(plan.work) / RECIPE)


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
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def device_map() -> dict[str, int]:
    """Everything on this process's own GPU."""
    return {"": int(os.environ.get("LOCAL_RANK", "0"))}


def callbacks(plan: Plan, recipe: Recipe, told: Told) -> list[Any]:
    """Progress, the time cap, early stopping: for any trainer that descends from transformers' own."""
    from transformers import EarlyStoppingCallback, TrainerCallback

    start, before_s = time.monotonic(), state(Path(plan.work)).get("seconds", 0.0)
    deadline = plan.ends_at - plan.settings.max_minutes * 60.0 * (1.0 - TRAINING_SHARE)

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        def on_step_end(self, args: Any, now: Any, control: Any, **kwargs: Any) -> Any:
            if time.time() >= deadline:
                control.should_training_stop = True
            return control

        def on_log(self, args: Any, now: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if now.max_steps > 0 and "loss" in (logs or {}):
                text = f"step {now.global_step} of {now.max_steps}, loss {float(logs['loss']):.3g}"
                told(now.global_step / now.max_steps, text)

        def on_save(self, args: Any, now: Any, control: Any, **kwargs: Any) -> None:
            if now.is_world_process_zero:
                _note(plan, now.global_step, before_s + time.monotonic() - start)

    stopping = recipe.held_back is not None and recipe.early_stopping > 0
    return [Watch(), *([EarlyStoppingCallback(recipe.early_stopping)] if stopping else [])]


def finish(trainer: Any, recipe: Recipe) -> None:
    """Train, from the last checkpoint if the job was interrupted; then save the adapter and the log."""
    from transformers.trainer_utils import get_last_checkpoint

    run = Path(recipe.work)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(recipe.work) if run.is_dir() else None)
    trainer.save_model(str(run / ADAPTER))
    if trainer.is_world_process_zero():
        (run / HISTORY).write_bytes(json.dumps({"log_history": trainer.state.log_history}).encode())


def _note(plan: Plan, step: int, seconds: float) -> None:
    """Write down that there is a checkpoint to go on from, for whoever asks for the same job again."""
    path = Path(plan.work) / STATE
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode({"seed": plan.job.seed, "step": step, "seconds": seconds}))
    draft.replace(path)
