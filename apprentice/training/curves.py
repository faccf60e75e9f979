"""The loss curves that a trainer leaves beside a version, as far as there are any.

``metrics.json`` holds ``losses`` and ``evaluations``, each a list of ``{"step": …, "loss": …}``.
"""

import math
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

METRICS = "metrics.json"
_CURVES = {"losses": "training", "evaluations": "evaluation"}

type Curve = list[tuple[float, float]]
"""(step, loss) in the order of the steps."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """The curves of a version by name (``training``, ``evaluation``); none where there is nothing to draw a line of."""
    try:
        content = msgspec.json.decode((folder / METRICS).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    found = {name: _curve(content.get(key)) for key, name in _CURVES.items()}
    return {name: curve for name, curve in found.items() if len(curve) > 1}


def _curve(entries: Any) -> Curve:
    listed = entries if isinstance(entries, list) else ()
    points = [(one.get("step"), one.get("loss")) for one in listed if isinstance(one, dict)]
    return sorted((float(step), float(loss)) for step, loss in points if _is_number(step) and _is_number(loss))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
