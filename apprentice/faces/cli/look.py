"""Commands that read the log beside whoever writes it: ``status``, ``report``, ``why``, ``events``."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from apprentice.errors import CallerError
from apprentice.faces import beside
from apprentice.faces.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    LogOption,
    Place,
    console,
    place,
    put_json,
    show,
)
from apprentice.faces.look import clock_time, event_style, explanation_view, report_view, status_panel
from apprentice.reading import moment
from apprentice.results import Report
from apprentice.system import SystemClock
from apprentice.telling import tell
from apprentice_events.log import Record
from apprentice_events.vocabulary import EVENTS

FOLLOW_S = 0.5
WORDS_MAX = 240
"""Characters of an event's words; a whole configuration is longer."""

TaskOption = Annotated[str | None, typer.Option("--task", "-t", metavar="TASK", help="Only this task.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, report, why, events):
        app.command(rich_help_panel="Look")(command)


def _report(where: Place, task: str | None) -> Report:
    folded = beside.fold(where.log, where.config)
    return beside.find(beside.report(folded, where.config, SystemClock().now_ns()), task)


def status(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Only this task.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where each task stands: phase, gate, agreement, audits, money, versions.

    Read from the log alone, also while another process is at work on it.
    """
    found = _report(place(config, log), task)
    if as_json:
        put_json(found.tasks[0] if task is not None else found.tasks)
        return
    for one in found.tasks:
        show(status_panel(one))
    if not found.tasks:
        show(Text("no task has received anything yet", "dim"))


def report(config: ConfigOption = DEFAULT_CONFIG, log: LogOption = None, as_json: JsonOption = False) -> None:
    """Show all tasks and the money in one table."""
    found = _report(place(config, log), None)
    if as_json:
        put_json(found)
    else:
        show(report_view(found))


def why(
    request: Annotated[str, typer.Argument(metavar="REQUEST_ID", help="A request id, or with --task its key.")],
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="TASK", help="Look for a key of this task.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of one request: who answered, why, what it cost, what was compared."""
    where = place(config, log)
    name = request if task is None else beside.request_of_key(where.log, task, request)
    told = beside.explain(where.log, name)
    if as_json:
        put_json(told)
    else:
        show(explanation_view(told))


def events(
    task: TaskOption = None,
    request: Annotated[str | None, typer.Option("--request", "-r", metavar="ID", help="Only this request.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Only events of this kind; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="The newest N; 0 for all.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones, until interrupted.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events of the log in words, oldest first."""
    tags = _known(tag or [])
    path = place(config, log).log
    newest: Iterable[Record] = beside.records(path, task=task, request=request, tags=tags)
    last = 0
    for record in deque(newest, maxlen=limit) if limit else newest:
        _put(record, as_json)
        last = record.position
    while follow:
        for record in _after(path, last, task, request, tags):
            _put(record, as_json)
            last = record.position
        time.sleep(FOLLOW_S)


def _after(path: Path, last: int, task: str | None, request: str | None, tags: list[str]) -> Iterator[Record]:
    return beside.records(path, after=last, task=task, request=request, tags=tags)


def _known(tags: list[str]) -> list[str]:
    for tag in tags:
        if tag not in EVENTS:
            close = [name for name in EVENTS if any(part in name for part in tag.split("_"))]
            hint = f"; close to it: {', '.join(close)}" if close else f"; there are: {', '.join(EVENTS)}"
            raise CallerError(f"there is no event {tag!r}{hint}")
    return tags


def _put(record: Record, as_json: bool) -> None:
    if as_json:
        put_json(_plain(record), indent=False)
        return
    at = moment(record.time_ns)
    who = record.correlation or record.stream
    line = Text.assemble(
        (f"{record.position:>7} ", "dim"),
        (f"{at.partition('T')[0]} {clock_time(at)} ", "dim"),
        (f"{who:<24} ", "cyan"),
        (f"{record.tag:<22} ", event_style(record.tag)),
    )
    words = tell(record.event())
    line.append(words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]}… (all of it with --json)")
    console().print(line, soft_wrap=True)


def _plain(record: Record) -> dict[str, Any]:
    return {
        "position": record.position,
        "stream": record.stream,
        "version": record.version,
        "event": record.tag,
        "at": moment(record.time_ns),
        "request": record.correlation,
        "key": record.key,
        "fields": msgspec.to_builtins(record.event()),
    }
