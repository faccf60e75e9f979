"""Reading YAML the way people mean it, with the line of every key.

Beside PyYAML's safe loader: only ``true`` and ``false`` are booleans (a choice called ``no`` stays text, as YAML 1.2
has it), dates and ``12:30`` stay text, ``1e-3`` is a number, keys are always text, and one given twice is a problem.
"""

import re
from typing import Any, NamedTuple

import yaml

from apprentice.config.types import Where

_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class Document(NamedTuple):
    """What a file says, where it says it (path to line number, from 1), and what is wrong already."""

    content: Any
    lines: dict[Where, int]
    problems: list[str]


class _Loader(yaml.SafeLoader):
    """The safe loader with the resolvers below."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("merge", r"^(?:<<)$", "<"),
):
    _chars: list[str] = ["" if char == "\0" else char for char in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _chars)


def read(text: str) -> Document:
    """Parse one YAML document. Syntax errors come back as a problem with line and column, never as an exception."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(None, {}, [])
        lines: dict[Where, int] = {}
        problems: list[str] = []
        _walk(node, (), lines, problems)
        return Document(loader.construct_document(node), lines, problems)
    except yaml.YAMLError as error:
        return Document(None, {}, [_syntax(error)])
    except RecursionError:
        return Document(None, {}, ["the YAML is nested too deeply to read; flatten it"])
    except ValueError as error:
        return Document(None, {}, [f"the YAML holds a value that cannot be read: {error}; put it in quotes"])
    finally:
        if loader is not None:
            loader.dispose()


def spell(where: Where) -> str:
    """A path as in ``tasks[0].budget.daily``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")


def _walk(node: yaml.Node, where: Where, lines: dict[Where, int], problems: list[str]) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*where, index)] = item.start_mark.line + 1
            _walk(item, (*where, index), lines, problems)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
            name = str(key.value)
            below = (*where, name)
            line = key.start_mark.line + 1
            if name in seen and key.tag != _MERGE:
                problems.append(f"{spell(below)} (line {line}): given already on line {lines[below]}; keep one")
                continue
            seen.add(name)
            lines[below] = line
            _walk(value, below, lines, problems)


def _syntax(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    text = getattr(error, "problem", None) or str(error).splitlines()[0]
    advice = "quote text that contains any of : # [ ] { } ,"
    if "'\\t'" in text:
        advice = "indent with spaces, not tabs"
    return f"{place}not valid YAML: {text}; {advice}"
