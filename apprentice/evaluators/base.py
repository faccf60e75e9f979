"""What every evaluator shares: its error, and the question whether two JSON values are the same."""

from typing import Any


class EvaluatorError(Exception):
    """An evaluator gave no usable score; the message says which one and why. The caller counts a missed audit."""


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal: ``1`` equals ``1.0``, but ``true`` does not equal ``1``; lists in order."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)
