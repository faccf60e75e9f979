"""What error statuses mean, the same for every provider, and the words in which they are passed on."""

from collections.abc import Mapping

from apprentice.remote.wire import Rejection
from apprentice_actors.ports import RemoteFailureKind

MESSAGE_CHARS = 400
"""How much of a provider's error text is passed on."""
_KINDS: Mapping[int, RemoteFailureKind] = {
    401: "auth",
    402: "spend_limit",
    403: "auth",
    408: "unavailable",
    409: "unavailable",
    429: "rate_limited",
}
"""Every other 4xx is our request's fault, every 5xx the provider's."""
_RETRIED = frozenset({408, 409, 429})
_FINAL = frozenset({"spend_limit", "refusal"})
_ADVICE: Mapping[str, str] = {
    "auth": "check the key and what it may use",
    "spend_limit": "raise the limit or add credit at the provider; a retry cannot help",
    "bad_request": "correct the model name or the task; the same request fails again",
    "refusal": "the provider's content rules stand in the way of this input",
}


def kind_of(status: int) -> RemoteFailureKind:
    """What a status means where the body says nothing more precise."""
    return _KINDS.get(status, "unavailable" if status >= 500 else "bad_request")


def rejection(
    status: int, kind: RemoteFailureKind, said: tuple[str, ...], *, after_s: float | None = None
) -> Rejection:
    """An error response in words: what the provider ``said``, shortened, and what to do about it."""
    text = " ".join(filter(None, said))[:MESSAGE_CHARS] or "a body without an error object"
    advice = _ADVICE.get(kind)
    return Rejection(
        kind=kind,
        message=f"{text}; {advice}" if advice else text,
        retry=kind not in _FINAL and (status in _RETRIED or status >= 500),
        after_s=after_s,
    )
