"""Whatever a file says, it is a configuration or a list of problems, never another exception."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apprentice.config import describe, loads
from apprentice.config.mend import every_problem
from apprentice.errors import InvalidConfig

SHIPPED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "apprentice.yaml").read_text(encoding="utf-8"))
KEYS = sorted({step.removesuffix("[]") for key in describe() for step in key.path.split(".")})

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


def paths(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path of the shipped file."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path for key, below in items for path in [(*above, key), *paths(below, (*above, key))]]


PATHS = paths(SHIPPED)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(PATHS), junk, max_size=4), st.lists(st.sampled_from(KEYS), max_size=2))
@example({("tasks",): []}, ["tasks"])
@example({("tasks", 0): 1, ("remote",): {"additional_providers": [[]]}}, [])
def test_any_change_of_the_shipped_file_is_accepted_or_explained(changes, extra):
    content = copy.deepcopy(SHIPPED)
    for path, value in changes.items():
        holder: Any = content
        for step in path[:-1]:
            holder = holder[step] if _holds(holder, step) else None
        if _holds(holder, path[-1]):
            holder[path[-1]] = value
    content.update({f"{key}x": None for key in extra})
    found = every_problem(content)
    assert all(text for _, text in found)
    assert len(found) == len(set(found))
    assert {(f"{key}x",) for key in extra} <= {where for where, _ in found}, "an unknown key is always told"


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("-:[]{}#&*!|>'\"%@` \n\tab", max_size=40))
def test_any_text_is_refused_with_problems(text):
    with pytest.raises(InvalidConfig) as caught:
        loads(text)
    assert caught.value.problems


def _holds(holder: Any, step: Any) -> bool:
    if isinstance(holder, dict):
        return step in holder
    return isinstance(holder, list) and isinstance(step, int) and step < len(holder)
