"""How a local answer is scored against the remote one: one module per evaluator, chosen by the task's configuration."""

from apprentice.config import TaskConfig
from apprentice.errors import InvalidConfig
from apprentice.evaluators.base import EvaluatorError
from apprentice.evaluators.custom import Custom, find_function
from apprentice.evaluators.exact import ExactMatch
from apprentice.evaluators.fields import Fields
from apprentice.evaluators.semantic import SemanticSimilarity, TextEncoder
from apprentice.evaluators.structured import Likeness, StructuredMatch
from apprentice_actors.ports import Evaluator

__all__ = [
    "Custom",
    "EvaluatorError",
    "ExactMatch",
    "SemanticSimilarity",
    "StructuredMatch",
    "TextEncoder",
    "build",
]


def build(task: TaskConfig, encoder: TextEncoder | None = None) -> Evaluator:
    """The evaluator of a task; ``encoder`` is used by ``semantic_similarity`` alone.

    Raises :class:`InvalidConfig` where the custom function cannot be found.
    """
    fields = Fields(task.output_schema, task.match_fields, task.field_weights)
    likeness = Likeness(tolerance=task.numeric_tolerance, ignore_case=task.ignore_case)
    if task.evaluator == "exact_match":
        return ExactMatch()
    if task.evaluator == "structured_match":
        return StructuredMatch(fields, likeness)
    if task.evaluator == "semantic_similarity":
        return SemanticSimilarity(fields, likeness, encoder)
    dotted = task.evaluator_function or ""
    try:
        return Custom(find_function(dotted), dotted)
    except EvaluatorError as error:
        raise InvalidConfig([f"evaluator_function: {error}"], f"the task {task.name}") from error
