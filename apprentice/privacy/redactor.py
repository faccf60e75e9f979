"""Placeholders for personal data: put in on the way out, taken back on the way in.

A value is named by its kind and the order of its first appearance (``[EMAIL_1]``), keys of objects in sorted order, so
that an input becomes the same text whenever and wherever it is redacted: what a student learned from is what it is
asked. A placeholder that already stands in the text is never given out, so putting back restores exactly.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from apprentice.privacy.spans import Recogniser, RedactionFailed, Span, merged


class Redactor:
    """What is personal in the texts of one task."""

    def __init__(self, recognisers: Sequence[Recogniser]) -> None:
        self._recognisers = tuple(recognisers)

    def begin(self) -> "Pseudonyms":
        """Placeholders for one request, or for one row of a dataset."""
        return Pseudonyms(self._find)

    def _find(self, text: str) -> list[Span]:
        found: list[Span] = []
        for recogniser in self._recognisers:
            try:
                found += recogniser.spans(text)
            except Exception as error:
                name = type(recogniser).__name__
                raise RedactionFailed(
                    f"{name} failed on a text of {len(text)} characters with {type(error).__name__}; mend or replace "
                    "it (privacy.redact in the configuration); until then nothing is sent"
                ) from None
        return found


class Pseudonyms:
    """The placeholders of one request. Values keep theirs through every call of :meth:`redact`."""

    def __init__(self, find: Callable[[str], list[Span]]) -> None:
        self._find = find
        self._names: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def redact[T](self, value: T) -> T:
        """``value`` with the personal data in its strings replaced; keys and numbers stay.

        A value found in one place is replaced wherever else it stands in ``value``. Raises :class:`RedactionFailed`.
        """
        texts = list(_strings(value))
        found = {text: merged(self._find(text)) for text in dict.fromkeys(texts)}
        taken = "\0".join(texts)
        for text in texts:
            for span in found[text]:
                self._name(text[span.start : span.end], span.entity, taken)
        if not self._names:
            return value
        known = _any_of(self._names)
        done: dict[str, str] = {}
        for text, spans in found.items():
            again = (
                Span(match.start(), match.end(), _entity(self._names[match.group()])) for match in known.finditer(text)
            )
            done[text] = self._replaced(text, merged([*spans, *again]), taken)
        changed: T = _mapped(value, done.__getitem__)
        return changed

    def restore[T](self, value: T) -> T:
        """``value`` with the placeholders in its strings replaced by what they stand for."""
        if not self._values:
            return value
        known = _any_of(self._values)
        restored: T = _mapped(value, lambda text: known.sub(lambda match: self._values[match.group()], text))
        return restored

    def _replaced(self, text: str, spans: Sequence[Span], taken: str) -> str:
        pieces, at = [], 0
        for span in spans:
            pieces += [text[at : span.start], self._name(text[span.start : span.end], span.entity, taken)]
            at = span.end
        return "".join([*pieces, text[at:]])

    def _name(self, value: str, entity: str, taken: str) -> str:
        if value in self._names:
            return self._names[value]
        name = ""
        while not name or name in taken or name in self._values:
            self._counts[entity] = self._counts.get(entity, 0) + 1
            name = f"[{entity}_{self._counts[entity]}]"
        self._names[value], self._values[name] = name, value
        return name


def _entity(name: str) -> str:
    return name[1:-1].rpartition("_")[0]


def _any_of(texts: dict[str, str]) -> re.Pattern[str]:
    """Any of the texts, the longest first."""
    return re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))


def _is_file(text: str) -> bool:
    """Whether a string is the content of a file, such as an image: changed anywhere, it would be broken."""
    return text.startswith("data:") and ";base64," in text[:200]


def _is_content(value: dict[str, Any], key: str) -> bool:
    """The same for a file that is given as an object."""
    return key == "data" and value.keys() == {"media_type", "data"}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if not _is_file(value):
            yield value
    elif isinstance(value, dict):
        for key in sorted(value):
            if not _is_content(value, key):
                yield from _strings(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if _is_file(value) else change(value)
    if isinstance(value, dict):
        return {key: item if _is_content(value, key) else _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value
