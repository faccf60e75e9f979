"""How statuses, reports and explanations look in a terminal: rich renderables of plain values, nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from apprentice.faces.charts import meter, sparkline
from apprentice.results import Explanation, Money, Report, Status, Step, TeacherStatus, VersionStatus, Window

PHASES = ("cold_start", "reinforcement", "steady_state")
PHASE_COLOURS: Mapping[str, str] = {"cold_start": "cyan", "reinforcement": "yellow", "steady_state": "green"}
PHASE_WORDS: Mapping[str, str] = {
    "cold_start": "the remote model answers; examples are collected",
    "reinforcement": "the remote model answers; the local one is compared on every request",
    "steady_state": "the local model answers what it is certified for; the rest goes to the remote",
}
METER_WIDTH = 24


def share(value: float | None, *, places: int = 0) -> str:
    """A share as a percentage; a dash where it is not known. Only all is 100%, and only nothing is 0%."""
    if value is None:
        return "–"
    text = f"{value:.{places}%}"
    if text == f"{1:.{places}%}" and value < 1:
        return f">{1 - 10 ** -(places + 2):.{places}%}"
    if text == f"{0:.{places}%}" and value > 0:
        return f"<{10 ** -(places + 2):.{places}%}"
    return text


def money(amount: str, places: int = 4) -> str:
    """Dollars rounded for reading; the exact amount is in the JSON."""
    return f"${float(amount):,.{places}f}"


def facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names at the left, what they are at the right."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, what in rows:
        table.add_row(Text(name), Text(what) if isinstance(what, str) else what)  # no text is taken for markup
    return table


def phase_track(phase: str) -> Text:
    """All three phases in a row, the present one marked."""
    track = Text()
    for index, name in enumerate(PHASES):
        if index:
            track.append(" ── ", style="dim")
        words = name.replace("_", " ")
        here = name == phase
        track.append(f"● {words}" if here else f"○ {words}", style=f"bold {PHASE_COLOURS[name]}" if here else "dim")
    return track


def bar(value: float | None, note: str = "", colour: str = "green") -> Text:
    """A meter with its percentage and a note behind it."""
    return Text.assemble(
        (meter(value or 0.0, METER_WIDTH), f"{colour} on grey23"),
        f" {share(value):>5}",
        (f"  {note}" if note else "", "dim"),
    )


# ---------------------------------------------------------------- one task


def status_panel(status: Status) -> Panel:
    """One task in a frame."""
    parts: list[RenderableType] = [
        phase_track(status.phase),
        Text(PHASE_WORDS[status.phase], style="dim italic"),
        Text(),
    ]
    parts.append(facts(_status_facts(status)))
    if status.versions:
        parts += [Text(), versions_table(status.versions)]
    colour = PHASE_COLOURS[status.phase]
    return Panel(Group(*parts), title=f"[bold]{status.task}[/]", title_align="left", border_style=colour)


def _status_facts(status: Status) -> Iterable[tuple[str, RenderableType]]:
    served = status.served_local + status.served_remote
    yield "answered locally", bar(status.local_share, f"{status.served_local:,} of {served:,}")
    yield "agreement", _agreement(status)
    yield from _promise(status)
    yield "correlation", _correlation(status)
    yield "audit rate", bar(status.sampling_rate, _audits(status), "blue")
    yield "money", money_line(status.money)
    yield "requests", _requests(status)
    yield "examples", f"{status.examples:,} to train on, {status.held_out:,} held out"
    yield "models", _models(status)
    if len(status.teachers) > 1 or status.withheld:
        yield "teachers", teachers_table(status.teachers)
    if status.withheld:
        why = "remote answers were not collected as examples: their provider's terms forbid it"
        yield "withheld", Text(f"{status.withheld:,} {why}", style="yellow")
    if status.coaching is not None:
        yield "coaching", Text(status.coaching, style="yellow")
    for name, message in status.alerts.items():
        yield "alert", Text.assemble((name, "bold red"), f": {message}")


def _agreement(status: Status) -> Text:
    text = Text(f"{share(status.agreement_local, places=1)} of local answers")
    text.append(between(status.agreement_local_low, status.agreement_local_high), style="dim")
    text.append(f", {share(status.agreement_served, places=1)} of all answers")
    text.append(between(status.agreement_served_low, status.agreement_served_high), style="dim")
    text.append(f"   {share(status.agreement, places=1)} of everything compared", style="dim")
    return text


def between(low: float | None, high: float | None) -> str:
    """Bounds in brackets, with a space before them; nothing where they are not known."""
    if low is None or high is None:
        return ""
    return f" ({share(low, places=1)} to {share(high, places=1)})"


def _promise(status: Status) -> Iterable[tuple[str, RenderableType]]:
    promise = status.promise
    yield "promised", Text(promise.says, style="green" if promise.gate is not None else "yellow")
    if promise.unreachable is not None:
        yield "out of reach", Text(_out_of_reach(status), style="bold red")
    if promise.gate is not None:
        gate = f"gate {promise.gate:g}: answers with p_agree ≥ {promise.gate:g}; certified steps: "
        steps = ", ".join(f"{step:g}" for step in promise.certified)
        bound = f"; lower bound for all steps at all times {share(status.confidence, places=1)}"
        yield "certified", Text(f"{gate}{steps}{bound}", style="dim")
    yield "evidence", promise.evidence
    if status.self_agreement is not None:
        told = f"{share(status.self_agreement, places=1)} when {status.asked_twice:,} questions were asked twice"
        bounds = between(status.self_agreement_low, status.self_agreement_high)
        yield "remote itself", Text.assemble(f"agrees with itself in {told}", (bounds, "dim"))
    yield "what changes it", Text(promise.changes, style="dim")
    if status.unusual_inputs is not None:
        told = f"about {share(status.unusual_inputs)} look unlike those trained on (5% is usual); a hint only"
        yield "recent inputs", Text(told, style="dim")


def _out_of_reach(status: Status) -> str:
    at_most = share(status.self_agreement_high, places=1)
    return f"{share(status.promise.agreement)} is more than the remote model holds to itself ({at_most} at the most)"


def _correlation(status: Status) -> Text:
    if status.correlation is None:
        return Text(f"– ({status.correlation_is})", style="dim")
    text = Text(f"{status.correlation:.3f}")
    text.append(
        f"  between {status.correlation_low:.3f} and {status.correlation_high:.3f}; {status.correlation_is}", "dim"
    )
    return text


def _audits(status: Status) -> str:
    if status.phase != "steady_state":
        return "every request is compared" if status.phase == "reinforcement" else "nothing to compare yet"
    missed = f", {status.audits_missed:,} missed" if status.audits_missed else ""
    return f"of local answers are checked, heading for {share(status.sampling_target)}{missed}"


def _requests(status: Status) -> Text:
    text = Text(f"{status.requests:,}")
    for count, what, style in (
        (status.in_flight, "in flight", "dim"),
        (status.degraded, "degraded", "yellow"),
        (status.failed, "failed", "red"),
    ):
        if count:
            text.append(f", {count:,} {what}", style=style)
    return text


def _models(status: Status) -> Text:
    text = Text(f"remote {status.remote_model or '–'}, local {status.champion or 'none yet'}")
    if status.rival is not None:
        text.append(f", challenged by {status.rival}", style="cyan")
    if status.training is not None:
        text.append(f", training {status.training}", style="magenta")
    return text


def money_line(spent: Money) -> Text:
    """What was spent, and what it would have been."""
    text = Text.assemble((money(spent.spent), "bold"), " spent, ", (money(spent.saved), "bold green"), " saved")
    text.append(f"   {money(spent.would_have_been)} all remote; {spent.remote_calls:,} remote calls", style="dim")
    return text


def teachers_table(teachers: Iterable[TeacherStatus]) -> Table:
    """All remote models of a task: may they teach, can they be asked, what did they do and cost."""
    table = Table(box=None, padding=(0, 1), header_style="bold dim")
    for name in ("teacher", "may teach", "circuit"):
        table.add_column(name)
    for name in ("calls", "answers", "withheld", "spent"):
        table.add_column(name, justify="right")
    styles = {"allowed": "green", "disallowed": "red", "unknown": "yellow"}
    for one in teachers:
        circuit = Text(one.circuit or "–", "dim" if one.circuit in (None, "closed") else "bold red")
        numbers = (f"{one.calls:,}", f"{one.answers:,}", f"{one.withheld:,}", money(one.spent))
        table.add_row(Text(one.name), Text(one.licence, styles.get(one.licence, "dim")), circuit, *numbers)
    return table


def versions_table(versions: Iterable[VersionStatus]) -> Table:
    """All versions of a task."""
    styles = {"champion": "bold green", "rival": "cyan", "rejected": "red", "training": "magenta"}
    table = Table(box=None, padding=(0, 2), header_style="bold dim")
    for name, justify in (("version", "left"), ("status", "left"), ("examples", "right"), ("held-out score", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for one in versions:
        style = styles.get(one.status, "dim")
        table.add_row(Text(one.name, style), Text(one.status, style), f"{one.examples:,}", share(one.score, places=1))
    return table


# ---------------------------------------------------------------- everything


def report_view(report: Report) -> Group:
    """All tasks, the money, the caps."""
    table = Table(title=f"Report of {report.at}", title_justify="left", header_style="bold", caption_justify="left")
    table.caption = "agreement of local answers; in brackets, of everything compared"
    table.add_column("task", no_wrap=True)
    table.add_column("phase")
    for name in ("requests", "local", "agreement", "audited", "spent", "saved"):
        table.add_column(name, justify="right")
    for one in report.tasks:
        table.add_row(
            one.task,
            Text(one.phase.replace("_", " "), PHASE_COLOURS[one.phase]),
            f"{one.requests:,}",
            share(one.local_share),
            share(one.agreement_local, places=1)
            if one.served_local
            else Text(f"({share(one.agreement, places=1)})", "dim"),
            share(one.sampling_rate),
            money(one.money.spent),
            money(one.money.saved),
        )
    caps = [(name, Text(told)) for name, told in report.caps.items()]
    alerts = [(one.task, Text(text, "red")) for one in report.tasks for text in one.alerts.values()]
    promised = [(one.task, _promised(one)) for one in report.tasks]
    parts: list[RenderableType] = [table, facts([("all tasks", money_line(report.money)), *caps]), Text()]
    parts += [Text("what is promised, and what is known", "bold"), facts(promised)]
    if report.trajectory.days:
        parts += [Text(), trajectory_table(report)]
    for one in (one for one in report.tasks if one.withheld or len(one.teachers) > 1):
        parts += [Text(), Text(f"teachers of {one.task}", "bold"), teachers_table(one.teachers)]
    if alerts:
        parts += [Text(), Text("alerts", style="bold red"), facts(alerts)]
    return Group(*parts)


def _promised(status: Status) -> Text:
    """The promise, both agreements with their bounds, and what stands against it."""
    text = Text(status.promise.says)
    text.append("\n").append_text(_agreement(status))
    text.append(f"\n{status.promise.evidence}", "dim")
    if status.promise.unreachable is not None:
        text.append(f"\nOut of reach: {_out_of_reach(status)}.", "bold red")
    return text


def trajectory_table(report: Report) -> Table:
    """Per task and for all: spend, savings and the remote share, day by day, week by week, month by month."""
    table = Table(title="so far", title_justify="left", header_style="bold dim", caption_justify="left")
    table.caption = "one bar per window, the present one last; the bars of a row are relative to its highest"
    for name in ("task", "by", "spent", "saved", "remote share"):
        table.add_column(name, no_wrap=True)
    rows = [(one.task, one.trajectory) for one in report.tasks]
    for task, way in rows if len(rows) == 1 else [*rows, ("all tasks", report.trajectory)]:
        for kind, windows in (("day", way.days), ("week", way.weeks), ("month", way.months)):
            table.add_row(Text(task if kind == "day" else ""), kind, *_bars(windows))
    return table


def _bars(windows: Sequence[Window]) -> Iterable[Text]:
    """Bars of each figure, with its value in the present window behind them."""
    if not windows:
        return
    now = windows[-1]
    for values, told, style, top in (
        ([float(one.spent) for one in windows], money(now.spent), "red", None),
        ([float(one.saved) for one in windows], money(now.saved), "green", None),
        ([one.remote_share or 0.0 for one in windows], share(now.remote_share), "blue", 1.0),
    ):
        yield Text.assemble((sparkline(values, top), style), f" {told}")


# ---------------------------------------------------------------- one request


def explanation_view(told: Explanation) -> Group:
    """A request's story from top to bottom."""
    head = facts(
        [
            ("request", told.request_id),
            ("task", told.task),
            ("in short", Text(told.summary, style="bold")),
            ("promise", Text(told.promise or "none: there is no answer")),
            ("input", body(told.input)),
            ("output", body(told.output)),
        ]
    )
    return Group(head, Text(), steps_tree(told.steps))


