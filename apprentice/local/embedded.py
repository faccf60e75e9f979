"""The embedded local model: answers inside this process, without a server, a GPU or a download."""

import asyncio
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from apprentice.errors import ApprenticeError, MissingExtra
from apprentice.training.versions import VersionError, check_manifest
from apprentice_actors.ports import JsonObject, LocalAnswer, LocalFailure, Question

if TYPE_CHECKING:
    from apprentice.local.encoder import Encoder
    from apprentice.local.student import Student, Told
    from apprentice.local.tuned import Adapter

TEXTS_REMEMBERED = 256
BASE = "embedded"
"""The base model's name in the manifests of embedded versions."""


_INLINE_MAX = 400_000
"""Bytes of the input times training rows up to which an answer takes about a millisecond and is computed at once."""


def require_extra() -> None:
    """Raise :class:`MissingExtra` unless what the embedded model needs is installed."""
    missing = [name for name in ("numpy", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"the embedded local model needs {' and '.join(missing)}; install it: pip install 'apprentice[embedded]'"
        )


class EmbeddedModel:
    """Any number of embedded versions side by side. Implements :class:`apprentice_actors.ports.LocalModel`.

    Short inputs are answered from n-grams in under a millisecond, at once; long ones, and encoders, in one thread.
    """

    def __init__(self, encoder: "Encoder | None" = None) -> None:
        """``encoder`` serves the versions that name it; others are loaded by the name in the version."""
        require_extra()
        self._students: dict[str, Student] = {}
        self._encoders: dict[tuple[str, str], Encoder] = {} if encoder is None else {(encoder.name, ""): encoder}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedded")
        self._closed = False

    @property
    def base(self) -> None:
        """There is no model before the first training."""

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Verify every file against the manifest, load, and answer once."""
        if self._closed:
            raise LocalFailure(f"{version} cannot be loaded: the embedded model is closed")
        if version not in self._students:
            self._students[version] = await self._in_thread(self._read, version, folder, manifest_sha256)

    async def unload(self, version: str) -> None:
        """Forget a version, and a tuned encoder that no other one uses; unknown names are ignored."""
        self._students.pop(version, None)
        used = {student.card.encoder_sha256 for student in self._students.values()}
        for key, encoder in list(self._encoders.items()):
            if key[1] and encoder.fingerprint not in used:
                del self._encoders[key]

    def loaded(self) -> frozenset[str]:
        """The versions that can be asked."""
        return frozenset(self._students)

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Answer with one version. ``latency_ms`` includes waiting for the thread."""
        student = self._students.get(version)
        if student is None:
            known = ", ".join(sorted(self._students)) or "none"
            raise LocalFailure(f"{version} is not loaded (loaded: {known}); load it before asking it")
        start = time.perf_counter()
        if student.card.encoder is None and len(msgspec.json.encode(question.input)) * student.card.rows <= _INLINE_MAX:
            told = _ask(student, question.input, version)
        else:
            told = await self._in_thread(_ask, student, question.input, version)
        taken = (time.perf_counter() - start) * 1000.0
        return LocalAnswer(output=told.output, p_agree=told.p_agree, latency_ms=taken, novelty=told.novelty)

    async def healthy(self) -> bool:
        """Whether it is open: there is no server that could be down."""
        return not self._closed

    async def aclose(self) -> None:
        """Forget all versions and end the thread."""
        self._closed = True
        self._students.clear()
        self._thread.shutdown(wait=False)

    async def _in_thread[*A, T](self, call: Callable[[*A], T], *args: *A) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _read(self, version: str, folder: Path, manifest_sha256: str | None) -> "Student":
        from apprentice.local.student import Student

        try:
            manifest = check_manifest(folder, manifest_sha256)
            if manifest.version != version or manifest.base != BASE:
                raise LocalFailure(
                    f"{folder} holds {manifest.version} of {manifest.base}, not {version} of {BASE}; "
                    "give the folder of that version"
                )
            student = Student.load(folder, self._encoder)
        except (VersionError, ApprenticeError, ValueError, KeyError, OSError, msgspec.MsgspecError) as error:
            raise LocalFailure(f"{version} cannot be loaded: {error}") from error
        _ask(student, {"warm": "up"}, version)
        return student

    def _encoder(self, name: str, adapter: "Adapter | None") -> "Encoder":
        from apprentice.local.encoder import RememberingEncoder, open_encoder

        key = (name, adapter.sha256 if adapter is not None else "")
        if key not in self._encoders:  # champion and rival are asked about the same text: it is encoded once
            self._encoders[key] = RememberingEncoder(open_encoder(name, adapter), texts_max=TEXTS_REMEMBERED)
        return self._encoders[key]


def _ask(student: "Student", value: JsonObject, version: str) -> "Told":
    try:
        return student.tell([value])[0]
    except (ValueError, IndexError, TypeError) as error:
        raise LocalFailure(f"{version} could not answer: {type(error).__name__}: {error}") from error
