"""Stand-ins for onnxruntime and tokenizers, so that what is built on them is tested without them.

A text's tokens are the lengths of its words, 1 at the front and 2 at the end; a single no-break space has none at all.
The numbers of a token say how long it is, and where it stands.
"""

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

WIDTH = 4
PAD = 9


class Encoding:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.attention_mask = [1] * len(ids)
        self.type_ids = [0] * len(ids)

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer:
    """Reads the file that it is given only to see whether it can be read."""

    truncation: dict[str, Any] | None
    padding: dict[str, Any] | None

    def __init__(self) -> None:
        self.normalizer: Any = None
        self.seen: list[str] = []

    @classmethod
    def from_file(cls, path: str) -> "Tokenizer":
        with open(path, encoding="utf-8") as file:
            if file.read(1) != "{":
                raise Exception("expected value at line 1")  # as the library does
        return cls()

    def no_padding(self) -> None:
        self.padding = None

    def enable_truncation(self, limit: int) -> None:
        self.truncation = {"max_length": limit}

    def token_to_id(self, token: str) -> int | None:
        return {"[PAD]": 7}.get(token)

    def encode(self, text: str) -> Encoding:
        self.seen.append(text)
        assert self.truncation is not None
        words = text.split()[: self.truncation["max_length"] - 2]
        return Encoding([1, *(len(word) for word in words), 2] if text != "\N{NO-BREAK SPACE}" else [])


@dataclass
class Graph:
    """What a session of the stand-in shows and does, and what its tokenizer's file says."""

    inputs: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("input_ids", "attention_mask"), "int64"))
    outputs: dict[str, int] = field(default_factory=lambda: {"last_hidden_state": 3})
    shape: tuple[Any, ...] = ("batch", "sequence")
    scale: float = 1.0
    fails: bool = False
    truncation: dict[str, Any] | None = field(default_factory=lambda: {"max_length": 128})
    padding: dict[str, Any] | None = field(default_factory=lambda: {"pad_id": PAD})
    fed: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    tokenizers: list[Tokenizer] = field(default_factory=list)

    def install(self, monkeypatch) -> "Graph":
        """In place of both libraries."""
        graph = self

        class Options:
            def add_session_config_entry(self, key: str, value: str) -> None:
                graph.options[key] = value

        class Session:
            def __init__(self, path: str, options: Options, providers: list[str]) -> None:
                assert providers == ["CPUExecutionProvider"]
                graph.options |= vars(options)
                with open(path, "rb") as file:
                    if file.read(4) == b"junk":
                        raise Exception("Protobuf parsing failed")

            def get_inputs(self) -> list[Any]:
                kinds = graph.inputs.items()
                return [SimpleNamespace(name=name, type=f"tensor({kind})", shape=graph.shape) for name, kind in kinds]

            def get_outputs(self) -> list[Any]:
                return [SimpleNamespace(name=name, shape=[None] * axes) for name, axes in graph.outputs.items()]

            def run(self, wanted: list[str], fed: dict[str, Any]) -> list[Any]:
                if graph.fails:
                    raise Exception("FAIL : an axis does not fit")
                graph.fed.append(fed)
                return [graph.compute(wanted[0], fed["input_ids"])]

        class Kept(Tokenizer):
            def __init__(self) -> None:
                super().__init__()
                self.truncation, self.padding = graph.truncation, graph.padding
                graph.tokenizers.append(self)

        normalizers = SimpleNamespace(Lowercase=lambda: "lower", Sequence=list)
        runtime = SimpleNamespace(SessionOptions=Options, InferenceSession=Session)
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=Kept, normalizers=normalizers))
        return self

    def compute(self, output: str, ids: Any) -> Any:
        if self.outputs[output] == 2:
            return np.full((len(ids), WIDTH), 3.0, np.float32)
        places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        states = np.stack([ids, ids**2, places, np.ones_like(ids)], axis=2)
        return (self.scale * states).astype(np.float32)
