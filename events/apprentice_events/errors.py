"""What can go wrong with the log, as one tree.

::

    LogError
    ├── LogConflict      the stream moved on since its version was read
    ├── LogClosed        the log was closed
    ├── LogBusy          another process writes this file
    ├── LogPoisoned      a commit failed or another writer took over: what is durable is not known
    ├── LogCorrupt       stored bytes are not what was written
    ├── NotALog          the file is something else, or of a format this version does not know
    ├── UnknownEvent     a tag or a schema version that this version does not know
    ├── UnknownBody      no body of this digest was ever stored
    └── ErasedBody       the body was stored and erased on request
"""


class LogError(Exception):
    """Base of all errors of this package."""


class LogConflict(LogError):
    """``stream`` is at ``actual``, not at the ``expected`` version. Nothing was written."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        self.stream = stream
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"stream {stream!r} is at version {actual}, the append expected {expected}; nothing was written. "
            f"Read the stream again and decide anew."
        )


class LogClosed(LogError):
    """The log was closed; nothing can be appended or read through it."""

    def __init__(self, where: str) -> None:
        super().__init__(f"the log {where} is closed. Open it again before using it.")


class LogBusy(LogError):
    """Another live process (``pid``, where known) holds the file open for writing."""

    def __init__(self, where: str, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"the log {where} is being written by {holder}. Stop it first, or give this process another storage path."
        )


class LogPoisoned(LogError):
    """A commit failed, or a newer writer took the file over. This log object accepts nothing any more."""

    def __init__(self, where: str, cause: str) -> None:
        self.cause = cause
        super().__init__(
            f"the log {where} stopped accepting events: {cause}. What was in flight may or may not be durable. "
            f"Check disk space and disk health, then restart the process: it reads the log afresh."
        )


class LogCorrupt(LogError):
    """Stored bytes are not what was written. ``position`` names the record, where there is one."""

    def __init__(self, position: int | None, reason: str) -> None:
        self.position = position
        self.reason = reason
        place = f"at position {position}" if position is not None else "in the log"
        super().__init__(f"corruption {place}: {reason}. Verify the file and restore it from a copy that verifies.")


class NotALog(LogError):
    """The file is not a log, or has a format that this version cannot read; the message says which."""


class UnknownEvent(LogError):
    """A record carries a tag or schema version that this version of the vocabulary does not know."""


class UnknownBody(LogError):
    """No body of this digest was ever stored."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(f"no body {digest} in this log. Check that the digest comes from an event of the same log.")


class ErasedBody(LogError):
    """The body was stored once and erased on request; the digest in the events is all that is left."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(f"body {digest} was erased on request; its content cannot be had any more.")
