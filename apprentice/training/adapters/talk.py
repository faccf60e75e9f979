"""How a worker process talks to the trainer: JSON lines on standard output; standard input tells when to stop."""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from apprentice.errors import ApprenticeError
from apprentice.training.adapters.plan import Done, Plan, Reply
from apprentice.training.versions import VersionError
from apprentice.training.worker import Refused

_NICENESS = 10
"""Answers come before training."""


def serve(work: Callable[[Plan, Callable[[float, str], None]], Done | None]) -> None:
    """Do the job whose plan the first argument names, and reply; only the first of several processes does so.

    Whatever a library prints goes to standard error, so that it cannot break the protocol.
    """
    first = os.environ.get("RANK", "0") == "0"
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    threading.Thread(target=_end_with_the_trainer, daemon=True).start()

    def reply(message: Reply) -> None:
        if first:
            _send(replies, message)

    try:
        done = work(Plan.read(Path(sys.argv[1])), lambda fraction, text: reply(Reply(progress=(fraction, text))))
    except (Refused, VersionError, ApprenticeError, ValueError, OSError) as error:
        traceback.print_exc()
        if "allocate memory" not in str(error):  # then the log says it better
            reply(Reply(failed=_reason(error)))
        sys.exit(1)
    if done is not None:
        reply(Reply(done=done))


def _reason(error: Exception) -> str:
    plain = isinstance(error, Refused | VersionError | ApprenticeError)
    return str(error) if plain else f"{type(error).__name__}: {error}"


def _send(replies: BinaryIO, message: Reply) -> None:
    replies.write(msgspec.json.encode(message) + b"\n")
    replies.flush()


def _end_with_the_trainer() -> None:
    """Standard input ends when whoever started the job is gone or wants it to end."""
    while os.read(0, 4096):
        pass
    os._exit(1)
