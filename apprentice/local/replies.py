"""What model servers send back, read: the text, its tokens, and whether it is whole."""

import codecs
from typing import Annotated, Any

import msgspec

from apprentice.local.confidence import Token
from apprentice_actors.ports import LocalFailure


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A model's text."""

    text: str
    tokens: list[Token] = []
    """Empty where the server gives no log-probabilities."""
    cut_off: bool = False
    """Whether it ended at a limit."""


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token as OpenAI, vLLM, llama.cpp and Ollama write it."""

    token: str = ""
    logprob: float | None = None
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprob] | None = None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _ChatCompletion(msgspec.Struct, frozen=True):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]


def tokens(written: list[TokenLogprob] | None) -> list[Token]:
    """The tokens of an answer. A character may be spread over several: it is counted to the one that completes it."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    found = []
    for each in written or ():
        text = each.token if each.bytes is None else decoder.decode(bytes(each.bytes))
        # Servers write -9999 or leave out what has no probability at all.
        found.append(Token(text, max(-100.0, each.logprob if each.logprob is not None else -100.0)))
    return found


def completion(body: Any, server: str) -> Reply:
    """Read a chat completion. Raises :class:`LocalFailure`."""
    try:
        choice = msgspec.convert(body, _ChatCompletion).choices[0]
    except msgspec.ValidationError as error:
        raise LocalFailure(f"{server} sent something that is not a chat completion: {error}") from None
    if choice.message.refusal:
        raise LocalFailure("the model declined to answer")
    return Reply(
        text=choice.message.content or "",
        tokens=tokens(choice.logprobs.content if choice.logprobs is not None else None),
        cut_off=choice.finish_reason == "length",
    )
