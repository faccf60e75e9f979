"""How the figures of a rehearsal look."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from apprentice.faces.charts import curve
from apprentice.faces.look import bar, facts, money, money_line, phase_track, share
from apprentice.rehearsal_report import CurvePoint, Recall, RehearsalReport

CURVE_WIDTH, CURVE_HEIGHT = 60, 8
WORST = 10


def rehearsal_view(report: RehearsalReport) -> Group:
    """Everything that a rehearsal showed."""
    parts: list[RenderableType] = [
        Rule("what it came to", align="left"),
        phase_track(report.status.phase),
        facts(_figures(report)),
        Text(),
        Rule("remote calls per request, as the rehearsal went on", align="left"),
        curve_view(report.curve),
        Text(),
    ]
    if any(one.recall < 1 for one in report.recalls):
        parts += [Rule(f"where it is worst: agreement by recorded answer ({_least(report)})", align="left")]
        parts.append(recall_table(worst(report.recalls)))
    return Group(*parts)


def _figures(report: RehearsalReport) -> Iterable[tuple[str, RenderableType]]:
    yield "remote calls", bar(report.remote_share, f"{report.remote_calls:,} for {report.requests:,} requests", "red")
    yield "answered locally", bar(report.served_local / max(1, report.requests), f"{report.served_local:,} requests")
    yield "agreement", bar(report.agreement, "of all answers with the recorded ones")
    if report.agreement_local is not None:
        yield "… served locally", bar(report.agreement_local, "of the local answers, audited or not")
    if report.accuracy is not None:
        yield "accuracy", bar(report.accuracy, "against the gold answers")
        yield "… recorded model", bar(report.accuracy_remote, "its own, on the same requests")
    yield "mean recall", bar(report.recall_mean, f"over {len(report.recalls):,} recorded answers")
    yield "money", money_line(report.money)
    for error, count in report.errors.items():
        yield "not answered", Text(f"{count:,} × {error}", style="red")


def curve_view(points: tuple[CurvePoint, ...]) -> Group:
    """How many of the requests needed the remote model, piece by piece of the stream; 1 is every one."""
    rates = _rates(points)
    top = max(1.0, max(rates, default=1.0))
    lines = curve(rates, CURVE_WIDTH, CURVE_HEIGHT, top)
    marks = {0: f"{top:.1f}", len(lines) // 2: f"{top / 2:.1f}", len(lines) - 1: "0.0"}
    drawn = [Text.assemble((f"{marks.get(row, ''):>5} ┤", "dim"), (line, "red")) for row, line in enumerate(lines)]
    last = f"{points[-1].requests:,}" if points else "0"
    drawn.append(Text(f"      └{'─' * CURVE_WIDTH}\n       1{last:>{CURVE_WIDTH - 1}} requests", style="dim"))
    return Group(*drawn)


def _rates(points: tuple[CurvePoint, ...]) -> list[float]:
    rates, requests, calls = [], 0, 0
    for point in points:
        rates.append((point.remote_calls - calls) / max(1, point.requests - requests))
        requests, calls = point.requests, point.remote_calls
    return rates


def _least(report: RehearsalReport) -> str:
    shown = min(WORST, len(report.recalls))
    return f"{shown} of {len(report.recalls)}"


def worst(recalls: Iterable[Recall]) -> list[Recall]:
    """The ten answers that are missed most often."""
    return sorted(recalls, key=lambda one: (one.recall, -one.rows))[:WORST]


def recall_table(recalls: Iterable[Recall]) -> Table:
    """One line per recorded answer."""
    table = Table(box=None, padding=(0, 2), header_style="bold dim")
    table.add_column("recorded answer", overflow="fold")
    table.add_column("rows", justify="right")
    table.add_column("agreement")
    for one in recalls:
        table.add_row(Text(one.answer), f"{one.rows:,}", bar(one.recall, colour="yellow"))
    return table


def live_line(status_phase: str, local_share: float, agreement: float | None, spent: str) -> str:
    """What stands behind the progress bar."""
    agreed = f"agreement {share(agreement)}, " if agreement is not None else ""
    return f"{status_phase.replace('_', ' ')}, local {share(local_share)}, {agreed}spent {money(spent)}"
