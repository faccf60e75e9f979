"""How versions look in a terminal: a table of all, and one from its data to the end of its service."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apprentice.faces.charts import curve as filled
from apprentice.faces.look import facts, money, share
from apprentice.lineage import Happening, Lineage
from apprentice.operating import Comparison
from apprentice.training.curves import Curve
from apprentice_events.vocabulary import DatasetStatistics, SliceScore

STATUS_STYLES: Mapping[str, str] = {
    "champion": "bold green",
    "rival": "cyan",
    "rejected": "red",
    "rolled_back": "red",
    "training": "magenta",
}
VALUES_MAX = 12
"""Counted values that are shown of each kind."""
CURVE_WIDTH, CURVE_HEIGHT = 48, 5


def versions_list(versions: Iterable[Lineage]) -> Table:
    """One line per version."""
    table = Table(header_style="bold")
    for name in ("version", "status", "cause"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "held-out score", "against", "took", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("triggered", no_wrap=True)
    for one in versions:
        verdict = one.verdict
        against = verdict.incumbent_score if verdict is not None else None
        table.add_row(
            Text(one.version, STATUS_STYLES.get(one.status, "")),
            Text(one.status.replace("_", " "), STATUS_STYLES.get(one.status, "dim")),
            one.cause.replace("_", " "),
            f"{one.rows_train:,}" if one.rows_train is not None else "–",
            share(verdict.score if verdict is not None else None, places=1),
            share(against, places=1),
            f"{one.seconds:,.1f} s" if one.seconds is not None else "–",
            money(one.cost) if one.cost is not None else "–",
            _when(one.triggered),
        )
    return table


def version_view(one: Lineage, curves: Mapping[str, Curve]) -> Group:
    """Everything about one version."""
    parts: list[RenderableType] = [facts(_facts(one))]
    if one.statistics is not None:
        parts += [Text(), Text("data", "bold"), facts(_data(one, one.statistics))]
    if one.metrics:
        told = [(name.replace("_", " "), f"{value:,.4g}") for name, value in one.metrics.items()]
        parts += [Text(), Text("measured in training", "bold"), facts(told)]
    for name, curve in curves.items():
        parts += [Text(), _curve(name, curve)]
    if one.verdict is not None:
        verdict = one.verdict
        overall = Overall(verdict.rows, verdict.score, verdict.incumbent_score)
        parts += [Text(), scores_table(one.version, verdict.incumbent, overall, verdict.slices)]
        parts.append(verdict_line(accepted=verdict.accepted, reason=verdict.reason))
    parts += [Text(), Text("life", "bold"), _life(one.history)]
    return Group(*parts)


def comparison_view(found: Comparison) -> Group:
    """What a comparison on held-out rows showed."""
    overall = Overall(found.rows, found.score, found.against_score)
    table = scores_table(found.version, found.against, overall, found.slices)
    return Group(table, verdict_line(accepted=found.accepted, reason=found.reason))


class Overall(NamedTuple):
    """Mean scores on all held-out rows."""

    rows: int
    score: float | None
    against_score: float | None


def scores_table(version: str, against: str | None, overall: Overall, slices: Sequence[SliceScore]) -> Table:
    """Both versions' mean scores on all held-out rows and on each slice."""
    table = Table(title="on held-out rows", title_justify="left", header_style="bold")
    table.add_column("slice")
    table.add_column("rows", justify="right")
    table.add_column(version, justify="right", no_wrap=True)
    if against is not None:
        table.add_column(against, justify="right", no_wrap=True)
        table.add_column("difference", justify="right")
    rows = [("all", *overall), *((one.tag, one.rows, one.score, one.incumbent_score) for one in slices)]
    for name, count, score, before in rows:
        cells: list[RenderableType] = [Text(name), f"{count:,}", share(score, places=1)]
        if against is not None:
            cells += [share(before, places=1), _difference(score, before)]
        table.add_row(*cells)
    return table


def verdict_line(*, accepted: bool, reason: str) -> Text:
    """The verdict and its reason."""
    word = ("accepted", "bold green") if accepted else ("rejected", "bold red")
    return Text.assemble(word, f": {reason}")


def _facts(one: Lineage) -> Iterable[tuple[str, RenderableType]]:
    yield "version", Text(one.version, "bold")
    yield "status", Text(one.status.replace("_", " "), STATUS_STYLES.get(one.status, "dim"))
    yield "cause", f"{one.cause.replace('_', ' ')}, at {one.examples:,} examples, {_when(one.triggered)}"
    yield "parent", one.parent or "none: the base model"
    if one.seconds is not None:
        yield "training", f"{one.seconds:,.1f} s, {money(one.cost or '0')}"
    if one.manifest:
        yield "manifest", Text(one.manifest, "dim")
    if one.failure is not None:
        yield "failed", Text(one.failure, "red")
    if one.live is not None:
        yield "live", Text(one.live, "cyan")


def _data(one: Lineage, told: DatasetStatistics) -> Iterable[tuple[str, RenderableType]]:
    yield "rows", f"{one.rows_train or 0:,} to train on, {one.rows_holdout or 0:,} held out, {told.fresh:,} of them new"
    yield "digest", Text(one.dataset or "", "dim")
    yield from statistics_facts(told)


def statistics_facts(told: DatasetStatistics) -> Iterable[tuple[str, RenderableType]]:
    """What a dataset is made of."""
    yield "sources", _counted(told.sources)
    if told.tags:
        yield "tags", _counted(told.tags)
    for field, values in told.labels.items():
        yield field, _counted(values)
    if told.left_out:
        yield "left out", Text(_counted(told.left_out), "yellow")


def _counted(counts: Mapping[str, int]) -> str:
    shown = [f"{count:,} {name}" for name, count in list(counts.items())[:VALUES_MAX]]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"{more} more"] if more > 0 else [])]) or "none"


def _difference(score: float | None, before: float | None) -> Text:
    if score is None or before is None:
        return Text("–", "dim")
    gain = score - before
    return Text(f"{gain:+.1%}", "green" if gain > 0 else "red" if gain < 0 else "dim")


def _curve(name: str, points: Curve) -> Group:
    values = [value for _, value in points]
    head = f"{name} loss: {values[0]:.3g} at step {points[0][0]:g}, {values[-1]:.3g} at step {points[-1][0]:g}"
    lines = filled(values, CURVE_WIDTH, CURVE_HEIGHT, top=max(values) or 1.0)
    return Group(Text(head, "bold"), *(Text(line, "magenta") for line in lines))


def _life(history: Iterable[Happening]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for one in history:
        table.add_row(_when(one.at), one.what, Text(one.reason))
    return table


def _when(at: str) -> str:
    return at.replace("T", " ")[:16]
