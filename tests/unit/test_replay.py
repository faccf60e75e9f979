import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from apprentice_events import replay, sqlite_file
from apprentice_events.errors import LogCorrupt, UnknownEvent
from apprentice_events.log import Entry, Head, MemoryLog, Record
from apprentice_events.replay import diff, rebuild, verify
from apprentice_events.sqlite import SqliteLog
from apprentice_events.vocabulary import CoachingEnded, FeedbackReceived

RECORDS = 12


async def fill(log) -> Head:
    for number in range(RECORDS // 3):
        stream, version = ("a", "b")[number % 2], number // 2 * 3
        rated = Entry(FeedbackReceived(request=f"r{number}", rating=0.5), f"r{number}", "1", f"k{number}")
        await log.append(stream, version, [rated, rated, rated], time_ns=1000 + number)
    return await log.head()


@pytest.fixture
async def file(tmp_path) -> Path:
    async with SqliteLog.open(tmp_path / "log.db") as log:
        await fill(log)
    return tmp_path / "log.db"


@pytest.fixture
def head(file) -> Head:
    return verify(file).head


def edit(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


class Count:
    """A fold that remembers what it saw."""

    def __init__(self):
        self.seen = []

    def apply(self, record, event):
        self.seen.append((record.position, event))


def test_an_untouched_file_verifies(file):
    verdict = verify(file)
    assert (verdict.ok, verdict.records, verdict.first_bad_position, verdict.reason) == (True, RECORDS, None, "")
    assert verdict.head.position == RECORDS
    assert verify(str(file), verdict.head) == verdict


async def test_open_logs_and_logs_in_memory_verify_alike(file, tmp_path):
    memory = MemoryLog()
    head = await fill(memory)
    async with SqliteLog.open(tmp_path / "other.db") as log:
        await fill(log)
        assert verify(log, head) == verify(memory, head) == verify(file, head)


def test_an_empty_log_verifies():
    assert verify(MemoryLog()) == replay.Verdict(ok=True, records=0, head=Head())


NUMBERS = ["version", "schema", "time_ns"]
TEXTS = ["stream", "tag", "causation", "correlation", "key"]
EDITS = [
    *(f"UPDATE records SET {column} = {column} + 1 WHERE position = 5" for column in NUMBERS if column != "version"),
    "UPDATE records SET version = 99 WHERE position = 5",
    *(f"UPDATE records SET {column} = {column} || 'x' WHERE position = 5" for column in TEXTS),
    *(f"UPDATE records SET {column} = NULL WHERE position = 5" for column in ("causation", "correlation", "key")),
    "UPDATE records SET key = CAST(x'ff' AS TEXT) WHERE position = 5",
    "UPDATE records SET payload = CAST(replace(payload, '0.5', '0.6') AS BLOB) WHERE position = 5",
    "UPDATE records SET digest = zeroblob(32) WHERE position = 5",
    "UPDATE records SET schema = 'one' WHERE position = 5",
    "UPDATE records SET schema = -1 WHERE position = 5",
    "DELETE FROM records WHERE position = 5",
]


@pytest.mark.parametrize("statement", EDITS)
def test_an_edit_is_found_at_its_position(file, head, statement):
    edit(file, statement)
    verdict = verify(file, head)
    assert (verdict.ok, verdict.first_bad_position, verdict.records) == (False, 5, 4)
    assert verdict.head.position == 4
    assert verdict.reason


def test_a_record_before_the_first_is_found(file):
    edit(
        file, "INSERT INTO records SELECT -3, 'x', 1, tag, 1, 1, NULL, NULL, NULL, payload, digest FROM records LIMIT 1"
    )
    assert verify(file).first_bad_position == 1


def test_a_gap_that_was_closed_up_is_found(file):
    edit(file, "DELETE FROM records WHERE position = 5", "UPDATE records SET position = 5 WHERE position = 12")
    assert verify(file).first_bad_position == 5


def test_two_records_that_changed_places_are_found(file):
    edit(
        file,
        "UPDATE records SET position = 99 WHERE position = 7",
        "UPDATE records SET position = 7 WHERE position = 8",
        "UPDATE records SET position = 8 WHERE position = 99",
    )
    assert verify(file).first_bad_position == 7


@pytest.mark.parametrize("page", [1, 5])
def test_the_position_is_right_across_pages(file, monkeypatch, page):
    monkeypatch.setattr(sqlite_file, "PAGE_ROWS", page)
    assert verify(file).records == RECORDS
    edit(file, "DELETE FROM records WHERE position = 11")
    assert verify(file).first_bad_position == 11


def test_a_cut_tail_shows_against_a_noted_head_only(file, head):
    edit(file, "DELETE FROM records WHERE position > 10")
    assert verify(file).ok
    verdict = verify(file, head)
    assert (verdict.ok, verdict.first_bad_position) == (False, 11)
    assert "the noted head is at 12" in verdict.reason


async def test_a_log_that_grew_still_holds_its_older_heads(file, head):
    async with SqliteLog.open(file) as log:
        await log.append("c", 0, [Entry(CoachingEnded(reason="x"))], time_ns=1)
    assert verify(file, head).ok
    assert verify(file, head).records == RECORDS + 1


async def test_a_chain_rewritten_as_a_whole_shows_against_a_noted_head(head):
    forged = MemoryLog()
    for number in range(RECORDS):
        await forged.append("a", number, [Entry(CoachingEnded(reason="forged"))], time_ns=1)
    assert verify(forged).ok
    verdict = verify(forged, head)
    assert (verdict.ok, verdict.first_bad_position) == (False, RECORDS)


async def test_a_version_that_skips_is_found_though_the_chain_holds():
    class Skipping(MemoryLog):
        def scan(self, after=0, stream=None, tags=None):
            record = next(super().scan())
            skipped = msgspec.structs.replace(record, version=2)
            digest = replay.chain.link(bytes(32), *replay._link(skipped)[:-1])
            return iter([msgspec.structs.replace(skipped, digest=digest)])

    log = Skipping()
    await log.append("a", 0, [Entry(CoachingEnded(reason="x"))], time_ns=1)
    assert "version 2 of stream" in verify(log).reason


def test_a_page_of_the_file_overwritten_is_no_crash(file):
    content = bytearray(file.read_bytes())
    for start in range(4096 * 2, len(content), 4096):
        content[start : start + 64] = b"\xff" * 64
    file.write_bytes(content)
    verdict = verify(file)
    assert not verdict.ok
    assert verdict.reason


def test_a_missing_file_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="no log at"):
        verify(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_rebuilding_feeds_every_record_once_in_order(file):
    first, second = rebuild(file, [Count(), Count()])
    assert [position for position, _ in first.seen] == list(range(1, RECORDS + 1))
    assert first.seen[3][1] == FeedbackReceived(request="r1", rating=0.5)
    assert first.seen == second.seen


@pytest.mark.parametrize(
    ("until", "count"),
    [
        ({"until_position": 0}, 0),
        ({"until_position": 5}, 5),
        ({"until_position": 99}, RECORDS),
        ({"until_time_ns": 999}, 0),
        ({"until_time_ns": 1001}, 6),
        ({"until_time_ns": 1001, "until_position": 4}, 4),
    ],
)
async def test_rebuilding_as_of_a_position_or_time(until, count):
    log = MemoryLog()
    await fill(log)
    assert len(rebuild(log, [Count()], **until)[0].seen) == count


async def test_as_of_a_time_is_a_prefix_also_where_the_clock_went_back():
    log = MemoryLog()
    for version, time_ns in enumerate([5, 9, 6]):
        await log.append("a", version, [Entry(CoachingEnded(reason="x"))], time_ns=time_ns)
    assert len(rebuild(log, [Count()], until_time_ns=7)[0].seen) == 1


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE records SET payload = x'7b' WHERE position = 5", LogCorrupt),
        ("UPDATE records SET tag = 'nonsense' WHERE position = 5", UnknownEvent),
    ],
)
def test_rebuilding_names_the_record_that_does_not_decode(file, statement, error):
    edit(file, statement)
    with pytest.raises(error, match="position 5"):
        rebuild(file, [Count()])


def test_equal_states_do_not_differ():
    assert diff({"a": [1, (2, 3)]}, {"a": [1, [2, 3]]}) == []
    assert diff(Head(), Head()) == []


def test_differences_have_a_path_and_both_sides():
    left = {"tasks": {"t": {"rate": 0.5, "window": [1, 2]}}, "gone": 1, 5: "x"}
    right = {"tasks": {"t": {"rate": 0.25, "window": [1, 3, 4]}}, "new": None, 5: "x"}
    assert diff(left, right) == [
        "gone: 1 → nothing",
        "new: nothing → None",
        "tasks.t.rate: 0.5 → 0.25",
        "tasks.t.window[1]: 2 → 3",
        "tasks.t.window[2]: nothing → 4",
    ]
    assert diff(1, 2) == ["state: 1 → 2"]
    assert diff(Head(1), Head(2)) == ["position: 1 → 2"]
    assert diff({"a": {}}, {"a": 1}) == ["a: {} → 1"]


def test_a_record_is_what_a_row_is():
    assert ", ".join(Record.__struct_fields__) == sqlite_file.COLUMNS
