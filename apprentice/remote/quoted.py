"""Request bodies between quote and call: a question is written down once, to be priced and then to be sent.

Besides the time, this makes the bytes that were quoted the bytes that are sent, whatever the caller does to its input
meanwhile.
"""

from collections import OrderedDict
from collections.abc import Callable

from apprentice_actors.ports import Question

KEPT_MAX = 256
KEPT_MAX_BYTES = 16 * 1024
"""Longer bodies, such as those with images, are written again: a quote may never be followed by a call."""


class QuotedBodies:
    """Bodies of quoted questions, the newest ones, each until it is asked for. Questions count as the same object."""

    def __init__(self, encode: Callable[[Question], bytes]) -> None:
        self._encode = encode
        self._kept: OrderedDict[int, tuple[Question, bytes]] = OrderedDict()  # holds the question: ids are not reused

    def for_quote(self, question: Question) -> bytes:
        """Write the question down and keep the body for the call. Raises what encoding raises."""
        body = self._encode(question)
        if len(body) <= KEPT_MAX_BYTES:
            self._kept[id(question)] = (question, body)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return body

    def for_call(self, question: Question) -> bytes:
        """The body that was quoted, else a new one."""
        kept = self._kept.pop(id(question), None)
        return kept[1] if kept is not None else self._encode(question)
