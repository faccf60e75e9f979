import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from apprentice_events import replay, sqlite_file, sqlite_writer
from apprentice_events.bodies import make_body
from apprentice_events.errors import LogBusy, LogClosed, LogCorrupt, LogPoisoned, NotALog
from apprentice_events.log import Entry
from apprentice_events.sqlite import SqliteLog, scan_file
from apprentice_events.vocabulary import CoachingEnded

SALT = b"0123456789abcdef"
SIDES = ("", "-wal", "-shm", ".lock")


def ended(reason: str = "over") -> Entry:
    return Entry(CoachingEnded(reason=reason))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "log.db"


@pytest.fixture
async def log(path):
    async with SqliteLog.open(path) as opened:
        yield opened


class Failing:
    """The writer's connection, failing at one statement like a disk that is gone."""

    def __init__(self, connection, statement):
        self._connection = connection
        self._statement = statement

    def execute(self, statement, *arguments):
        if statement.startswith(self._statement):
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, *arguments)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def sides(path):
    return [path.with_name(path.name + side) for side in SIDES]


@pytest.mark.skipif(os.name != "posix", reason="file modes")
async def test_nobody_else_may_read_the_files(path):
    before = os.umask(0)
    try:
        async with SqliteLog.open(path) as log:
            await log.append("a", 0, [ended()], time_ns=1)
            assert [stat.S_IMODE(side.stat().st_mode) for side in sides(path)] == [0o600] * 4
    finally:
        os.umask(before)


async def test_a_reopened_log_goes_on_where_it_ended(path):
    async with SqliteLog.open(path) as log:
        await log.append("a", 0, [ended(), ended()], time_ns=1)
        head, epoch = await log.head(), log.epoch
    async with SqliteLog.open(path) as log:
        assert await log.head() == head
        assert log.epoch == epoch + 1
        assert (await log.append("a", 2, [ended()], time_ns=2)).last == 3
    assert replay.verify(path, head).records == 3


async def test_closing_leaves_one_file_with_everything(path, log):
    await log.append("a", 0, [ended()], time_ns=1)
    await log.close()
    assert not path.with_name("log.db-wal").exists()
    assert [record.position for record in scan_file(path)] == [1]


def test_the_version_of_sqlite_is_there_to_be_noted(path):
    log = SqliteLog.open(path)
    assert log.sqlite_version == sqlite3.sqlite_version
    asyncio.run(log.close())


async def test_a_second_writer_is_refused_while_the_first_lives(path, log):
    with pytest.raises(LogBusy, match=f"written by process {os.getpid()}"):
        SqliteLog.open(path)
    await log.append("a", 0, [ended()], time_ns=1)
    await log.close()
    await SqliteLog.open(path).close()


async def test_a_second_process_is_refused_and_told_who_holds_the_log(path, log):
    program = f"from apprentice_events.sqlite import SqliteLog; SqliteLog.open({str(path)!r})"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"LogBusy: the log {path} is being written by process {os.getpid()}" in done.stderr


