"""Where an interrupted training goes on: the adapter, the optimizer's moments and what was measured so far.

Every step draws its chance from the seed and its own number, so a training that was resumed gives the same weights as
one that was not.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from apprentice.training.adapters.model import Tensors

FOLDER = "checkpoint"
STATE = "state.json"
_ADAPTER, _BEST, _MOMENTS = "adapter.safetensors", "best.safetensors", "moments.safetensors"


class Point(msgspec.Struct, frozen=True):
    """A loss. ``step`` counts the optimizer steps done before it was measured."""

    step: int
    loss: float
    learning_rate: float | None = None


class Progress(msgspec.Struct, kw_only=True):
    """How far a training is."""

    seed: int
    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    """Tokens of the examples that were trained on, each as often as it was."""
    losses: list[Point] = msgspec.field(default_factory=list)
    evaluations: list[Point] = msgspec.field(default_factory=list)
    best_step: int | None = None
    worse: int = 0
    """Evaluations since the best one."""


def save(work: Path, progress: Progress, adapter: Tensors, best: Tensors | None, moments: Tensors) -> None:
    """Replace the checkpoint of a job; at every moment there is a whole one, or none."""
    partial, old = work / f"{FOLDER}.partial", work / f"{FOLDER}.old"
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, tensors in ((_ADAPTER, adapter), (_BEST, best or {}), (_MOMENTS, moments)):
        save_file(tensors, partial / name)
    (partial / STATE).write_bytes(msgspec.json.encode(progress))
    if (work / FOLDER).exists():
        (work / FOLDER).rename(old)
    partial.rename(work / FOLDER)
    shutil.rmtree(old, ignore_errors=True)


def load(work: Path) -> tuple[Progress, Tensors, Tensors | None, Tensors] | None:
    """The checkpoint of a job, if there is one."""
    folder = next((work / name for name in (FOLDER, f"{FOLDER}.old") if (work / name / STATE).is_file()), None)
    if folder is None:
        return None
    progress = msgspec.json.decode((folder / STATE).read_bytes(), type=Progress)
    adapter, best, moments = (load_file(folder / name) for name in (_ADAPTER, _BEST, _MOMENTS))
    return progress, adapter, best or None, moments


def moments_of(optimizer: Any, names: list[str]) -> Tensors:
    """AdamW's moments and step counts, by the names of its parameters."""
    found: Tensors = {}
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}|{key}"] = torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
    return found


def put_moments(optimizer: Any, names: list[str], moments: Tensors) -> None:
    """Give them back."""
    for name, parameter in zip(names, optimizer.param_groups[0]["params"], strict=True):
        entry = {key.rpartition("|")[2]: value for key, value in moments.items() if key.rpartition("|")[0] == name}
        if entry:
            optimizer.state[parameter] = {
                key: value.to(parameter.device) if key != "step" else value for key, value in entry.items()
            }
