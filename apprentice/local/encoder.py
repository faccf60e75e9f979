"""Sentence encoders: texts as unit vectors in which similar meanings lie close together.

Needs the extra ``encoder`` (sentence-transformers), or the smaller ``onnx`` for models in the ONNX format. On Banking77
with a GPT-4 teacher a small encoder (all-MiniLM-L6-v2) lets the local model agree on 64% of unseen requests after 200
examples instead of 50%; it costs about 10 ms per answer on a CPU instead of 0.4 ms. Adding n-grams to it did not help,
so it stands alone.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.local.features import Floats, render
from apprentice.training.versions import sha256_of
from apprentice_actors.ports import JsonObject

if TYPE_CHECKING:
    from apprentice.local.tuned import Adapter

type Vectors = npt.NDArray[np.float32]

_SHARPNESS = 2.0
"""Of the kernel exp(s (cos - 1)), which for unit vectors is a Gaussian one of squared width 1/s."""
_WEIGHTS_FILE = "model.safetensors"


class Encoder(Protocol):
    """Texts to unit vectors."""

    @property
    def name(self) -> str:
        """As in the config: a folder or a package."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 that changes with the weights: vectors of different encoders must never be compared."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """A row of length 1 for each text."""
        ...


class SentenceEncoder:
    """An encoder in the sentence-transformers layout, from a folder or from an installed package that carries one."""

    def __init__(self, name: str, adapter: "Adapter | None" = None) -> None:
        """Load the weights (a second or two) and merge ``adapter`` into them.

        Raises :class:`MissingExtra` or :class:`InvalidConfig`.
        """
        self._name = name
        folder = _weights_folder(name)
        try:
            module: Any = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise MissingExtra(
                f"the encoder {name!r} needs sentence-transformers; install it with: pip install 'apprentice[encoder]'"
            ) from error
        self._fingerprint = sha256_of(folder / _WEIGHTS_FILE)
        self._model = module.SentenceTransformer(str(folder), device="cpu")
        if adapter is not None:
            from apprentice.local.tuned import merge

            merge(self._model, adapter.folder)
            self._fingerprint = adapter.fingerprint(self._fingerprint)

    @property
    def name(self) -> str:
        """As in the config."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights file, or of it and the adapter."""
        return self._fingerprint

    @property
    def sentences(self) -> Any:
        """The ``SentenceTransformer`` itself, to be tuned; afterwards this encoder is another one than it says."""
        return self._model

    def encode(self, texts: Sequence[str]) -> Vectors:
        """A row of length 1 for each text. Blocks: call it from a thread."""
        return np.asarray(
            self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        )


def open_encoder(name: str, adapter: "Adapter | None" = None) -> Encoder:
    """What a name in the config stands for: an ``.onnx`` file, or a folder or package that holds a model.

    ``adapter`` holds what fine-tuning changed in it. Raises :class:`MissingExtra` or :class:`InvalidConfig`.
    """
    from apprentice.local.onnx_encoder import GRAPHS, OnnxEncoder, graph_in

    if adapter is not None:
        return SentenceEncoder(name, adapter)
    if name.endswith(".onnx"):
        return OnnxEncoder(name)
    folder = model_folder(name)
    graph = graph_in(folder)
    if (folder / _WEIGHTS_FILE).is_file():
        try:
            return SentenceEncoder(name)
        except MissingExtra as error:
            if graph is None:
                raise
            raise MissingExtra(f"{error}; or name the file {graph}, which works without it") from error
    if graph is None:
        problem = (
            f"local.encoder: {folder} holds neither {_WEIGHTS_FILE} nor {' nor '.join(GRAPHS)}; give the folder of a "
            "sentence-transformers model, or an .onnx file"
        )
        raise InvalidConfig([problem])
    return OnnxEncoder(name)


class RememberingEncoder:
    """An encoder that does not encode a text twice: a trainer meets most of its texts again in the next job."""

    def __init__(self, encoder: Encoder, texts_max: int = 20_000) -> None:
        """Keep at most ``texts_max`` vectors, the oldest are forgotten first."""
        self._encoder = encoder
        self._texts_max = texts_max
        self._vectors: dict[bytes, Vectors] = {}

    @property
    def name(self) -> str:
        """Of the encoder behind it."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """Of the encoder behind it."""
        return self._encoder.fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the encoder behind it; texts are remembered by digest alone."""
        if not texts:
            return self._encoder.encode(texts)
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        unknown = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        fresh = self._encoder.encode(list(unknown.values())) if unknown else ()
        self._vectors.update(zip(unknown, fresh, strict=True))
        rows = np.stack([self._vectors[key] for key in keys])
        for key in list(self._vectors)[: -self._texts_max]:
            del self._vectors[key]
        return rows


def model_folder(name: str) -> Path:
    """The folder that a name in the config stands for. Raises :class:`InvalidConfig` where nothing has that name."""
    folder = Path(name)
    if "/" not in name and not folder.is_dir():
        if importlib.util.find_spec(name) is None:
            problem = (
                f"local.encoder: `{name}` is neither a folder nor an installed package; install it or write a path"
            )
            raise InvalidConfig([problem])
        module = importlib.import_module(name)
        folder = Path(
            module.get_model_path() if hasattr(module, "get_model_path") else Path(str(module.__file__)).parent
        )
    return folder


def _weights_folder(name: str) -> Path:
    folder = model_folder(name)
    if not (folder / _WEIGHTS_FILE).is_file():
        problem = f"local.encoder: {folder} holds no {_WEIGHTS_FILE}; give the folder of a sentence-transformers model"
        raise InvalidConfig([problem])
    return folder


class EncoderSpace:
    """Training inputs as vectors of an encoder; implements :class:`apprentice.local.features.Space`."""

    def __init__(self, encoder: Encoder, vectors: Vectors) -> None:
        self._encoder = encoder
        self._vectors = vectors

    @classmethod
    def build(cls, encoder: Encoder, inputs: Sequence[JsonObject]) -> Self:
        """Encode the training inputs."""
        return cls(encoder, encoder.encode(as_texts(inputs)))

    @classmethod
    def from_tensors(cls, encoder: Encoder, tensors: dict[str, npt.NDArray[Any]]) -> Self:
        """The inverse of :meth:`tensors`."""
        return cls(encoder, tensors["vectors"])

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The vectors."""
        return {"vectors": self._vectors}

    def gram(self) -> Floats:
        """All pairs of training inputs."""
        return _gaussian(self._vectors @ self._vectors.T)

    def kernel(self, inputs: Sequence[JsonObject]) -> Floats:
        """Each of ``inputs`` against each training input."""
        return _gaussian(self._encoder.encode(as_texts(inputs)) @ self._vectors.T)


def as_texts(inputs: Sequence[JsonObject]) -> list[str]:
    """Inputs as an encoder reads them."""
    rendered = [render(value, lower=False) for value in inputs]
    return [" ".join([text, *tokens]) for text, tokens in rendered]


def _gaussian(cosines: Vectors) -> Floats:
    similar: Floats = np.exp(_SHARPNESS * (cosines.astype(np.float64) - 1.0))
    return similar
