"""A version's folder, checked and read: what every local model but the embedded one needs to know of a version."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from apprentice.errors import MissingExtra
from apprentice.training.versions import MANIFEST, VersionError, check_manifest
from apprentice_actors.ports import LocalFailure

if TYPE_CHECKING:
    from apprentice.local.confidence import Token

NOT_MEASURED = 0.5
"""``p_agree`` of the untrained base model."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was checked."""

    version: str
    folder: Path
    manifest_sha256: str
    p_agree: "Callable[[list[Token]], float]"
    """From the tokens of an answer to the calibrated probability that the remote agrees."""


def require(backend: str, extra: str, *packages: str) -> None:
    """Raise :class:`MissingExtra` unless ``packages`` are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"the backend {backend} needs {' and '.join(missing)}; install it: pip install 'apprentice[{extra}]'"
        )


def open_version(version: str, folder: Path, manifest_sha256: str | None, base: str) -> Opened:
    """Verify every file against the manifest and the manifest against ``manifest_sha256``; read the calibration.

    Raises :class:`LocalFailure`. It reads all files, so it belongs into a thread.
    """
    from apprentice.local.confidence import Card

    try:
        manifest = check_manifest(folder, manifest_sha256)
        if manifest.version != version or manifest.base != base:
            raise LocalFailure(
                f"{folder} holds {manifest.version} of {manifest.base}, not {version} of {base}; "
                "give the folder of that version"
            )
        digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        card = Card.load(folder)
    except (VersionError, OSError, ValueError, msgspec.MsgspecError) as error:
        raise LocalFailure(f"{version} cannot be loaded: {error}") from error
    return Opened(version=version, folder=folder, manifest_sha256=digest, p_agree=card.p_agree)
