"""LoRA adapters in llama.cpp's own format, made by its converter and kept beside the version they were made from."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from pathlib import Path

import msgspec

from apprentice.local.endpoint import shortened
from apprentice.local.managed import environment
from apprentice.local.opened import Opened
from apprentice.training.versions import sha256_of
from apprentice_actors.ports import LocalFailure

CONVERSION_S = 1800.0
_TAIL_LINES = 15


class _Made(msgspec.Struct, frozen=True):
    """What a converted file must look like, kept in a file of its own."""

    manifest: str
    """sha256 of the manifest of the version."""
    sha256: str
    size_bytes: int


def converted_path(opened: Opened) -> Path:
    """Where the converted adapter of a version lies: not in its folder, whose manifest names every file of it."""
    return opened.folder.parent / "gguf" / f"{opened.folder.name}.gguf"


async def convert(opened: Opened, base_model: str, converter: Path) -> Path:
    """The adapter of a version as GGUF, converted unless that was done before. Raises :class:`LocalFailure`."""
    path = converted_path(opened)
    if await asyncio.to_thread(_sound, path, opened):
        return path
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        await _run(sys.executable, str(converter), *_base(base_model), "--outfile", str(partial), str(opened.folder))
        await asyncio.to_thread(_keep, partial, path, opened)
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"it took longer than {CONVERSION_S:g} s"
        raise LocalFailure(f"{opened.version} could not be converted to GGUF: {reason}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def discard(opened: Opened) -> None:
    """Remove what was converted."""
    path = converted_path(opened)
    for each in (path, _note(path)):
        each.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others are still there
        path.parent.rmdir()


async def _run(*command: str) -> None:
    """Run the converter to its end. Raises ``OSError`` with the end of its log."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(),
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(CONVERSION_S):
            while block := await process.stdout.read(1 << 16):
                tail.extend(shortened(line) for line in block.decode(errors="replace").splitlines() if line.strip())
            status = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if status != 0:
        raise OSError(f"{command[1]} ended with status {status}" + "".join(f"\n  {line}" for line in tail))


def _base(base_model: str) -> tuple[str, str]:
    return ("--base", base_model) if Path(base_model).is_dir() else ("--base-model-id", base_model)


def _keep(partial: Path, path: Path, opened: Opened) -> None:
    made = _Made(opened.manifest_sha256, sha256_of(partial), partial.stat().st_size)
    _note(path).unlink(missing_ok=True)
    partial.replace(path)
    _note(path).write_bytes(msgspec.json.encode(made))


def _sound(path: Path, opened: Opened) -> bool:
    """Whether the file there was made from this very version, and is as it was made."""
    try:
        made = msgspec.json.decode(_note(path).read_bytes(), type=_Made)
        if made.manifest != opened.manifest_sha256 or path.stat().st_size != made.size_bytes:
            return False
        return sha256_of(path) == made.sha256
    except (OSError, msgspec.DecodeError):
        return False


def _note(path: Path) -> Path:
    return path.with_suffix(".json")
