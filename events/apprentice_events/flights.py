"""What the log knows of a request that is not over: folded by ``task_state``. Pure."""

import msgspec

from . import vocabulary as v


class Answer(msgspec.Struct, kw_only=True, gc=False):
    """A local version's word on a request in flight; ``output`` None: it failed or was rejected."""

    version: str
    output: v.Digest | None
    p_agree: float = 0.0
    rejected: bool = False


class Flight(msgspec.Struct, kw_only=True):
    """A request that the log has heard of and that is not over."""

    input: v.Digest
    key: str | None
    holdout: bool
    tags: tuple[str, ...]
    received_ns: int
    route: v.Route = "remote"
    version: str | None = None
    turn: int = 0
    audit_probability: float = 1.0
    comparing: bool = False
    """A comparison is due for this request and has not come about yet."""
    inline: bool = False
    """The caller waits for the audit of an answer that clears the gate."""
    repeat: bool = False
    """The teacher's answer, once it is there, is asked for a second time."""
    repeating: bool = False
    """The second answer is awaited."""
    repeat_attempt: int | None = None
    """The attempt that asks for it."""
    attempt: int = 0
    calls: dict[int, int] = {}
    """Paid calls under way, or when the process died: attempt and what is reserved for it."""
    asked: dict[int, str] = {}
    """Who was asked in each attempt."""
    rival_asked: str | None = None
    local: Answer | None = None
    rival: Answer | None = None
    remote: v.Digest | None = None
    remote_kind: str | None = None
    served: v.Server | None = None
    over: bool = False
    """The caller has an answer or an error."""

    def intended(self, event: v.RemoteCallIntended, teacher: str) -> None:
        """A paid call to ``teacher`` is about to be made."""
        self.attempt = event.attempt
        self.calls.setdefault(event.attempt, 0)
        self.asked[event.attempt] = teacher
        if event.purpose == "repeat":
            self.repeat_attempt = event.attempt
        else:
            self.repeat = event.repeat
        if event.rival is not None:
            self.rival_asked = event.rival

    @property
    def calling(self) -> bool:
        """Whether a paid call is under way."""
        return bool(self.calls)
