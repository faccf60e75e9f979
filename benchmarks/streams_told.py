"""What ``python -m benchmarks streams`` says: how far it is, and tables of what was found."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from benchmarks.measuring import Row, show
from benchmarks.streams import Grid, Progress, run_stream
from benchmarks.streams_data import Source

COLUMNS = ("features", "kind", "level", "plays", "calls", "gold", "agreement", "selective", "recall_min", "recall_q1")


def watch(
    source: Source, grid: Grid, *, encoder: str, workers: int = 2, kept: Path | None = None, limit_s: float = inf
) -> dict[str, Any] | None:
    """Run a stream with a bar, then tell what was found; None where the stream is not there."""
    columns = (TextColumn(source.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.fields[last]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(source.name, last="", total=None)

        def step(progress: Progress) -> None:
            job, last = progress.last.job, progress.last
            told = f"{job.features} {job.kind} {job.level}: {last.calls:.1%} calls, agreement {last.agreement:.1%}"
            bar.update(task, completed=progress.done, total=progress.of, last=told)

        found = run_stream(source, grid, workers=workers, encoder=encoder, kept=kept, limit_s=limit_s, progress=step)
    if found is not None:
        tell(found)
    return found


def tell(found: dict[str, Any]) -> None:
    """The tables; a part that a stream does not have is left out."""
    gold = found["teacher_gold"]
    note = f"means of up to {found['shuffles']} shuffles of {found['requests']:,} requests; shares in percent"
    note += f"; {found['teacher']} throughout: {gold:.1%} on gold" if gold is not None else ""
    note += f"; {found['left_out']} plays left out for want of time" if found["left_out"] else ""
    columns = (*COLUMNS, "graduated", "false_certificates", "below")
    show(f"{found['stream']}: answers of {found['teacher']}", _percent(found["rows"], columns), note)
    show(f"{found['stream']}: the promise", [{"what": key, "found": value} for key, value in found["promise"].items()])
    for part, title in (("aims", "what was aimed at"), ("against", "beside published results")):
        if found[part]:
            show(f"{found['stream']}: {title}", _percent(found[part], tuple(found[part][0])))


def _percent(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    return [{name: _spelled(name, row[name]) for name in columns} for row in rows]


def _spelled(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" if isinstance(value, float) and name != "level" else str(value)
