"""The first stage of a recipe: ``python -m apprentice.training.recipes_rows PLAN TOOL`` makes tokens of the examples.

The base model's own chat template is applied here, by the code that trains and serves elsewhere, so that the tools get
rows with nothing left to interpret: ids, and labels on the answer's tokens and the end of the turn. Beside them it
writes the recipe and, for Axolotl, the configuration file.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from apprentice.training.adapters.packing import Row
from apprentice.training.adapters.plan import CONFIG, WEIGHTS, Done, Plan
from apprentice.training.adapters.rows import Chat, encode, load_tokenizer, split
from apprentice.training.adapters.talk import serve
from apprentice.training.recipes_axolotl import CONFIGURATION, written
from apprentice.training.recipes_settings import RECIPE, RUN, Recipe
from apprentice.training.versions import VersionError, check_manifest
from apprentice.training.worker import Refused, read_examples, refuse_leak

TOKENS, HELD_BACK = "tokens.jsonl", "held-back.jsonl"
NOT_LEARNED = -100
"""The label that every trainer of the family of transformers leaves out of the loss."""


def prepare(plan: Plan, told: Callable[[float, str], None], tool: str) -> Done | None:
    """Write rows and recipe into the work folder. Raises :class:`Refused`, ``OSError`` and ``ValueError``."""
    told(0.0, "reading the examples")
    settings, work = plan.settings, Path(plan.work)
    examples = read_examples(Path(plan.job.train_file))
    refuse_leak(examples, read_examples(Path(plan.job.calibration_file)))
    if settings.quantization == "4bit" and not (plan.job.devices and importlib.util.find_spec("bitsandbytes")):
        raise Refused("quantization: 4bit needs a GPU for the job and the package bitsandbytes; or write none")
    rows, too_long = encode(examples, Chat(load_tokenizer(settings), plan), plan)
    train, held_back = split(rows, plan.job.seed) if settings.early_stopping else (rows, [])
    _write(work / TOKENS, train)
    _write(work / HELD_BACK, held_back)
    parent, scratch = _parent(plan)
    flash = bool(plan.job.devices) and importlib.util.find_spec("flash_attn") is not None
    # Axolotl keeps packed rows apart on every card with FlashAttention alone; for Unsloth it could not be verified.
    packs = tool == "huggingface" or (tool == "axolotl" and flash)
    recipe = Recipe(
        base_model=settings.base_model,
        offline=settings.local,
        dtype=settings.dtype,
        tokens=str(work / TOKENS),
        held_back=str(work / HELD_BACK) if held_back else None,
        rows=len(train),
        rows_in_all=len(rows),
        rows_too_long=too_long,
        tokens_total=sum(row.tokens for row in train),
        work=str(work / RUN),
        parent=parent,
        scratch=scratch,
        rank=settings.rank,
        alpha=settings.scale,
        dropout=settings.dropout,
        target_modules=settings.target_modules,
        learning_rate=settings.learning_rate,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        batch_size=settings.batch_size,
        gradient_accumulation=settings.gradient_accumulation,
        gradient_checkpointing=settings.gradient_checkpointing,
        packing=settings.packing and packs,
        max_length=settings.max_length,
        four_bit=settings.quantization == "4bit",
        early_stopping=settings.early_stopping,
        save_steps=settings.save_steps,
        seed=plan.job.seed,
        processes=plan.processes,
        gpus=len(plan.job.devices),
    )
    recipe.write(work / RECIPE)
    if tool == "axolotl":
        (work / CONFIGURATION).write_text(written(recipe, flash=flash), encoding="utf-8")
    told(1.0, f"training from scratch: {scratch}" if scratch else "training")
    return None


def _parent(plan: Plan) -> tuple[str | None, str | None]:
    """The folder of the adapter to start from; or why there is none, in words, though there is a parent."""
    job, settings = plan.job, plan.settings
    if job.parent is None or job.parent_folder is None or not settings.continue_from_parent:
        return None, None
    folder = Path(job.parent_folder)
    try:
        manifest = check_manifest(folder)
    except VersionError as error:
        raise Refused(f"the parent {job.parent} cannot be read: {error}") from error
    if manifest.base != settings.base_model:
        return None, f"{job.parent} is an adapter of {manifest.base}"
    if not (folder / WEIGHTS).is_file():
        return None, f"{job.parent} has no {WEIGHTS}"
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    wanted: dict[str, Any] = {"r": settings.rank, "lora_alpha": settings.scale}
    if settings.target_modules != ("all-linear",):
        wanted["target_modules"] = sorted(settings.target_modules)
    for name, value in wanted.items():
        theirs = sorted(config[name]) if name == "target_modules" else config.get(name)
        if theirs != value:
            return None, f"{job.parent} has another {name}"
    return str(folder), None


def _write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            ids = [*row.prompt, *row.answer]
            labels = [NOT_LEARNED] * len(row.prompt) + row.answer
            file.write(json.dumps({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}) + "\n")


if __name__ == "__main__":
    serve(lambda plan, told: prepare(plan, told, sys.argv[2]))
