"""``custom``: a function of the user's own."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from apprentice.evaluators.base import EvaluatorError, place_of
from apprentice_actors.ports import JsonObject, Question

type ScoreFunction = Callable[[JsonObject, JsonObject, JsonObject], Any]
"""``(local, remote, input)`` → a number in [0, 1] or a bool, or an awaitable of one."""


class Custom:
    """Asks a function. It runs on the event loop: what takes long should be ``async`` and give way.

    It is not asked where a side is missing: that scores 0 here as everywhere.
    """

    name = "custom"

    def __init__(self, function: ScoreFunction, dotted: str) -> None:
        self._function = function
        self._dotted = dotted

    async def score(self, local: JsonObject | None, remote: JsonObject | None, question: Question) -> float:
        """Raises :class:`EvaluatorError` where the function raises or its result is not a score."""
        if local is None or remote is None:
            return 0.0
        try:
            result = self._function(local, remote, question.input)
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:
            text = f"the custom evaluator {self._dotted} raised {place_of(error)}; correct the function"
            raise EvaluatorError(text) from error
        return self._checked(result)

    def _checked(self, result: Any) -> float:
        wanted = f"the custom evaluator {self._dotted} must return a number from 0 to 1 or a bool"
        if result is None or isinstance(result, str | bytes):
            raise EvaluatorError(f"{wanted}, and returned {'nothing' if result is None else 'text'}")
        try:
            score = float(result)
        except (TypeError, ValueError):
            raise EvaluatorError(f"{wanted}, and returned a {type(result).__name__}") from None
        if not 0.0 <= score <= 1.0:
            raise EvaluatorError(f"{wanted}, and returned {score}")
        return score


def find_function(dotted: str) -> ScoreFunction:
    """Import ``package.module:function`` (or with a dot). Raises :class:`EvaluatorError` saying what is missing."""
    module_name, _, name = dotted.rpartition(":" if ":" in dotted else ".")
    try:
        module = import_module(module_name)
    except Exception as error:
        text = f"{dotted}: the module `{module_name}` cannot be imported ({type(error).__name__}: {error})"
        raise EvaluatorError(f"{text}; install it or put its folder on PYTHONPATH") from error
    function = getattr(module, name, None)
    if not callable(function):
        state = "has no" if function is None else "has something that is not a function under"
        raise EvaluatorError(f"{dotted}: the module `{module_name}` {state} `{name}`; correct evaluator_function")
    found: ScoreFunction = function
    return found
