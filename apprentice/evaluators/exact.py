"""``exact_match``: the whole answer is the same, or it is not."""

from apprentice.evaluators.base import same
from apprentice_actors.ports import JsonObject, Question


class ExactMatch:
    """1 where both answers are equal in every field, else 0."""

    name = "exact_match"

    async def score(self, local: JsonObject | None, remote: JsonObject | None, question: Question) -> float:
        """An answer that is missing on either side scores 0, also where both are."""
        return float(local is not None and remote is not None and same(local, remote))
