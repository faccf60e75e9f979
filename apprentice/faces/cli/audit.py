"""Commands that hold the log to its word: ``replay`` rebuilds every state from it, ``verify`` checks its chain."""

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from apprentice.errors import CallerError
from apprentice.faces import beside
from apprentice.faces.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    LogOption,
    Place,
    complain,
    note,
    place,
    put_json,
    show,
)
from apprentice.faces.look import facts, money_line, status_panel
from apprentice.reading import moment
from apprentice_events import replay as replaying
from apprentice_events.log import Head, Record
from apprentice_events.sqlite import scan_file

_HEAD = re.compile(r"(\d+):([0-9a-f]{64})")
_REPORT_EVERY = 4096


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Audit")(replay)
    app.command(rich_help_panel="Audit")(verify)


# ---------------------------------------------------------------- replay


def replay(
    until: Annotated[
        str | None,
        typer.Option(metavar="POSITION|TIME", help="As of this position, or this time such as 2026-01-31T12:00:00Z."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Rebuild twice from nothing and compare.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rebuild all state from the log, as of now or of any moment before. Nothing is written."""
    where = place(config, log)
    begun = time.monotonic()
    folded = _rebuilt(where, until)
    seconds = time.monotonic() - begun
    if check:
        _check(where, until, folded, as_json)
    elif as_json:
        put_json({"position": folded.records, "at": _at(folded), **_states(folded)})
    else:
        found = beside.report(folded, where.config, folded.time_ns)
        for one in found.tasks:
            show(status_panel(one))
        show(facts([("as of", f"position {folded.records:,}, {_at(folded)}"), ("money", money_line(found.money))]))
        note(f"rebuilt from {folded.records:,} records in {seconds:.2f} s")


def _rebuilt(where: Place, until: str | None) -> beside.Folded:
    position, time_ns = _moment(until)
    return beside.fold(where.log, where.config, until_position=position, until_time_ns=time_ns)


def _moment(until: str | None) -> tuple[int | None, int | None]:
    if until is None:
        return None, None
    if until.isdigit():
        return int(until), None
    try:
        parsed = dt.datetime.fromisoformat(until)
    except ValueError:
        raise CallerError(f"--until {until}: give a position such as 1200 or a time such as 2026-01-31T12:00") from None
    aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=dt.UTC)
    return None, int(aware.timestamp() * 1e9)


def _check(where: Place, until: str | None, first: beside.Folded, as_json: bool) -> None:
    second = _rebuilt(where, str(first.records) if until is None else until)  # the log may have grown meanwhile
    different = replaying.diff(_states(first), _states(second))
    if as_json:
        put_json({"identical": not different, "records": first.records, "differences": different})
    elif not different:
        show(Text(f"identical: two rebuilds from {first.records:,} records agree in every field", "bold green"))
    if different:
        complain(f"two rebuilds from the same {first.records:,} records differ:\n  " + "\n  ".join(different[:20]))
        raise typer.Exit(1)


def _states(folded: beside.Folded) -> dict[str, object]:
    return {
        "tasks": msgspec.to_builtins(folded.tasks, str_keys=True),
        "spend": msgspec.to_builtins(folded.spend, str_keys=True),
    }


def _at(folded: beside.Folded) -> str:
    return moment(folded.time_ns) if folded.records else "before the first record"


# ---------------------------------------------------------------- verify


def verify(
    head: Annotated[
        str | None,
        typer.Option(metavar="FILE|POSITION:HEX", help="A head noted earlier: makes a cut or rewritten log visible."),
    ] = None,
    save_head: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Note the head in this file; keep it somewhere else.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no record of the log was changed, removed or inserted. Names the first bad position."""
    path = place(config, log).log
    noted = _noted(head) if head is not None else None
    verdict = _verdict(path, noted)
    if verdict.ok and save_head is not None:
        save_head.write_text(f"{_spelled(verdict.head)}\n", encoding="utf-8")
    if as_json:
        put_json(
            {**msgspec.to_builtins(verdict), "head": _spelled(verdict.head), "held_against_a_head": head is not None}
        )
    elif verdict.ok:
        _good(verdict, noted, save_head)
    if not verdict.ok:
        complain(
            f"{path} is broken at position {verdict.first_bad_position}: {verdict.reason}. "
            f"The {verdict.records:,} records before it are good; restore the file from a copy that verifies"
        )
        raise typer.Exit(1)


def _good(verdict: replaying.Verdict, noted: Head | None, saved: Path | None) -> None:
    show(Text(f"intact: all {verdict.records:,} records follow from one another", "bold green"))
    show(facts([("head", Text(_spelled(verdict.head), "cyan", overflow="fold"))]))
    if noted is not None:
        show(
            Text(f"the chain holds the noted head at position {noted.position:,}: nothing up to there was cut", "green")
        )
    elif saved is None:
        show(
            Text(
                "Without a head noted earlier, a log whose last records were cut off looks intact too.\n"
                "Note it now with --save-head FILE, keep the file elsewhere, and give it to --head next time.",
                "yellow",
            )
        )
    if saved is not None:
        show(Text(f"head noted in {saved}; keep it where whoever can write the log cannot", "green"))


def _verdict(path: Path, noted: Head | None) -> replaying.Verdict:
    """The verdict, with a progress bar on a terminal. What looks bad on the way is looked at again, byte by byte."""
    errors = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("", total=beside.last_position(path))
        watched = _Watched(path, lambda done: progress.update(bar, completed=done))
        try:
            verdict = replaying.verify(watched, noted)
        except AttributeError:  # a damaged column holds something of another type
            return replaying.verify(path, noted)
    return verdict if verdict.ok else replaying.verify(path, noted)


class _Watched:
    """A log file that tells how far its reader is."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        self._path = path
        self._progress = progress

    def scan(self) -> Iterator[Record]:
        """Every record, in order."""
        for record in scan_file(self._path):
            if record.position % _REPORT_EVERY == 0:
                self._progress(record.position)
            yield record


def _noted(head: str) -> Head:
    text = head
    if not _HEAD.fullmatch(head):
        try:
            text = Path(head).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CallerError(f"--head {head} is neither POSITION:HEX nor a file that can be read: {error}") from None
    parts = _HEAD.fullmatch(text)
    if parts is None:
        raise CallerError(f"{head} holds no head; it should be one line POSITION:HEX as --save-head writes it")
    return Head(int(parts[1]), bytes.fromhex(parts[2]))


def _spelled(head: Head) -> str:
    return f"{head.position}:{head.digest.hex()}"
