"""A sentence encoder that was fine-tuned on a task's answers: LoRA matrices in the version, and what they saw.

The matrices change the encoder for this version alone. They are merged into its weights once, on loading, so an answer
costs what it cost before.
"""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from safetensors.numpy import load_file

from apprentice.local.calibration import Flags
from apprentice.training.versions import sha256_of
from apprentice_actors.ports import JsonObject

FOLDER = "encoder"
"""Of a version: where its matrices lie, as peft writes them."""
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
SEEN_FILE = "seen.json"
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
"""Of the names that peft gives to matrices."""


class _Config(msgspec.Struct):
    r: int
    lora_alpha: float


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the matrices were made from."""

    encoder_sha256: str
    """Fingerprint of the encoder that was tuned."""
    rows: int
    """Training rows there were, seen or not."""
    inputs: tuple[str, ...]
    """Digests of the inputs that were seen, in ascending order."""


class Adapter(msgspec.Struct, frozen=True):
    """A folder of matrices. An input that tuning saw lies where its answer is: it cannot tell how sure an answer is."""

    folder: Path
    seen: Seen
    sha256: str
    """Of the matrices."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ``OSError`` or ``msgspec.MsgspecError`` where it is not there or broken."""
        seen = msgspec.json.decode((folder / SEEN_FILE).read_bytes(), type=Seen)
        return cls(folder, seen, sha256_of(folder / WEIGHTS_FILE))

    def unseen(self, inputs: Sequence[JsonObject]) -> Flags:
        """Which of ``inputs`` tuning has not seen."""
        known = frozenset(self.seen.inputs)
        return np.array([digest(each) not in known for each in inputs], bool)

    def fingerprint(self, encoder_sha256: str) -> str:
        """Of an encoder with these matrices."""
        return hashlib.sha256(f"{encoder_sha256} {self.sha256}".encode()).hexdigest()


def digest(value: JsonObject) -> str:
    """Of an input: 16 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:16]


def merge(sentences: Any, folder: Path) -> None:
    """Add the matrices in ``folder`` to a ``SentenceTransformer``: a layer's weights W become W + (alpha / r) B A."""
    torch = importlib.import_module("torch")
    config = msgspec.json.decode((folder / CONFIG_FILE).read_bytes(), type=_Config)
    matrices = load_file(folder / WEIGHTS_FILE)
    layers = dict(sentences[0].auto_model.named_modules())
    for key, down in matrices.items():
        name, found, _ = key.removeprefix(_PREFIX).partition(_DOWN)
        if found:
            update = config.lora_alpha / config.r * matrices[f"{_PREFIX}{name}{_UP}"] @ down
            with torch.no_grad():
                layers[name].weight += torch.from_numpy(update)
