"""Reading a log beside the process that writes it: states, money and stories from the file alone. Never writes."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec

from apprentice import reading
from apprentice.config import Config
from apprentice.errors import CallerError, UnknownRequest, UnknownTask
from apprentice.promising import promised_then
from apprentice.results import Explanation, Report
from apprentice.wiring import LOG_FILE, purse_settings, task_settings
from apprentice_actors.settings import PurseSettings, TaskSettings
from apprentice_events import replay, sqlite_file
from apprentice_events import vocabulary as v
from apprentice_events.evidence import Evidence
from apprentice_events.log import Record
from apprentice_events.spend import SpendState
from apprentice_events.sqlite import scan_file
from apprentice_events.task_state import TaskState, evolve

STREAM = "task/"


class Folded(msgspec.Struct, kw_only=True):
    """Everything that the records so far amount to. A fold for :func:`apprentice_events.replay.rebuild`."""

    spend: SpendState
    tasks: dict[str, TaskState] = msgspec.field(default_factory=dict)
    records: int = 0
    time_ns: int = 0
    """Of the last record."""

    def apply(self, record: Record, event: v.Event) -> None:
        """Take in the next record."""
        self.records, self.time_ns = record.position, record.time_ns
        if not record.stream.startswith(STREAM):
            return
        task = record.stream.removeprefix(STREAM)
        state = self.tasks.get(task)
        if state is None:
            state = self.tasks[task] = TaskState(task=task, evidence=Evidence())
        evolve(state, event, record.time_ns)
        self.spend.apply(task, event, record.time_ns)


def log_path(config: Config) -> Path:
    """Where the configuration keeps its log."""
    return config.storage.path / LOG_FILE


def fold(
    path: Path, config: Config | None = None, *, until_position: int | None = None, until_time_ns: int | None = None
) -> Folded:
    """All states as of a moment (the end, if none is given); days begin where ``config`` says, or in UTC."""
    zone = config.budget.timezone if config is not None else "UTC"
    folded = Folded(spend=SpendState(zone=zone))
    replay.rebuild(there(path), [folded], until_position=until_position, until_time_ns=until_time_ns)
    return folded


def report(folded: Folded, config: Config | None, now_ns: int) -> Report:
    """The report on folded states, judged by the settings in force then (the log says which), capped by ``config``."""
    purse = purse_settings(config) if config is not None else PurseSettings()
    states = [(state, _settings(state, config)) for state in folded.tasks.values()]
    return reading.report(states, folded.spend, purse, now_ns)


def _settings(state: TaskState, config: Config | None) -> TaskSettings:
    if state.config is not None:
        return msgspec.json.decode(state.config, type=TaskSettings)
    configured = config.task(state.task) if config is not None else None
    return task_settings(config, configured) if config is not None and configured else TaskSettings(task=state.task)


def find(report: Report, task: str | None) -> Report:
    """The report cut down to one task. Raises :class:`UnknownTask` if the log has none of this name."""
    if task is None:
        return report
    found = tuple(one for one in report.tasks if one.task == task)
    if not found:
        known = ", ".join(one.task for one in report.tasks) or "none yet"
        raise UnknownTask(f"the log has no task {task!r}; it has: {known}")
    return msgspec.structs.replace(report, tasks=found)


# ---------------------------------------------------------------- one request


def explain(path: Path, request: str) -> Explanation:
    """A request's story. Raises :class:`UnknownRequest`."""
    with _reader(path) as reader:
        records = sqlite_file.by_correlation(reader, request)
        if not records:
            raise UnknownRequest(
                f"no request {request!r} in {path}; `apprentice events --tag request_received` lists some"
            )
        events = [record.event() for record in records]
        received = next((event for event in events if isinstance(event, v.RequestReceived)), None)
        served = next((event for event in events if isinstance(event, v.ResponseServed)), None)
        return Explanation(
            request_id=request,
            task=records[0].stream.removeprefix(STREAM),
            summary=reading.summary(events),
            steps=tuple(reading.steps(zip(records, events, strict=True))),
            input=_body(reader, received.input) if received is not None else None,
            output=_body(reader, served.output) if served is not None else None,
            promise=promised_then(events, _judged(path, records[0])),
        )


def _judged(path: Path, first: Record) -> list[v.Event]:
    """What had been judged of the task before a request's ``first`` record."""
    past = scan_file(path, 0, first.stream, reading.JUDGED)
    return [record.event() for record in takewhile(lambda one: one.position < first.position, past)]


def request_of_key(path: Path, task: str, key: str) -> str:
    """The id of the latest request under ``key``. Raises :class:`UnknownRequest`."""
    with _reader(path) as reader:
        record = sqlite_file.find_key(reader, f"{STREAM}{task}", key)
    if record is None or record.correlation is None:
        raise UnknownRequest(f"the task {task} has no request under the key {key!r} in {path}; check both")
    return record.correlation


def _body(reader: sqlite3.Connection, digest: str) -> dict[str, Any] | None:
    found = sqlite_file.get_bodies(reader, (digest,))
    decoded: dict[str, Any] | None = msgspec.json.decode(found[digest]) if digest in found else None
    return decoded


# ---------------------------------------------------------------- many records


def records(
    path: Path, *, after: int = 0, task: str | None = None, request: str | None = None, tags: Sequence[str] = ()
) -> Iterator[Record]:
    """Records past ``after``, of one task, of one request, of some tags, where given."""
    if request is not None:
        with _reader(path) as reader:
            found = iter(sqlite_file.by_correlation(reader, request))
    else:
        found = scan_file(there(path), after, f"{STREAM}{task}" if task is not None else None, tags or None)
    for record in found:
        fits = request is None or ((not tags or record.tag in tags) and task in (None, record.stream[len(STREAM) :]))
        if fits and record.position > after:
            yield record


def last_position(path: Path) -> int | None:
    """The position of the last record; 0 in an empty log, None in one too damaged to say."""
    with _reader(path) as reader:
        try:
            return int(reader.execute("SELECT max(position) FROM records").fetchone()[0] or 0)
        except sqlite3.Error:
            return None


def there(path: Path) -> Path:
    """The path, if there is a log. Raises :class:`CallerError`."""
    if not path.is_file():
        raise CallerError(
            f"there is no log at {path} yet; the first request makes it: `apprentice run TASK INPUT`. "
            "A log elsewhere is named with --log FILE"
        )
    return path


@contextmanager
def _reader(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite_file.connect_reader(there(path))) as reader:
        yield reader
