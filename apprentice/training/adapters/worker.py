"""One process of a training: ``python -m apprentice.training.adapters.worker PLAN``, under ``accelerate launch``."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from apprentice.training.adapters.checkpoint import Progress
from apprentice.training.adapters.finish import Course, finish
from apprentice.training.adapters.loop import Ending, Told, Training
from apprentice.training.adapters.measure import measure
from apprentice.training.adapters.model import (
    attach,
    continue_from,
    for_answering,
    load_base,
    precision,
    put_weights,
    write_adapter,
)
from apprentice.training.adapters.plan import Done, Plan
from apprentice.training.adapters.rows import Chat, encode, load_tokenizer, split
from apprentice.training.adapters.talk import serve
from apprentice.training.worker import read_examples, refuse_leak

_LOADED, _TRAINED, _MEASURED = 0.05, 0.85, 0.98
"""How far a job is, as a fraction, after loading, training and measuring."""


def main(plan: Plan, told: Told) -> Done | None:
    """Train, and in the first process measure and write the version."""
    told(0.0, "reading the examples")
    settings = plan.settings
    examples = read_examples(Path(plan.job.train_file))
    refuse_leak(examples, read_examples(Path(plan.job.calibration_file)))
    chat = Chat(load_tokenizer(settings), plan)
    rows, too_long = encode(examples, chat, plan)
    accelerator = _accelerator(plan)
    told(0.02, f"loading {settings.base_model}")
    base = load_base(settings, device=accelerator.device)
    torch.manual_seed(plan.job.seed)
    adapted = attach(base, settings)
    scratch = continue_from(adapted, plan)
    kept, slice_ = split(rows, plan.job.seed) if settings.early_stopping else (rows, [])
    training = Training(plan, kept, slice_, adapted, accelerator)
    resumed = training.resume()
    told(_LOADED, _opening(plan, scratch, resumed))
    progress, ending, weights = training.run(
        lambda fraction, text: told(_LOADED + fraction * (_TRAINED - _LOADED), text)
    )
    in_pieces, first = training.in_pieces, accelerator.is_main_process
    del training
    accelerator.free_memory()
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        torch.distributed.destroy_process_group()
    if not first:
        return None
    adapter = Path(plan.work) / "adapter"
    write_adapter(adapted, weights, adapter)
    if in_pieces:
        adapted = attach(load_base(settings, device=accelerator.device), settings)
    put_weights(adapted, weights)
    card, measured = measure(
        for_answering(adapted),
        chat,
        plan,
        lambda fraction, text: told(_TRAINED + fraction * (_MEASURED - _TRAINED), text),
    )
    told(_MEASURED, "writing the version")
    counts = {
        "rows_train": float(len(rows)),
        "rows_watched": float(len(slice_)),
        "rows_too_long": float(too_long),
        "continued": float(plan.job.parent is not None and settings.continue_from_parent and scratch is None),
        "processes": float(plan.processes),
    }
    return finish(plan, adapter, card, _course(progress, ending, scratch, counts), measured)


def _accelerator(plan: Plan) -> Any:
    # A configuration of the user's decides itself about the number format.
    mixed = None if plan.settings.accelerate_config else precision(plan.settings, cuda=bool(plan.job.devices))
    return Accelerator(
        cpu=not plan.job.devices,
        mixed_precision=mixed,
        gradient_accumulation_steps=plan.settings.gradient_accumulation,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=plan.settings.stuck_after_s)),
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
        ],
    )


def _opening(plan: Plan, scratch: str | None, resumed: int) -> str:
    if resumed:
        return f"going on from step {resumed}"
    if scratch is not None:
        return f"training from scratch: {scratch}"
    continued = plan.job.parent is not None and plan.settings.continue_from_parent
    return f"continuing from {plan.job.parent}" if continued else "training"


def _course(progress: Progress, ending: Ending, scratch: str | None, counts: dict[str, float]) -> Course:
    words = {"ended_by": ending, **({"from_scratch": scratch} if scratch is not None else {})}
    return Course(
        seed=progress.seed,
        losses=progress.losses,
        evaluations=progress.evaluations,
        counts={
            **counts,
            "steps": float(progress.step),
            "best_step": float(progress.best_step if progress.best_step is not None else progress.step),
            "tokens": float(progress.tokens),
        },
        speeds={
            "training_seconds": progress.seconds,
            "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
        },
        words=words,
    )


if __name__ == "__main__":
    serve(main)
