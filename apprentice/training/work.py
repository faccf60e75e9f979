"""The folder beside a version in the making, ``.vN.work/``: it holds the checkpoint from which a job can go on.

A job that was cut off is asked for again under the next version number. Jobs are therefore recognised by a fingerprint
of what determines them, and a folder that belongs to no job any more is removed when the next one of its task begins.
"""

import json
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"\.v[0-9]{1,9}\.work")
_FINGERPRINT = "fingerprint"
STATE = Path("checkpoint") / "state.json"
"""The part of a checkpoint that is read here: ``seed``, ``step`` and ``seconds``, as JSON."""


def work_folder(version: Path) -> Path:
    """Where the work for the version in the folder ``version`` lies."""
    return version.parent / f".{version.name}.work"


def open_work(version: Path, fingerprint: str, busy: set[Path]) -> Path:
    """A folder for a job, with the checkpoint of an earlier one if it was the same job; others' leavings are removed.

    ``busy`` are the folders of jobs under way, which are left alone.
    """
    work = work_folder(version)
    version.parent.mkdir(parents=True, exist_ok=True)
    idle = [found for found in version.parent.iterdir() if _NAME.fullmatch(found.name) and found not in busy]
    same = next((found for found in sorted(idle) if resumable(found) and _read(found) == fingerprint), None)
    for found in idle:
        if found != same:
            shutil.rmtree(found, ignore_errors=True)
    if same is not None:
        same.rename(work)
    work.mkdir(exist_ok=True)
    (work / _FINGERPRINT).write_text(fingerprint, encoding="ascii")
    return work


def close_work(work: Path, *, keep: bool) -> None:
    """Remove a job's folder, unless it was interrupted (``keep``) and left something to go on from."""
    if not (keep and resumable(work)):
        shutil.rmtree(work, ignore_errors=True)


def resumable(work: Path) -> bool:
    """Whether there is a checkpoint."""
    return bool(state(work))


def state(work: Path) -> dict[str, float]:
    """Seed, step and seconds of the checkpoint; empty without a readable one."""
    try:
        found = json.loads((work / STATE).read_bytes())
        return {name: found[name] for name in ("seed", "step", "seconds")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _read(work: Path) -> str | None:
    path = work / _FINGERPRINT
    return path.read_text(encoding="ascii") if path.is_file() else None
