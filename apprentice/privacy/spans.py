"""What a recogniser finds in a text, and how findings that overlap become one."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec


class Span(msgspec.Struct, frozen=True, gc=False):
    """Characters ``start`` to ``end`` (exclusive) are personal data of the kind ``entity`` (``EMAIL``)."""

    start: int
    end: int
    entity: str


class Recogniser(Protocol):
    """Finds personal data. The same text gives the same spans, whatever came before."""

    def spans(self, text: str) -> Iterable[Span]:
        """What is found, in any order; spans may overlap. Any exception stops the request: nothing is sent."""
        ...


class RedactionFailed(Exception):
    """Personal data could not be looked for; the message holds no content."""


def merged(spans: Iterable[Span]) -> Sequence[Span]:
    """Spans in order without overlaps: those that share characters become one, of the longest one's kind.

    Joining instead of choosing means that nothing which anybody found stays readable.
    """
    found: list[Span] = []
    longest = 0
    for span in sorted(spans, key=lambda one: (one.start, -one.end, one.entity)):
        if span.start >= span.end:
            continue
        length = span.end - span.start
        if found and span.start < found[-1].end:
            last = found[-1]
            entity = span.entity if length > longest else last.entity
            longest = max(longest, length)
            found[-1] = Span(last.start, max(last.end, span.end), entity)
        else:
            found.append(span)
            longest = length
    return found