def body(value: Any) -> Text:
    """A body as JSON, or that it is gone."""
    if value is None:
        return Text("none, or erased", style="dim")
    return Text(msgspec.json.encode(value).decode(), style="cyan")


def steps_tree(steps: Iterable[Step]) -> Tree:
    """What happened, one branch per event."""
    tree = Tree(Text("what happened", style="bold"), guide_style="dim")
    for step in steps:
        line = Text.assemble((clock_time(step.at), "dim"), "  ", (f"{step.event:<22}", event_style(step.event)), " ")
        tree.add(line.append(step.says))
    return tree


def clock_time(moment: str) -> str:
    """The time of day in an ISO 8601 moment, to the millisecond."""
    return moment.partition("T")[2][:12]


def event_style(tag: str) -> str:
    """The colour of an event: red for what went wrong, green for what was served, blue for judgement …"""
    kinds = (
        (("failed", "rejected", "revoked", "rolled_back", "exhausted", "alert_raised", "missed"), "red"),
        (("served",), "bold green"),
        (("phase", "gate", "certificate", "sampling", "coaching", "drift", "shift"), "bold yellow"),
        (("training", "adapter", "example"), "magenta"),
        (("budget",), "dim"),
        (("remote",), "blue"),
        (("local",), "green"),
    )
    return next((style for parts, style in kinds if any(part in tag for part in parts)), "white")
