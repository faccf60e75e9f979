"""Streams of recorded requests: what came in, what a remote model answered, and what would have been right.

Texts are encoded once and kept under ``benchmarks/results/tmp``: a stream is played dozens of times.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from apprentice.local.encoder import Encoder, open_encoder
from apprentice.local.features import render
from apprentice.local.heads import plan
from apprentice.local.names import as_inputs, names
from apprentice_actors.ports import Example, JsonObject
from benchmarks.measuring import RESULTS, ROOT

SHARED = ROOT.parent / "shared" / "data"
VECTORS = RESULTS / "tmp" / "vectors"
ANSWER = "answer"
"""The one field of every answer."""
GPT4O = "gpt-4o-2024-08-06-FC"


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded requests in the order of the file."""

    name: str
    teacher: str
    rows: tuple[Example, ...]
    gold: tuple[Any, ...] | None = None
    """Per row the answer that is right; None where the file does not say."""
    share: float = 1.0
    """Part of the rows that one play takes."""

    def order(self, seed: int) -> list[int]:
        """The rows of one play, shuffled by ``seed``."""
        places = list(range(len(self.rows)))
        random.Random(seed).shuffle(places)
        return places[: int(len(places) * self.share)]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream lies and which of its fields count; ``name`` without a path is one of :data:`KNOWN`."""

    name: str
    path: str | None = None
    input: str = "text"
    answer: str = "teacher"
    gold: str | None = None

    @classmethod
    def known(cls, name: str) -> "Source":
        """One of :data:`KNOWN`. Raises ``ValueError`` for another name."""
        if name not in KNOWN:
            raise ValueError(f"there is no stream {name!r}; known are {', '.join(KNOWN)}, others are given by --stream")
        return cls(name=name)

    def read(self) -> Stream | None:
        """The stream; None where its file is not there."""
        if self.path is not None:
            return _labelled(self.name, Path(self.path), self.input, self.answer, self.gold)
        file, read = KNOWN[self.name]
        return read(SHARED / file) if (SHARED / file).exists() else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=dict[str, Any])


def _labelled(
    name: str, path: Path, input_field: str, answer: str, gold: str | None, share: float = 1.0, teacher: str = ""
) -> Stream:
    """One input field, one label. Raises ``KeyError`` for a field that a line does not have."""
    lines = list(_lines(path))
    rows = [_row(at, {input_field: line[input_field]}, line[answer]) for at, line in enumerate(lines)]
    right = tuple(line[gold] for line in lines) if gold is not None else None
    return Stream(name=name, teacher=teacher or answer, rows=tuple(rows), gold=right, share=share)


def _row(at: int, given: JsonObject, answer: Any) -> Example:
    return Example(request=str(at), input=given, output={ANSWER: answer})


def _banking77(path: Path) -> Stream:
    return _labelled("banking77", path, "text", "teacher_gpt4", "gold", teacher="GPT-4")


def _isear(path: Path) -> Stream:
    return _labelled("isear", path, "text", "teacher_gpt35", "gold", share=0.5, teacher="GPT-3.5")


def _bfcl(path: Path) -> Stream:
    """A question and the names of the functions at hand; the answer is the list of calls, empty where it only talked.

    An answer counts as right where it equals the recorded calls and the recorded verdict on those is good; other calls
    that would also have passed count as wrong.
    """
    lines = list(_lines(path))
    answers = [_calls(line["teachers"][GPT4O]["result"]) for line in lines]
    rows = [_row(at, _asked(line), answer) for at, (line, answer) in enumerate(zip(lines, answers, strict=True))]
    good = [line["teachers"][GPT4O]["ok"] for line in lines]
    gold = tuple(answer if passed else None for answer, passed in zip(answers, good, strict=True))
    return Stream(name="bfcl", teacher="GPT-4o", rows=tuple(rows), gold=gold)


def _asked(line: dict[str, Any]) -> JsonObject:
    spoken = [message["content"] for turn in line["question"] for message in turn]
    return {"question": "\n".join(spoken), "functions": [function["name"] for function in line["function"]]}


def _calls(result: Any) -> list[dict[str, Any]]:
    if isinstance(result, str):
        return []
    return [{name: _arguments(said) for name, said in call.items()} for call in result]


def _arguments(said: str) -> Any:
    try:
        return json.loads(said)
    except json.JSONDecodeError:
        return said


KNOWN: dict[str, tuple[str, Callable[[Path], Stream]]] = {
    "banking77": ("banking77/stream_test.jsonl", _banking77),
    "isear": ("isear/stream.jsonl", _isear),
    "bfcl": ("bfcl/stream.jsonl", _bfcl),
}


# ---------------------------------------------------------------- vectors


class Vectors:
    """An encoder whose vectors were made beforehand; it loads the real one for a text that is new to it."""

    def __init__(self, encoder: str, path: Path) -> None:
        kept = np.load(path)
        self._encoder: Encoder | None = None
        self.name = encoder
        self.fingerprint = str(kept["fingerprint"])
        self._known: dict[str, npt.NDArray[np.float32]] = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """As the encoder of that name."""
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            self._encoder = self._encoder or open_encoder(self.name)
            self._known.update(zip(new, self._encoder.encode(list(new.values())), strict=True))
        return np.stack([self._known[key] for key in keys])


def vectors(stream: Stream, encoder: str) -> Path:
    """The file with the vectors of a stream's inputs and of the names of its answers; made where it is not there."""
    texts = list(dict.fromkeys(_texts(stream)))
    content = hashlib.sha256("\n".join([encoder, *texts]).encode()).hexdigest()[:16]
    path = VECTORS / f"{stream.name}-{content}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = open_encoder(encoder)
        np.savez(
            path,
            keys=np.array([_key(text) for text in texts]),
            vectors=made.encode(texts),
            fingerprint=np.array(made.fingerprint),
        )
    return path


def _texts(stream: Stream) -> Iterator[str]:
    named = as_inputs(names(plan([row.output for row in stream.rows], None)))
    for given in [*(row.input for row in stream.rows), *named]:
        text, tokens = render(given, lower=False)
        yield " ".join([text, *tokens])


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
