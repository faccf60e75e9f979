"""Trained versions on disk: one folder each, written whole or not at all, verified before every load.

Layout: ``MODELS/TASK/vN/`` holds the weights and a ``manifest.json``, which names the version (``TASK@vN``), where it
comes from and the size and sha256 of every other file. The sha256 of the manifest itself goes into the event log, so
that a version is pinned down to the last byte. A name is used once: :func:`write_version` never replaces a folder.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

MANIFEST = "manifest.json"
_VERSION = re.compile(r"(?P<task>[A-Za-z0-9_][A-Za-z0-9_.-]*)@v(?P<number>[0-9]{1,9})")
_FOLDER = re.compile(r"v[0-9]{1,9}")
_CHUNK_BYTES = 1 << 20


class VersionError(Exception):
    """A version cannot be written, or what lies on disk is not what its manifest says."""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of a version must look like."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of a version."""

    version: str
    base: str
    """The base model that was adapted; ``embedded`` for the embedded one."""
    parent: str | None
    dataset: str
    """sha256 of the training file."""
    calibration: str
    """sha256 of the held-out file."""
    settings: dict[str, Any]
    metrics: dict[str, float]
    created: str
    """UTC, ISO 8601."""
    files: dict[str, FileEntry]
    schema: int = 1


def parse_version(version: str) -> tuple[str, int]:
    """Task and number of a name such as ``classify_ticket@v3``. Raises :class:`VersionError`."""
    match = _VERSION.fullmatch(version)
    if match is None:
        raise VersionError(f"{version!r} is not a version name; it has the form TASK@vN, such as classify_ticket@v3")
    return match["task"], int(match["number"])


def version_folder(models: Path, version: str) -> Path:
    """Where a version lies under the models folder."""
    task, number = parse_version(version)
    return models / task / f"v{number}"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_version(
    folder: Path,
    fill: Callable[[Path], None],
    *,
    version: str,
    base: str,
    parent: str | None,
    dataset: str,
    calibration: str,
    settings: dict[str, Any],
    metrics: dict[str, float],
    created: str,
) -> str:
    """Let ``fill`` write files into an empty folder beside ``folder``, add the manifest, move it into place.

    Everything is flushed to the disk before the move, so after a crash the folder is either complete or absent.
    Returns the sha256 of the manifest. Raises :class:`VersionError` where the folder exists already.
    """
    parse_version(version)
    _refuse_existing(folder, version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        fill(partial)
        manifest = Manifest(
            version=version,
            base=base,
            parent=parent,
            dataset=dataset,
            calibration=calibration,
            settings=settings,
            metrics=metrics,
            created=created,
            files=_entries(partial),
        )
        encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (partial / MANIFEST).write_bytes(encoded)
        _flush_tree(partial)
        _refuse_existing(folder, version)
        partial.rename(folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return hashlib.sha256(encoded).hexdigest()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of a folder and its sha256, files unchecked. Raises :class:`VersionError`."""
    path = folder / MANIFEST
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise VersionError(
            f"{path} cannot be read ({error.strerror}); the version is incomplete: restore it or train it again"
        ) from error
    try:
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VersionError(f"{path} is not a manifest ({error}); restore it or train the version again") from error
    return manifest, hashlib.sha256(encoded).hexdigest()


def check_manifest(folder: Path, expected_sha256: str | None = None) -> Manifest:
    """Verify a version: its manifest against ``expected_sha256`` (from the event log), then every file.

    Files that the manifest does not name are refused too. Raises :class:`VersionError` naming the first bad file.
    """
    manifest, digest = read_manifest(folder)
    if expected_sha256 is not None and digest != expected_sha256:
        raise VersionError(
            f"{folder / MANIFEST} has sha256 {digest}, the event log recorded {expected_sha256}; "
            "the version was altered after training: restore it from a backup or retire it"
        )
    present = _files(folder) - {MANIFEST}
    for name in sorted(present - manifest.files.keys()):
        raise VersionError(f"{folder / name} does not stand in the manifest of {manifest.version}; remove the file")
    for name, entry in manifest.files.items():
        _check_file(folder / name, entry, manifest.version, exists=name in present)
    return manifest


def list_versions(models: Path, task: str) -> list[str]:
    """Names of the versions of a task on disk, oldest first. Their files are not checked."""
    parse_version(f"{task}@v0")
    home = models / task
    if not home.is_dir():
        return []
    numbers = [int(path.name[1:]) for path in home.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return [f"{task}@v{number}" for number in sorted(numbers)]


def remove_version(models: Path, version: str) -> bool:
    """Delete a version's folder; returns whether there was one. The folder disappears in one step, then its content."""
    folder = version_folder(models, version)
    if not folder.is_dir():
        return False
    doomed = folder.parent / f".{folder.name}.removed"
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)
    return True


def discard(folder: Path) -> None:
    """Remove what an interrupted :func:`write_version` left, be the folder finished or not."""
    for leftover in (_partial(folder), folder):
        shutil.rmtree(leftover, ignore_errors=True)


def _partial(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.partial"


def _refuse_existing(folder: Path, version: str) -> None:
    if folder.exists():
        raise VersionError(f"{folder} exists already, and {version} is never written twice; train under a new number")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _entries(folder: Path) -> dict[str, FileEntry]:
    return {
        name: FileEntry(sha256_of(folder / name), (folder / name).stat().st_size) for name in sorted(_files(folder))
    }


def _check_file(path: Path, entry: FileEntry, version: str, *, exists: bool) -> None:
    cure = f"{version} is damaged: restore it from a backup or retire it"
    if not exists:
        raise VersionError(f"{path} is missing; {cure}")
    size = path.stat().st_size
    if size != entry.size_bytes:
        raise VersionError(f"{path} has {size} bytes instead of {entry.size_bytes}; {cure}")
    if sha256_of(path) != entry.sha256:
        raise VersionError(f"{path} has another sha256 than its manifest says; {cure}")


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
