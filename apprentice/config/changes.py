"""Keys that are set beside the file, such as ``tasks.classify_ticket.guarantee.agreement=0.95``."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from apprentice.config import yaml_file
from apprentice.config.types import Where
from apprentice.errors import CallerError
from apprentice.notation import nearest

_STEP = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")


class Change(NamedTuple):
    """A key's path as it was written, and the value to set there."""

    path: str
    value: Any


def parse(text: str) -> Change:
    """``KEY=VALUE``, the value as YAML has it. Raises :class:`CallerError`."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise CallerError(f"`{text}` sets nothing; write KEY=VALUE, such as sampling.min_floor=0.05")
    document = yaml_file.read(value)
    if document.problems:
        raise CallerError(f"the value of `{path}` cannot be read: {document.problems[0]}")
    return Change(path.strip(), document.content)


def put(content: dict[str, Any], change: Change) -> None:
    """Set the value in ``content``, making the sections on the way; a task is named where a list has its number.

    Whether the key exists and the value fits is for whoever reads the content. Raises :class:`CallerError` for a task
    or a place in a list that is not there.
    """
    where = _where(content, change.path)
    here: Any = content
    for step, following in pairwise(where):
        here = _enter(here, step, change.path, make=not isinstance(following, int))
    last = where[-1]
    if isinstance(here, list) and not (isinstance(last, int) and last < len(here)):
        raise CallerError(f"`{change.path}` leads nowhere: the list has {len(here)} entries")
    here[last] = change.value


def _enter(here: Any, step: str | int, path: str, *, make: bool) -> Any:
    if isinstance(here, list):
        if isinstance(step, int) and step < len(here):
            return here[step]
        raise CallerError(f"`{path}` leads nowhere: the list has {len(here)} entries, and [{step}] is none of them")
    if not isinstance(here.get(step), dict | list) and make:
        here[step] = {}
    found = here.get(step)
    if not isinstance(found, dict | list):
        raise CallerError(f"`{path}` leads nowhere: `{step}` is no list")
    return found


def _where(content: Mapping[str, Any], path: str) -> Where:
    steps: list[str | int] = []
    for part in path.split("."):
        fits = _STEP.fullmatch(part)
        if fits is None:
            raise CallerError(f"`{path}` is no key; write it with dots, such as tasks.classify_ticket.budget.daily")
        steps.append(fits[1])
        steps += [int(number) for number in re.findall(r"\d+", fits[2])]
    if steps[0] == "tasks" and len(steps) > 1 and isinstance(steps[1], str):
        steps[1] = _number_of(content, steps[1], path)
    return tuple(steps)


def _number_of(content: Mapping[str, Any], task: str, path: str) -> int:
    tasks = content.get("tasks")
    names = [each.get("name") if isinstance(each, Mapping) else None for each in tasks] if tasks else []
    if task in names:
        return names.index(task)
    known = [str(name) for name in names if name is not None]
    hint = nearest(task, known) or f"; there are: {', '.join(known)}"
    raise CallerError(f"`{path}`: there is no task `{task}`{hint}")
