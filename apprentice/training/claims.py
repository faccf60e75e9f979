"""What was commissioned from a vendor and not yet taken in: kept beside the versions, so that nothing is paid twice.

A claim is a small file ``.vN.openai.json`` in the task's folder. It names the data by digest only. A job that is asked
for again with the same data, be it under another version number after a restart, takes the claim over and goes on.
"""

import logging
import os
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

_SUFFIX = ".openai.json"


class Claim(msgspec.Struct, kw_only=True):
    """What lies at the vendor for one job."""

    asked: str
    """Digest of everything that decides what is trained: the file's content, the model, the settings."""
    begun_ns: int
    """When it was first asked for: UTC, nanoseconds since the epoch."""
    name: str
    """The name of the uploaded file, which no other file has: what an interrupted upload left is found by it."""
    file: str | None = None
    job: str | None = None


def path_of(folder: Path) -> Path:
    """Where the claim of the version in ``folder`` is kept."""
    return folder.parent / f".{folder.name}{_SUFFIX}"


def save(claim: Claim, path: Path) -> None:
    """Write a claim so that it is whole on the disk before anything follows from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(claim))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def found_in(home: Path) -> dict[Path, Claim]:
    """The claims of a task's folder, the oldest version's first. One that cannot be read is reported and removed."""
    claims: dict[Path, Claim] = {}
    for path in sorted(home.glob(f".v*{_SUFFIX}"), key=lambda path: (len(path.name), path.name)):
        try:
            claims[path] = msgspec.json.decode(path.read_bytes(), type=Claim)
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s cannot be read (%s); look at the vendor for jobs that are no longer wanted", path, error)
            path.unlink(missing_ok=True)
    return claims


def drop(path: Path) -> None:
    """Remove a claim: nothing of it is left at the vendor that anybody waits for."""
    path.unlink(missing_ok=True)
