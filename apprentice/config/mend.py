"""Finding every problem of a file in one go.

The models check a section as a whole only once each of its keys is right. So what is wrong is noted and put right in a
copy, and the copy is validated again, until it passes or tells nothing new.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from apprentice.config.document import section_of
from apprentice.config.models import Config
from apprentice.config.problems import explain, key_at, place_of
from apprentice.config.types import Findings, Section, Where

_ROUNDS_MAX = 4
STAND_INS: Mapping[str, Any] = {
    "tasks": [{"name": "stand_in", "description": "stand-in"}],
    "remote": {"provider": "anthropic", "model": "stand-in"},
    "tools": [{"name": "stand_in", "description": "stand-in"}],
    "name": "stand_in",
    "description": "stand-in",
    "provider": "anthropic",
    "model": "stand-in",
    "input": 1,
    "output": 1,
    "drop": 0.5,
    "within": 1,
}
"""A right value for every required key; texts get a number behind them, so that no two are the same."""


def every_problem(content: Mapping[str, Any]) -> list[tuple[Where, str]]:
    """All problems as (path, text); empty for content that :class:`Config` accepts."""
    copy = deepcopy(dict(content))
    said: dict[tuple[Where, str], None] = {}
    mended: set[Where] = set()
    for _ in range(_ROUNDS_MAX):
        try:
            Config.model_validate(copy)
            break
        except ValidationError as error:
            details = error.errors()
        told = [each for one in details for each in explain(one) if not _doubtful(one, each[0], mended)]
        said.update(dict.fromkeys(told))
        places = {where for one in details if (where := _mend(copy, one, mended)) is not None}
        if not places:
            break
        mended |= places
    return list(said)


def _doubtful(details: ErrorDetails, where: Where, mended: set[Where]) -> bool:
    """Whether a problem may only be there because of what was put right before."""
    if any(where[: len(place)] == place for place in mended):
        return True
    at = place_of(details)
    if not isinstance(details.get("ctx", {}).get("error"), Findings):
        return False
    section, field = key_at(at)
    inner = section_of(field.annotation) if field else section
    return inner is not None and any((*at, name) in mended for name in inner.compared)


def _mend(copy: dict[str, Any], details: ErrorDetails, mended: set[Where]) -> Where | None:
    """Put one thing right and say where; None where only the file as a whole is wrong."""
    where = place_of(details)
    section, field = key_at(where)
    if not where:
        return None
    inner = section_of(field.annotation) if field else None
    if field is not None and inner is None:
        where = _up_to_key(where, section)
    holder: Any = copy
    for step in where[:-1]:
        holder = holder[step]
    last = where[-1]
    together = isinstance(details.get("ctx", {}).get("error"), Findings)
    if together and inner is not None and where not in mended:
        holder[last] = {name: value for name, value in holder[last].items() if inner.model_fields[name].is_required()}
    elif isinstance(last, int):
        holder[last] = _stand_in(str(where[-2]), len(mended), whole=False)
    elif field is not None and field.is_required():
        holder[last] = _stand_in(str(last), len(mended), whole=True)
    else:
        holder.pop(last, None)
    return where


def _up_to_key(where: Where, section: type[Section]) -> Where:
    """The path up to the key of the models, without steps into its value (the items of a list, the names of a map)."""
    while where[-1] not in section.model_fields:
        where = where[:-1]
    return where


def _stand_in(key: str, number: int, *, whole: bool) -> Any:
    """A right value for a required key, or (not ``whole``) for one item of a list of sections."""
    value = STAND_INS["remote" if key == "additional_providers" else key]
    value = deepcopy(value if whole or not isinstance(value, list) else value[0])
    if isinstance(value, str) and key in ("name", "model"):
        return f"{value}_{number}"
    if isinstance(value, dict):
        return {name: _stand_in(name, number, whole=True) for name in value}
    return value
