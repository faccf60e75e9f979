"""What an example counts in training: its own weight, that of its source and, if balanced, that of its answer."""

from collections import Counter
from collections.abc import Mapping, Sequence

from apprentice.remote.prompt import canonical_json
from apprentice_actors.ports import Example

BALANCE_MAX = 4.0
"""How much more an example of a rare answer may weigh than one of the most frequent answer."""


def weigh(
    examples: Sequence[Example], *, match_fields: Sequence[str], by_source: Mapping[str, float], balance: bool
) -> list[float]:
    """A weight per example, 0 or more. Answers are told apart by ``match_fields``, or whole where there are none."""
    found = [example.weight * by_source.get(example.source, 1.0) for example in examples]
    if not balance or not examples:
        return found
    answers = [_answer_key(example, match_fields) for example in examples]
    counts = Counter(answers)
    most = max(counts.values())
    return [weight * min(BALANCE_MAX, most / counts[key]) for weight, key in zip(found, answers, strict=True)]


def _answer_key(example: Example, fields: Sequence[str]) -> str:
    names = {field.partition(".")[0] for field in fields} or example.output.keys()
    return canonical_json({name: example.output[name] for name in names if name in example.output})