@pytest.mark.parametrize("content", [b"x" * 5000, b"hello"])
def test_a_file_of_something_else_is_not_touched(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(NotALog, match="cannot be read as a log"):
        SqliteLog.open(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else_is_not_touched(path):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    for refused in (lambda: SqliteLog.open(path), lambda: next(scan_file(path))):
        with pytest.raises(NotALog, match="database of something else"):
            refused()
    path.unlink()
    path.touch()
    with pytest.raises(NotALog, match="empty database"):
        next(scan_file(path))


async def test_a_newer_format_is_named(path, log):
    await log.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET format = 99")
    with pytest.raises(NotALog, match="log format 99, this version knows 1"):
        SqliteLog.open(path)
    with pytest.raises(NotALog, match="99"):
        SqliteLog.open(path)  # and not LogBusy: the failed opening let go of the lock


@pytest.mark.parametrize("value", ["zeroblob(3)", "'text'", "CAST(x'ff' AS TEXT)", "-1"])
async def test_a_column_of_another_type_is_corruption(path, log, value):
    await log.append("a", 0, [ended()], time_ns=1)
    await log.close()
    for column in ("stream", "time_ns", "payload", "correlation"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE records SET {column} = {value}")
        with pytest.raises(LogCorrupt):
            SqliteLog.open(path)


@pytest.mark.parametrize("position", [1, 2, 3])
async def test_a_damaged_tail_is_found_on_opening(path, log, position, monkeypatch):
    await log.append("a", 0, [ended(), ended(), ended()], time_ns=1)
    await log.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET time_ns = 2 WHERE position = ?", (position,))
    with pytest.raises(LogCorrupt, match=f"position {position}"):
        SqliteLog.open(path)
    monkeypatch.setattr(sqlite_file, "TAIL_ROWS", 1)
    if position == 1:  # too far back for the quick check, which is what the full one is for
        await SqliteLog.open(path).close()
        assert replay.verify(path).first_bad_position == 1


async def test_readers_cannot_write(log):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await log._look_up(lambda reader: reader.execute("DELETE FROM records"))


@pytest.mark.parametrize(
    "statement", ["COMMIT", "BEGIN", "INSERT OR ROLLBACK INTO records", "INSERT OR IGNORE INTO bodies"]
)
async def test_a_failed_commit_poisons_the_log_for_good(path, log, statement):
    await log.append("a", 0, [ended()], time_ns=1)
    writer, whole = log._writer, log._writer._connection
    writer._connection = Failing(whole, statement)
    waiting = [log.append(f"s{n}", 0, [ended()], time_ns=2, bodies=[make_body(b"x", SALT)]) for n in range(20)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, LogPoisoned) and "disk I/O error" in str(outcome) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 20  # one each, or their tracebacks would pile up in one
    writer._connection = whole
    with pytest.raises(LogPoisoned, match="stopped accepting events"):
        await log.append("a", 1, [ended()], time_ns=3)
    with pytest.raises(LogPoisoned):
        await log.erase_body(make_body(b"x", SALT).digest)
    assert (await log.head()).position == 1
    assert await log.stream_version("a") == 1
    await log.close()
    async with SqliteLog.open(path) as again:
        assert (await again.append("a", 1, [ended()], time_ns=4)).last == 2
    assert replay.verify(path).ok


async def test_a_full_disk_poisons_and_what_was_acknowledged_stays(path, log):
    await log.append("a", 0, [ended()], time_ns=1)
    pages = log._writer._connection.execute("PRAGMA page_count").fetchone()[0]
    log._writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(LogPoisoned, match="full"):
        await log.append("a", 1, [ended("x" * 20_000)], time_ns=2)
    await log.close()
    assert replay.verify(path).records == 1


async def test_a_writer_that_was_overtaken_writes_nothing(path, log):
    await log.append("a", 0, [ended()], time_ns=1)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
    with pytest.raises(LogPoisoned, match="another process took over"):
        await log.append("a", 1, [ended()], time_ns=2)
    with closing(sqlite3.connect(path, timeout=0)) as other, other:
        assert other.execute("SELECT count(*) FROM records").fetchone() == (1,)
        other.execute("UPDATE meta SET epoch = epoch + 1")  # the loser holds no lock either


async def test_many_appends_share_a_commit_and_a_wake_up(log, monkeypatch):
    commits, wakes = [], []
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: (wakes.append(call), wake(*call))[1])
    log._writer._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    await asyncio.gather(*(log.append(f"s{n}", 0, [ended()], time_ns=1) for n in range(300)))
    log._writer._connection.set_trace_callback(None)
    assert 1 <= len(commits) <= 100
    assert len(wakes) == len(commits)


@pytest.mark.parametrize("size", [1, 15, 16, 17, 47, 513, 1300])
async def test_batches_of_any_size_go_in_whole(path, log, size):
    bodies = [make_body(str(n).encode(), SALT) for n in range(size)]
    await log.append("a", 0, [ended(str(n)) for n in range(size)], time_ns=1, bodies=bodies)
    assert [record.event().reason for record in log.scan()] == [str(n) for n in range(size)]
    assert list((await log.get_bodies(body.digest for body in bodies)).values()) == [body.content for body in bodies]
    assert replay.verify(log).records == size


async def test_a_full_queue_makes_callers_wait_and_loses_nobody(log, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "QUEUE_ENTRIES_MAX", 3)
    monkeypatch.setattr(sqlite_writer, "BATCH_ENTRIES_MAX", 2)
    deepest = 0
    tasks = [asyncio.create_task(log.append(f"s{n}", 0, [ended(), ended()], time_ns=1)) for n in range(100)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0)
        deepest = max(deepest, log._writer._entries_waiting)
        if number % 10 == 0:
            task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert deepest <= 4
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) <= 10
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) >= 90
    assert replay.verify(log).ok


