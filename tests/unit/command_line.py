"""Running the command line in the process of a test."""

from collections.abc import Callable
from typing import NamedTuple


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


type Run = Callable[..., Ran]


def assert_refused(ran: Ran, *parts: str) -> None:
    """One clear message on standard error, nothing on standard output, no traceback, exit code 1."""
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err.replace("\n", " ")
