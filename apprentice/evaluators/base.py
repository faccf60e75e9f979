"""What every evaluator shares: its error, and the question whether two JSON values are the same."""

from pathlib import Path
from traceback import extract_tb
from typing import Any


class EvaluatorError(Exception):
    """An evaluator gave no usable score; the message says which one and why. The caller counts a missed audit."""


def place_of(error: Exception) -> str:
    """An exception's type and where it was raised, as in ``KeyError at scoring.py:12``.

    Its own text is left out, since it may hold a person's words and the reason is kept in the log; it stays with the
    exception as the cause.
    """
    frames = extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal: ``1`` equals ``1.0``, but ``true`` does not equal ``1``; lists in order."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
