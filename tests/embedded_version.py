"""A version of the embedded model on disk, and rows to make one from, for tests."""

from pathlib import Path

from apprentice.local.student import Student
from apprentice.training.versions import write_version
from apprentice_actors.ports import Example


def write(folder: Path, student: Student, version: str = "tickets@v1") -> str:
    """Write ``student`` as a version without a history; returns the sha256 of its manifest."""
    return write_version(
        folder,
        student.save,
        version=version,
        base="embedded",
        parent=None,
        dataset="",
        calibration="",
        settings={},
        metrics={},
        created="2026-01-01T00:00:00+00:00",
    )


def rows(count: int = 40) -> list[Example]:
    """Two kinds of tickets in turn, told apart by their words."""
    words = ("invoice refund", "crash error")
    return [
        Example(request=f"r{at}", input={"text": f"{words[at % 2]} {at}"}, output={"label": "ab"[at % 2]})
        for at in range(count)
    ]