async def test_those_who_wait_for_room_hear_of_the_end(log, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "QUEUE_ENTRIES_MAX", 1)
    tasks = [asyncio.create_task(log.append(f"s{n}", 0, [ended()], time_ns=1)) for n in range(20)]
    await asyncio.sleep(0)
    await log.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    kept = sum(record.position > 0 for record in scan_file(log.path))
    assert kept == sum(not isinstance(outcome, LogClosed) for outcome in outcomes)
    assert kept >= 1


async def test_event_loops_of_other_threads_are_served_too(log):
    def elsewhere(name: str) -> None:
        async def write() -> None:
            await asyncio.gather(*(log.append(f"{name}{n}", 0, [ended()], time_ns=1) for n in range(20)))

        asyncio.run(write())

    threads = [threading.Thread(target=elsewhere, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(log.append(f"s{n}", 0, [ended()], time_ns=1) for n in range(20)))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert replay.verify(log).records == 80


def test_a_waiter_whose_loop_is_gone_does_not_stop_the_writer(path):
    log = SqliteLog.open(path)

    async def leave() -> None:
        task = asyncio.create_task(log.append("a", 0, [ended()], time_ns=1))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())

    async def stay() -> int:
        last = (await log.append("b", 0, [ended()], time_ns=1)).last
        await log.close()
        return last

    assert asyncio.run(stay()) == 2


def found_in(path, needle):
    return [side.name for side in sides(path) if side.exists() and needle in side.read_bytes()]


@pytest.mark.parametrize("size", [40, 50_000])
async def test_erased_bytes_are_gone_from_the_file(path, log, size):
    secret = b"Jane Doe, 12 Elm Street " * (size // 24 + 1)
    body = make_body(secret, SALT)
    await log.append("a", 0, [ended()], time_ns=1, bodies=[body, make_body(b"kept", SALT)])
    assert found_in(path, secret[:24])
    await log.erase_body(body.digest)
    assert not found_in(path, secret[:24])
    assert replay.verify(log).ok


async def test_a_reader_delays_the_bytes_leaving_but_not_the_erasure(path, log, monkeypatch):
    monkeypatch.setattr(sqlite_writer, "SCRUB_RETRY_S", 0.001)
    secret = b"Jane Doe, 12 Elm Street"
    body = make_body(secret, SALT)
    await log.append("a", 0, [ended(), ended()], time_ns=1, bodies=[body])
    with closing(sqlite_file.connect_reader(path)) as reader:
        held = reader.execute("SELECT position FROM records")
        next(held)
        assert await log.erase_body(body.digest)
        assert found_in(path, secret)
        assert await log.get_bodies([body.digest]) == {}
        held.close()
    await log.append("a", 2, [ended()], time_ns=1)
    await log.append("a", 3, [ended()], time_ns=1)  # the writer comes to this after the work left over
    assert not found_in(path, secret)


async def test_a_changed_body_is_not_handed_out(path, log):
    body = make_body(b"content", SALT)
    await log.append("a", 0, [ended()], time_ns=1, bodies=[body])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE bodies SET content = x'00'")
    with pytest.raises(LogCorrupt, match=body.digest):
        await log.get_body(body.digest)
