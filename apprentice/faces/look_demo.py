"""How the demo looks while it runs, and at its end."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from apprentice.demo import Bucket, Ending, Frame
from apprentice.demo_folder import MAIN_TASK, SIDE_TASK
from apprentice.faces.charts import sparkline
from apprentice.faces.look import (
    PHASE_COLOURS,
    PHASE_WORDS,
    bar,
    clock_time,
    event_style,
    facts,
    money,
    money_line,
    phase_track,
    share,
)
from apprentice.reading import moment
from apprentice.results import Status
from apprentice.telling import tell
from apprentice_events import vocabulary as v
from apprentice_events.log import Record

NEWS = 7
"""Lines of news in the live display."""


def live_view(frame: Frame) -> Panel:
    """The demo at one moment, always the same height."""
    main, side = _task(frame, MAIN_TASK), _task(frame, SIDE_TASK)
    parts: list[RenderableType] = [
        phase_track(main.phase),
        Text(PHASE_WORDS[main.phase], style="dim italic"),
        Text(),
        facts(
            [
                ("requests", bar(frame.done / max(1, frame.total), f"{frame.done:,} of {frame.total:,}", "cyan")),
                ("answered locally", _local_line(frame.buckets)),
                ("spent per 100", _spent_line(frame.buckets)),
                ("audit rate", bar(main.sampling_rate, _audit_words(main), "blue")),
                ("gate", _gate_words(main)),
                ("agreement", _agreement_words(main)),
                ("models", _model_words(main)),
                ("money", money_line(frame.report.money)),
                (SIDE_TASK, Text(f"{side.phase.replace('_', ' ')}, {side.requests:,} requests", style="dim")),
            ]
        ),
        Rule("what just happened", style="dim", align="left"),
        *_news(frame.story),
    ]
    title = f"[bold]apprentice demo[/] · {MAIN_TASK}"
    return Panel(Group(*parts), title=title, title_align="left", border_style=PHASE_COLOURS[main.phase])


def plain_line(frame: Frame) -> str:
    """The demo at one moment in one line, for output that is no terminal."""
    main = _task(frame, MAIN_TASK)
    last = _recent(frame.buckets)
    gate = "closed" if main.promise.gate is None else f"{main.promise.gate:g}"
    return (
        f"{frame.done:>5,} of {frame.total:,}  {main.phase:<13}  local {_rate(last):>4} of the last {last.requests}  "
        f"audits {main.sampling_rate:>4.0%}  gate {gate:<6}  spent {money(frame.report.money.spent)}"
    )


def news_line(record: Record) -> Text:
    """One piece of news."""
    event = record.event()
    task = record.stream.removeprefix("task/")
    line = Text.assemble(
        (clock_time(moment(record.time_ns))[:8], "dim"), " ", (f"{record.tag:<20}", event_style(record.tag)), " "
    )
    words = tell(event).replace(f"{task}@", "")
    return line.append(words if task == MAIN_TASK else f"{task}: {words}")


def ending_view(ending: Ending) -> Group:
    """What it came to."""
    frame = ending.frame
    main, buckets = _task(frame, MAIN_TASK), frame.buckets
    full = [bucket for bucket in buckets if bucket.requests == 100] or list(buckets)
    rows: list[tuple[str, RenderableType]] = [_phase_row(record) for record in ending.phases]
    rows += [
        ("answered locally", _local_line(buckets)),
        ("spent per 100", _spent_line(full)),
        ("money", money_line(frame.report.money)),
        ("promised", Text(f"≥ {share(main.promise.agreement)} agreement of local answers")),
        ("estimated", _estimate(main, ending)),
        ("in truth", _truth(ending)),
    ]
    return Group(Rule("what it came to", align="left"), facts(rows))


def _task(frame: Frame, name: str) -> Status:
    return next(one for one in frame.report.tasks if one.task == name)


def _phase_row(record: Record) -> tuple[str, RenderableType]:
    event = record.event()
    assert isinstance(event, v.PhaseChanged), "the ending lists changes of phase only"
    when = clock_time(moment(record.time_ns))[:8]
    return event.after.replace("_", " "), Text.assemble((f"since {when}: ", "dim"), event.reason)


def _recent(buckets: Sequence[Bucket]) -> Bucket:
    """The last hundred requests that are worth a percentage: the present ones once they are half."""
    if len(buckets) > 1 and buckets[-1].requests < 50:
        return buckets[-2]
    return buckets[-1] if buckets else Bucket()


def _rate(bucket: Bucket) -> str:
    return share(bucket.local / bucket.requests if bucket.requests else 0.0)


def _local_line(buckets: Sequence[Bucket]) -> Text:
    values = [bucket.local / max(1, bucket.requests) for bucket in buckets]
    last = _recent(buckets)
    return Text.assemble((sparkline(values, 1.0), "green"), f"  {_rate(last)} of the last {last.requests}")


def _spent_line(buckets: Sequence[Bucket]) -> Text:
    values = [100 * bucket.spent / max(1, bucket.requests) for bucket in buckets]
    line = Text.assemble((sparkline(values), "red"))
    if values:
        last = _recent(buckets)
        now = 100 * last.spent / max(1, last.requests)
        line.append(f"  {money(str(now))} now, {money(str(values[0]))} at first")
    return line


def _audit_words(status: Status) -> str:
    if status.phase != "steady_state":
        return "of requests go to the remote model"
    return "of the local answers are checked with the remote model"


def _gate_words(status: Status) -> Text:
    if status.promise.gate is None:
        return Text(f"closed; {status.promise.comparisons:,} comparisons so far", style="yellow")
    gate = "everything" if status.promise.gate == 0 else f"answers with p_agree ≥ {status.promise.gate:g}"
    return Text(f"open for {gate}", style="green")


def _agreement_words(status: Status) -> Text:
    text = Text(f"{share(status.agreement_local, places=1)} of local answers")
    kept = "promised" if status.promise.gate is None else "certified"
    return text.append(f"  at least {share(status.promise.agreement)} {kept}", style="dim")


def _model_words(status: Status) -> Text:
    text = Text(status.champion or "no local version yet")
    if status.training is not None:
        text.append(f", training {status.training}", style="magenta")
    elif status.rival is not None:
        text.append(f", challenged by {status.rival}", style="cyan")
    return text


def _news(story: Sequence[Record]) -> list[Text]:
    lines = [news_line(record) for record in story[-NEWS:]]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines + [Text()] * (NEWS - len(lines))


def _estimate(main: Status, ending: Ending) -> Text:
    text = Text(f"{share(main.agreement_local, places=1)} from {ending.audited_local:,} audits of local answers")
    return text.append("  (all that a real runtime sees)", style="dim")


def _truth(ending: Ending) -> Text:
    if ending.agreement_local is None:
        return Text("no local answer was served; give it more --requests", style="yellow")
    text = Text(f"{share(ending.agreement_local, places=1)} over all {ending.served_local:,} local answers")
    same = share(ending.same_local / ending.served_local, places=1)
    return text.append(f", {same} of them the same in every compared field  (only a demo can know)", style="dim")
