"""The loss curves that trainers leave in ``metrics.json`` beside a version, in whichever of the usual forms."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

METRICS = "metrics.json"
_CURVES = {"loss": "training", "train_loss": "training", "eval_loss": "evaluation"}
_LISTS = ("log_history", "history", "steps")

type Curve = list[tuple[float, float]]
"""(step, loss) in the order of the steps."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """The curves of a version by name (``training``, ``evaluation``); none where the file is missing or has none."""
    try:
        content = msgspec.json.decode((folder / METRICS).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    found: dict[str, Curve] = {}
    for name, step, value in _points(content):
        found.setdefault(name, []).append((step, value))
    return {name: sorted(curve) for name, curve in found.items() if len(curve) > 1}


def _points(content: Any) -> Iterator[tuple[str, float, float]]:
    """Either lists of losses by name, or a list of entries that hold a step and some losses."""
    if isinstance(content, Mapping):
        for key, name in _CURVES.items():
            if isinstance(content.get(key), list):
                yield from _listed(name, content[key], key)
        for key in _LISTS:
            if isinstance(content.get(key), list):
                yield from _points(content[key])
    elif isinstance(content, list):
        for at, entry in enumerate(content):
            if isinstance(entry, Mapping):
                for key, name in _CURVES.items():
                    yield from _point(name, entry.get("step", at), entry.get(key))


def _listed(name: str, values: list[Any], key: str) -> Iterator[tuple[str, float, float]]:
    for at, value in enumerate(values, 1):
        if isinstance(value, Mapping):
            yield from _point(name, value.get("step", at), value.get(key, value.get("loss")))
        elif isinstance(value, list) and len(value) == 2:
            yield from _point(name, value[0], value[1])
        else:
            yield from _point(name, at, value)


def _point(name: str, step: Any, value: Any) -> Iterator[tuple[str, float, float]]:
    if all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in (step, value)):
        yield name, float(step), float(value)
