"""The last stage of a recipe: ``python -m apprentice.training.recipes_finish PLAN`` makes a version of an adapter.

The adapter is brought into the form in which every other backend writes it, measured, and written with its course.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from apprentice.training.adapters.checkpoint import Point
from apprentice.training.adapters.finish import Course
from apprentice.training.adapters.measure import main as measure
from apprentice.training.adapters.plan import CONFIG, WEIGHTS, Done, Plan
from apprentice.training.adapters.talk import serve
from apprentice.training.recipes_settings import ADAPTER, HISTORY, RECIPE, Recipe
from apprentice.training.worker import Refused

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def conclude(plan: Plan, told: Callable[[float, str], None]) -> Done:
    """Measure the adapter and write the version. Raises :class:`Refused` where the tool left none that can be used."""
    work = Path(plan.work)
    recipe = Recipe.read(work / RECIPE)
    run, adapter = Path(recipe.work), work / ADAPTER
    found = run / ADAPTER if (run / ADAPTER).is_dir() else run
    bring(found, adapter, plan.settings.base_model)
    course = work / "course.json"
    course.write_bytes(msgspec.json.encode(course_of(plan, recipe, _history(run))))
    done: Done = measure(plan, told, adapter, course)
    return done


def bring(found: Path, adapter: Path, base: str) -> None:
    """Copy an adapter in the common form: safetensors alone, nothing but LoRA matrices, equal ones in equal bytes."""
    from safetensors.torch import load_file, save_file

    if not (found / WEIGHTS).is_file() or not (found / CONFIG).is_file():
        raise Refused(f"the tool left no {WEIGHTS} with its {CONFIG}; adapters in other formats are not taken")
    config: dict[str, Any] = json.loads((found / CONFIG).read_text(encoding="utf-8"))
    if config.get("modules_to_save"):
        raise Refused(f"the adapter replaces whole layers ({config['modules_to_save']}), which servers do not take")
    targets = config["target_modules"]
    told = {
        **config,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "target_modules": sorted(targets) if isinstance(targets, list) else targets,
    }
    adapter.mkdir(exist_ok=True)
    save_file(load_file(found / WEIGHTS), adapter / WEIGHTS, metadata={"format": "pt"})
    (adapter / CONFIG).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def course_of(plan: Plan, recipe: Recipe, history: list[dict[str, Any]]) -> Course:
    """How the training went, from the log of transformers' trainer."""
    losses = list(_points(history, "loss"))
    evaluations = list(_points(history, "eval_loss"))
    seconds = sum(float(entry.get("train_runtime", 0.0)) for entry in history)
    steps = losses[-1].step if losses else 0
    best = min(evaluations, key=lambda point: point.loss).step if evaluations else steps
    tokens = recipe.tokens_total * steps / recipe.steps_per_epoch
    return Course(
        seed=plan.job.seed,
        losses=losses,
        evaluations=evaluations,
        counts={
            "rows_train": float(recipe.rows_in_all),
            "rows_too_long": float(recipe.rows_too_long),
            "continued": float(recipe.parent is not None),
            "processes": float(recipe.processes),
            "steps": float(steps),
            "best_step": float(best),
        },
        speeds={"training_seconds": seconds, "tokens_per_second": tokens / seconds} if seconds else {},
        words={"from_scratch": recipe.scratch} if recipe.scratch is not None else {},
    )


def _points(history: list[dict[str, Any]], name: str) -> Iterator[Point]:
    for entry in history:
        if isinstance(entry.get(name), int | float) and "step" in entry:
            rate = entry.get("learning_rate")
            rate = float(rate) if isinstance(rate, int | float) else None
            yield Point(int(entry["step"]), float(entry[name]), rate)


def _history(run: Path) -> list[dict[str, Any]]:
    """What was logged: by our scripts, else in the newest checkpoint."""
    checkpoints = [path for path in run.iterdir() if _CHECKPOINT.fullmatch(path.name)]
    newest = max(checkpoints, key=lambda path: int(path.name.rpartition("-")[2]), default=run)
    for path in (run / HISTORY, run / "trainer_state.json", newest / "trainer_state.json"):
        if path.is_file():
            history: list[dict[str, Any]] = json.loads(path.read_bytes())["log_history"]
            return history
    return []


if __name__ == "__main__":
    serve(conclude)
