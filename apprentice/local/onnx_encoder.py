"""Sentence encoders in the ONNX format: the vectors of sentence-transformers without torch.

Needs the extra ``onnx`` (onnxruntime and tokenizers). The settings are read from the files that sentence-transformers
writes beside a model and mean the same; what cannot be followed is refused.
"""

import hashlib
import importlib
import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.local.encoder import Vectors, model_folder
from apprentice.training.versions import sha256_of

type Numbers = npt.NDArray[Any]

GRAPHS = ("model.onnx", "onnx/model.onnx")
_WEIGHTS_BESIDE = ("_data", ".data")
"""What exporters append to a graph's file name for the weights that they keep outside of it."""
_TOKENIZER = "tokenizer.json"
_POOLING = "1_Pooling/config.json"
_FLAG = "pooling_mode_"
_FEEDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Inputs of a graph, and what they are called by tokenizers."""
_KINDS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_VECTORS = "sentence_embedding"
_STATES = ("token_embeddings", "last_hidden_state")
_MODULES = {"Transformer", "Pooling", "Normalize"}
_POOLINGS = ("cls", "max", "mean")
_TOKENS_MAX = 256
"""Of a text, where no file says it."""
_UNLIMITED = 1_000_000
"""Tokenizers without a limit name one beyond this."""
_ROWS_MAX = 8
"""Of a batch: larger ones took longer for each text, measured on a CPU with MiniLM."""
_POSITIONS_MAX = 2048
"""Of a batch, padding included: what long texts take grows with it, and with the square of their length."""


class OnnxEncoder:
    """An encoder exported to ONNX, float or quantised; the vectors have length 1 whatever the settings say.

    A graph that is quantised dynamically scales by the largest number in the batch, so that the texts beside it would
    change a text's vector: such a graph gets its texts one by one.
    """

    def __init__(self, name: str) -> None:
        """``name`` is an ``.onnx`` file, or a folder or package with one of :data:`GRAPHS`.

        Its ``tokenizer.json`` lies beside it or one folder up, and there are the settings too. Raises
        :class:`MissingExtra` or :class:`InvalidConfig`.
        """
        self._name = name
        self._file, folder = _find(name)
        runtime, tokenizers = _library("onnxruntime", name), _library("tokenizers", name)
        self._tokenizer = _tokenizer(tokenizers, folder)
        self._pad = _pad_id(self._tokenizer, folder)
        self._session = _session(runtime, self._file)
        self._inputs = _inputs(self._session, self._file)
        self._output = _output(self._session, self._file)
        self._poolings = _poolings(folder) if self._output != _VECTORS else ()
        self._prompt = _prompt(folder)
        self._rows_max = 1 if _scales_by_batch(self._file) else _ROWS_MAX
        self._fingerprint = _fingerprint(self._file)
        try:
            self._width = self._vectors([self._tokenizer.encode("a text")]).shape[1]
        except ValueError as error:
            raise InvalidConfig([f"local.encoder: {error}"]) from error

    @property
    def name(self) -> str:
        """As in the config."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """sha256 of the graph; of it and its weights, where they lie in a file of their own."""
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        """A row of length 1 for each text. Blocks: call it from a thread. ``ValueError`` where the graph fails."""
        tokens = [self._tokenizer.encode(self._prompt + text) for text in texts]
        found = np.empty((len(texts), self._width), np.float32)
        for places in _batches([len(each) for each in tokens], self._rows_max):
            found[places] = self._vectors([tokens[at] for at in places])
        return found

    def _vectors(self, tokens: Sequence[Any]) -> Vectors:
        fed = {name: _padded([getattr(each, called) for each in tokens]) for name, called in _FEEDS.items()}
        mask = fed["attention_mask"]
        fed["input_ids"][mask == 0] = self._pad
        mask[:, 0] = 1  # a text without any token is read as one of padding: the mean of nothing is no vector
        wanted = {name: fed[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        try:
            (computed,) = self._session.run([self._output], wanted)
        except Exception as error:  # the library's errors have no class in common
            raise ValueError(f"{self._file} could not compute vectors: {error}; export it again") from error
        computed = computed.astype(np.float32, copy=False)
        pooled = [_pooled(computed, mask, each) for each in self._poolings]
        vectors: Vectors = np.concatenate(pooled, axis=1) if pooled else computed
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths) & (lengths > 0)):
            raise ValueError(f"{self._file} gave a vector without a length; use one of another precision")
        return vectors / lengths


def graph_in(folder: Path) -> Path | None:
    """The graph of a folder in the sentence-transformers layout, if it holds one."""
    return next((folder / name for name in GRAPHS if (folder / name).is_file()), None)


def _find(name: str) -> tuple[Path, Path]:
    """The graph, and the folder of its tokenizer and settings."""
    if not name.endswith(".onnx"):
        folder = model_folder(name)
        file = graph_in(folder)
        if file is None:
            raise InvalidConfig([f"local.encoder: {folder} holds neither {' nor '.join(GRAPHS)}; name an .onnx file"])
    elif not (file := Path(name)).is_file():
        raise InvalidConfig([f"local.encoder: there is no file {file}; correct the path"])
    for folder in (file.absolute().parent, file.absolute().parent.parent):
        if (folder / _TOKENIZER).is_file():
            return file, folder
    text = f"local.encoder: no {_TOKENIZER} lies beside {file} or one folder up; copy it there from the model"
    raise InvalidConfig([text])


def _library(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"the encoder {name!r} needs {module}; install it with: pip install 'apprentice[onnx]'"
        ) from error


# ---------------------------------------------------------------- settings


def _read[T](file: Path, kind: type[T]) -> T | None:
    if not file.is_file():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise InvalidConfig([f"local.encoder: {file} cannot be read: {error}; copy it from the model again"]) from error


def _settings(folder: Path, name: str) -> dict[str, Any]:
    return _read(folder / name, dict[str, Any]) or {}


def _tokenizer(library: Any, folder: Path) -> Any:
    file = folder / _TOKENIZER
    try:
        tokenizer = library.Tokenizer.from_file(str(file))
    except Exception as error:  # what the library raises is a bare Exception
        raise InvalidConfig([f"local.encoder: {file} cannot be read: {error}; copy it from the model again"]) from error
    tokenizer.enable_truncation(_tokens_max(folder, tokenizer))
    if _settings(folder, "sentence_bert_config.json").get("do_lower_case"):
        parts = [library.normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = library.normalizers.Sequence(parts)
    return tokenizer


def _tokens_max(folder: Path, tokenizer: Any) -> int:
    """Newer versions of sentence-transformers write the limit into the settings of the tokenizer."""
    limit = _settings(folder, "sentence_bert_config.json").get("max_seq_length")
    if limit is None:
        limit = _settings(folder, "tokenizer_config.json").get("model_max_length", _UNLIMITED)
        positions = _settings(folder, "config.json").get("max_position_embeddings", _UNLIMITED)
        limit = min(limit, positions) if limit < _UNLIMITED else (tokenizer.truncation or {}).get("max_length")
    return int(limit or _TOKENS_MAX)


def _pad_id(tokenizer: Any, folder: Path) -> int:
    """Takes the tokenizer's own padding away: batches are made here, once the lengths are known."""
    padding = tokenizer.padding
    tokenizer.no_padding()
    if padding is not None:
        return int(padding["pad_id"])
    token = _settings(folder, "tokenizer_config.json").get("pad_token")
    return int((tokenizer.token_to_id(token) if isinstance(token, str) else None) or 0)


