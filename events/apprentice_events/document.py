"""The vocabulary as a document for readers, made from its source so that the two cannot drift apart.

``python -m apprentice_events.document > docs/EVENTS.md`` writes it anew.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator

from apprentice_events import vocabulary
from apprentice_events.vocabulary import EVENTS

_HEADER = """# Events

Every fact that the log can hold. The tag in the heading is the event's stable name in the log. A field without a
default is always there; money (`*_nd`) is in nano-dollars, durations (`*_ms`) are in milliseconds.

This page is made from `apprentice_events/vocabulary.py` by `python -m apprentice_events.document`.
"""

_SECTION = re.compile(r"^# -{3,} (?P<name>.+)$")


def events_markdown() -> str:
    """All events by section, with schema version, meaning and fields, as Markdown."""
    source = inspect.getsource(vocabulary)
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    tags = {event.__name__: tag for tag, event in EVENTS.items()}
    parts = [_HEADER]
    for line in source.splitlines():
        if section := _SECTION.match(line):
            parts.append(f"## {section['name'].strip().capitalize()}\n")
        elif (named := re.match(r"class (\w+)\(", line)) and named[1] != "Event":
            parts.append(_entry(classes[named[1]], tags.get(named[1])))
    return "\n".join(parts)


def _entry(node: ast.ClassDef, tag: str | None) -> str:
    schema = EVENTS[tag].SCHEMA if tag else None
    title = f"### {node.name} · `{tag}`" if tag else f"### {node.name} (a value inside events)"
    lines = [title, "", _flat(ast.get_docstring(node) or ""), ""]
    if schema is not None and schema > 1:
        lines += [f"Schema version {schema}.", ""]
    fields = list(_fields(node))
    return "\n".join([*lines, *fields, ""] if fields else lines)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """One line per field, with the string literal below the field as its explanation."""
    followers = [*node.body[1:], None]
    for statement, follower in zip(node.body, followers, strict=True):
        if not isinstance(statement, ast.AnnAssign) or "ClassVar" in ast.unparse(statement.annotation):
            continue
        line = f"- `{ast.unparse(statement)}`"
        match follower:
            case ast.Expr(value=ast.Constant(value=str(text))):
                line += f": {_flat(text)}"
        yield line


def _flat(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


if __name__ == "__main__":
    sys.stdout.write(events_markdown())
