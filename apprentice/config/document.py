"""The configuration described by its own models: for the command line, for docs/CONFIG.md and for error texts."""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from apprentice.config.models import Config
from apprentice.config.types import Section, Wants


class KeyDoc(NamedTuple):
    """One key: its path (``tasks[].name``), what it takes, its default as text (None: required), what it means."""

    path: str
    type: str
    default: str | None
    description: str


def describe() -> list[KeyDoc]:
    """Every key of the file in the order of the models, sections before their keys."""
    return list(_keys(Config, ""))


def markdown() -> str:
    """The text of docs/CONFIG.md."""
    head = [
        "# Configuration",
        "",
        "One YAML file drives everything. A key that is not listed here is refused, and so is a value that cannot be",
        "meant: all problems of a file are reported together, each with its path. Relative paths are taken from the",
        "folder of the file. `apprentice.yaml` at the root of the repository is a complete example.",
        "",
    ]
    lines: list[str] = []
    for key in describe():
        if key.path.removesuffix("[]").isidentifier():
            needed = " Required." if key.default is None else ""
            lines += ["", f"## `{key.path}`", "", f"{key.description}{needed}", ""]
            lines += ["| key | takes | default | meaning |", "|---|---|---|---|"]
            continue
        default = "required" if key.default is None else key.default
        lines.append(f"| `{key.path}` | {key.type} | {default} | {key.description} |")
    return "\n".join([*head, *lines[1:], "", *_NOTATION, ""])


_NOTATION = [
    "## Schemas",
    "",
    "`input_schema` and `output_schema` take a short notation or a whole JSON Schema (2020-12):",
    "",
    "```yaml",
    "input_schema: {text: str, metadata: dict}",
    "output_schema:",
    "  category: [billing, bug, account]           # one of these",
    "  priority: {type: int, minimum: 1, maximum: 5}",
    "  note?: str                                  # may be left out; `note: str?` says the same",
    '  tags: "list[str]"                           # or {type: list, items: str, maxItems: 5}',
    "  address: {street: str, city: str}           # a nested object",
    "```",
    "",
    "Types: `str`, `int`, `float`, `bool`, `dict`, `list`, `any`, and for inputs `image`: a `data:` or `https:` URL,",
    "or `{media_type: image/png, data: …}` with the data in base64. Constraints: `minimum`, `maximum`,",
    "`exclusiveMinimum`, `exclusiveMaximum`, `multipleOf`, `minLength`, `maxLength`, `pattern`, `items`, `minItems`,",
    "`maxItems`, `uniqueItems`, `enum`, `description`. `3.0` is an `int`, `true` is not. Words such as `yes` and `off`",
    "are text in this file, and so are dates; only `true` and `false` are booleans.",
]


def section_of(annotation: Any) -> type[Section] | None:
    """The model that an annotation stands for, through ``| None`` and tuples; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_of(part))), None)


def wanted(field: FieldInfo) -> str:
    """What a key takes, in words."""
    return next((item.text for item in field.metadata if isinstance(item, Wants)), None) or _words(field.annotation)


def _words(annotation: Any) -> str:
    plain = {str: "text", bool: "`true` or `false`", Path: "a path"}
    if annotation in plain:
        return plain[annotation]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return next((item.text for item in parts[1:] if isinstance(item, Wants)), None) or _words(parts[0])
    if origin is Literal:
        listed = [f"`{choice}`" for choice in parts]
        return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
    if origin in (Union, UnionType):
        return " or ".join(_words(part) for part in parts if part is not NoneType)
    return f"a list, each {_words(parts[0])}" if origin is tuple else "a mapping"


def _keys(model: type[Section], prefix: str) -> Iterator[KeyDoc]:
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        many = "[]" if section and get_origin(field.annotation) is tuple else ""
        path = f"{prefix}{name}{many}"
        yield KeyDoc(path, wanted(field), _default(field, section), field.description or "")
        if section:
            yield from _keys(section, f"{path}.")


def _default(field: FieldInfo, section: type[Section] | None) -> str | None:
    """The default as it would be written in YAML; empty where leaving the key out means to have none."""
    if field.is_required():
        return None
    if isinstance(field.json_schema_extra, dict) and "default_text" in field.json_schema_extra:
        return str(field.json_schema_extra["default_text"])
    value = field.default
    if section or value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        return f"./{value}/"
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)