def _poolings(folder: Path) -> tuple[str, ...]:
    """Ways of making a vector from those of the tokens; several are put side by side."""
    modules = _read(folder / "modules.json", list[dict[str, Any]]) or []
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    if unknown := [kind for kind in kinds if kind not in _MODULES]:
        text = f"local.encoder: {folder / 'modules.json'} has the step {unknown[0]}, which is not done here"
        raise InvalidConfig([f"{text}; export a graph with the output `{_VECTORS}`, which holds all steps"])
    settings = _settings(folder, _POOLING)
    found = settings.get("pooling_mode") or [_pooling_of(key) for key, on in settings.items() if on and _FLAG in key]
    found = [found] if isinstance(found, str) else found or ["mean"]
    if others := [each for each in found if each not in _POOLINGS]:
        text = (
            f"local.encoder: {folder / _POOLING} asks for the pooling `{others[0]}`, known are {', '.join(_POOLINGS)}"
        )
        raise InvalidConfig([f"{text}; export a graph with the output `{_VECTORS}`"])
    return tuple(each for each in _POOLINGS if each in found)


def _pooling_of(flag: str) -> str:
    """``mean`` for ``pooling_mode_mean_tokens``, as older versions of sentence-transformers write it."""
    return flag.removeprefix(_FLAG).removesuffix("s").removesuffix("_token")


def _prompt(folder: Path) -> str:
    """What is put before each text."""
    settings = _settings(folder, "config_sentence_transformers.json")
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name")) or ""
    if prompt and not _settings(folder, _POOLING).get("include_prompt", True):
        text = f"local.encoder: {folder / _POOLING} leaves the prompt out of the vectors, which is not done here"
        raise InvalidConfig([f"{text}; name another model"])
    return str(prompt)


# ---------------------------------------------------------------- the graph


def _session(runtime: Any, file: Path) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and told by whoever catches it
    # Threads that wait for work by spinning took twice the processor time and, on a busy machine, longer too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's errors have no class in common
        raise InvalidConfig([f"local.encoder: {file} cannot be loaded: {error}; export it again"]) from error


def _threads() -> int:
    """What the variable that numerical libraries obey says, else as many as there are processors for this process."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if said.isdigit() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _inputs(session: Any, file: Path) -> dict[str, Any]:
    """Types of the inputs by name."""
    given = {each.name: each for each in session.get_inputs()}
    told = f"an encoder's inputs are {', '.join(_FEEDS)}; export it again"
    for name, each in given.items():
        if name not in _FEEDS or each.type not in _KINDS:
            raise InvalidConfig([f"local.encoder: {file} wants the input `{name}` ({each.type}); {told}"])
        if any(isinstance(size, int) for size in each.shape):
            text = f"local.encoder: the input `{name}` of {file} has the fixed shape {each.shape}"
            raise InvalidConfig([f"{text}; export it with a free number of rows and columns"])
    if "input_ids" not in given:
        raise InvalidConfig([f"local.encoder: {file} has no input `input_ids`; {told}"])
    return {name: _KINDS[each.type] for name, each in given.items()}


def _output(session: Any, file: Path) -> str:
    """The finished vectors where the graph gives them, else those of the tokens."""
    given: dict[str, int] = {each.name: len(each.shape) for each in session.get_outputs()}
    for name in (_VECTORS, *_STATES, *(name for name, axes in given.items() if axes == 3)):
        if name in given:
            return name
    text = f"local.encoder: {file} gives {', '.join(given)}; an encoder gives `{_VECTORS}` or `{_STATES[1]}`"
    raise InvalidConfig([f"{text}; export it for feature extraction"])


def _scales_by_batch(file: Path) -> bool:
    """Whether a step of the graph has a scale that is found while it runs."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"DynamicQuantize") >= 0


def _fingerprint(file: Path) -> str:
    beside = [file.with_name(file.name + ending) for ending in _WEIGHTS_BESIDE]
    parts = [sha256_of(each) for each in (file, *beside) if each.is_file()]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


# ---------------------------------------------------------------- numbers


def _batches(lengths: Sequence[int], rows_max: int) -> Iterator[list[int]]:
    """Places of texts of like length, the shortest first."""
    batch: list[int] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == rows_max or (len(batch) + 1) * lengths[at] > _POSITIONS_MAX):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]]) -> Numbers:
    padded = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
    for row, numbers in zip(padded, rows, strict=True):
        row[: len(numbers)] = numbers
    return padded


def _pooled(states: Vectors, mask: Numbers, pooling: str) -> Vectors:
    """One vector for each text from those of its tokens. States are of the shape texts, tokens, numbers."""
    if pooling == "cls":
        return states[:, 0]
    real = mask[:, :, np.newaxis]
    if pooling == "max":
        most: Vectors = np.where(real, states, -np.inf).max(axis=1)
        return most
    weights = real.astype(np.float32)
    mean: Vectors = (states * weights).sum(axis=1) / weights.sum(axis=1)
    return mean
