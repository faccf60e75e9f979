"""What every event log does, whichever way it keeps its bytes."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.testing.faulty_log import FaultyLog
from apprentice_events import chain, log, sqlite_file
from apprentice_events.bodies import make_body
from apprentice_events.errors import ErasedBody, LogClosed, LogConflict, UnknownBody
from apprentice_events.log import Appended, Entry, EventLog, Head, MemoryLog, Record
from apprentice_events.sqlite import SqliteLog
from apprentice_events.vocabulary import CoachingEnded, FeedbackReceived, GateChanged

SALT = b"0123456789abcdef"

type Make = Callable[[Path], EventLog]

MAKERS: dict[str, Make] = {
    "memory": lambda folder: MemoryLog(),
    "faulty": lambda folder: FaultyLog(MemoryLog()),
    "sqlite": lambda folder: SqliteLog.open(folder / "log.db"),
}


@pytest.fixture(params=MAKERS)
def make(request) -> Make:
    return MAKERS[request.param]


@pytest.fixture
async def events(make, tmp_path):
    opened = make(tmp_path)
    yield opened
    await opened.close()


def ended(reason: str = "over", **envelope: str) -> Entry:
    return Entry(CoachingEnded(reason=reason), **envelope)


def rated(request: str, rating: float = 0.5, **envelope: str) -> Entry:
    return Entry(FeedbackReceived(request=request, rating=rating), **envelope)


async def everything(events: EventLog) -> list[Record]:
    return [record async for record in events.read()]


async def test_an_append_takes_the_next_positions_and_versions(events):
    assert await events.append("a", 0, [ended("one"), ended("two")], time_ns=7) == Appended(1, 2, 2)
    assert await events.append("b", 0, [ended("three")], time_ns=8) == Appended(3, 3, 1)
    assert await events.append("a", 2, [ended("four")], time_ns=9) == Appended(4, 4, 3)
    records = await everything(events)
    assert [(r.position, r.stream, r.version, r.time_ns) for r in records] == [
        (1, "a", 1, 7),
        (2, "a", 2, 7),
        (3, "b", 1, 8),
        (4, "a", 3, 9),
    ]
    assert [r.event() for r in records] == [CoachingEnded(reason=r) for r in ("one", "two", "three", "four")]


async def test_the_envelope_comes_back_as_given(events):
    entry = rated("r", correlation="request-1", causation="5", key="ticket-é")
    await events.append("täsk", 0, [entry, rated("r")], time_ns=1)
    first, second = await everything(events)
    assert (first.stream, first.tag, first.schema) == ("täsk", "feedback_received", 1)
    assert (first.correlation, first.causation, first.key) == ("request-1", "5", "ticket-é")
    assert (second.correlation, second.causation, second.key) == (None, None, None)


async def test_every_digest_follows_from_the_one_before(events):
    await events.append("a", 0, [ended("one", key="k"), ended("two", correlation="c")], time_ns=7)
    await events.append("b", 0, [ended("three", causation="")], time_ns=8)
    previous = chain.GENESIS
    for record in await everything(events):
        assert record.digest == log.record_digest(previous, record)
        previous = record.digest
    assert await events.head() == Head(3, previous)


async def test_an_empty_log_says_so(events):
    assert await events.head() == Head(0, chain.GENESIS)
    assert await events.stream_version("a") == 0
    assert await everything(events) == []
    assert list(events.scan()) == []


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_a_wrong_version_is_a_conflict_that_writes_nothing(events, expected):
    body = make_body(b"content", SALT)
    await events.append("a", 0, [ended(), ended()], time_ns=1)
    with pytest.raises(LogConflict, match=f"at version 2, the append expected {expected}") as caught:
        await events.append("a", expected, [ended()], time_ns=2, bodies=[body])
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("a", expected, 2)
    assert (await events.head()).position == 2
    with pytest.raises(UnknownBody):
        await events.get_body(body.digest)


@pytest.mark.parametrize(
    ("stream", "entries", "time_ns", "said"),
    [
        ("a", [], 1, "has 0 entries"),
        ("a", [ended()] * (log.APPEND_ENTRIES_MAX + 1), 1, "has 4097 entries"),
        ("", [ended()], 1, "name of a stream"),
        ("a", [ended()], -1, "time_ns -1"),
        ("a", [ended()], 2**63, "time_ns"),
        ("a", [ended(), rated("r", float("nan"))], 1, "would not decode"),
        ("a", [ended(), rated("r", "half")], 1, "would not decode"),
        ("a", [ended(), ended(key="\ud800")], 1, "surrogates"),
    ],
)
async def test_what_cannot_be_logged_is_refused_whole(events, stream, entries, time_ns, said):
    with pytest.raises(ValueError, match=said):
        await events.append(stream, 0, entries, time_ns=time_ns)
    assert (await events.head()).position == 0
    assert (await events.append("a", 0, [ended()], time_ns=1)).last == 1


READS = [
    ({}, [1, 2, 3, 4, 5, 6, 7]),
    ({"after": 3}, [4, 5, 6, 7]),
    ({"after": 7}, []),
    ({"after": 99}, []),
    ({"stream": "a"}, [1, 2, 4, 6]),
    ({"stream": "a", "after": 2}, [4, 6]),
    ({"stream": "none"}, []),
    ({"tags": ["feedback_received"]}, [2, 4, 5]),
    ({"tags": {"feedback_received", "gate_changed"}, "after": 2}, [4, 5, 7]),
    ({"tags": ()}, []),
    ({"stream": "a", "tags": ["coaching_ended"]}, [1, 6]),
]


async def seven(events: EventLog) -> None:
    await events.append("a", 0, [ended(), rated("r1")], time_ns=1)
    await events.append("b", 0, [ended()], time_ns=2)
    await events.append("a", 2, [rated("r2")], time_ns=3)
    await events.append("b", 1, [rated("r3")], time_ns=4)
    await events.append("a", 3, [ended()], time_ns=5)
    await events.append("c", 0, [Entry(GateChanged(before=None, after=0.9, reason="first"))], time_ns=6)


@pytest.mark.parametrize("page", [1, 2, 3, 4096])
async def test_reading_by_position_stream_tags_and_limit(events, monkeypatch, page):
    monkeypatch.setattr(sqlite_file, "PAGE_ROWS", page)
    await seven(events)
    for arguments, positions in READS:
        assert [r.position for r in events.scan(**arguments)] == positions, arguments
        for limit in (None, 0, 1, 2, 3, 99):
            found = [r.position async for r in events.read(**arguments, limit=limit)]
            assert found == positions[:limit], (arguments, limit)


async def test_reading_may_stop_early_while_others_append(events, monkeypatch):
    monkeypatch.setattr(sqlite_file, "PAGE_ROWS", 2)
    await seven(events)
    reading = events.read()
    assert (await anext(reading)).position == 1
    await events.append("d", 0, [ended()], time_ns=7)
    await reading.aclose()
    assert (await events.append("d", 1, [ended()], time_ns=8)).last == 9


async def test_a_request_is_found_by_its_correlation(events):
    await events.append("a", 0, [rated("r1", correlation="r1"), rated("r2", correlation="r2"), ended()], time_ns=1)
    await events.append("b", 0, [ended(correlation="r1")], time_ns=2)
    assert [r.position for r in await events.by_correlation("r1")] == [1, 4]
    assert await events.by_correlation("r3") == []


async def test_a_key_finds_its_latest_record_in_its_stream(events):
    await events.append("a", 0, [rated("r1", key="k"), rated("r2", key="other"), ended()], time_ns=1)
    await events.append("b", 0, [rated("r3", key="k")], time_ns=2)
    assert (await events.find_key("a", "k")).position == 1
    await events.append("a", 3, [rated("r4", key="k")], time_ns=3)
    assert (await events.find_key("a", "k")).position == 5
    assert (await events.find_key("b", "k")).position == 4
    assert await events.find_key("b", "other") is None


async def test_stream_versions_are_those_of_the_streams(events):
    await seven(events)
    assert [await events.stream_version(stream) for stream in ("a", "b", "c", "d")] == [4, 2, 1, 0]


async def test_bodies_are_kept_with_their_events(events):
    one, two, empty = make_body(b"one", SALT), make_body(b"\x00two", SALT), make_body(b"", SALT)
    await events.append("a", 0, [ended()], time_ns=1, bodies=[one, two, empty])
    await events.append("a", 1, [ended()], time_ns=1, bodies=[one])
    assert await events.get_body(one.digest) == b"one"
    assert await events.get_body(empty.digest) == b""
    assert await events.get_bodies([two.digest, one.digest]) == {two.digest: b"\x00two", one.digest: b"one"}


@pytest.mark.parametrize("digest", ["00" * 32, "no digest"])
async def test_a_body_never_stored_is_unknown(events, digest):
    for ask in (events.get_body(digest), events.get_bodies([digest]), events.erase_body(digest)):
        with pytest.raises(UnknownBody, match=digest):
            await ask


async def test_an_erased_body_stays_erased_and_the_chain_unharmed(events):
    gone, kept = make_body(b"personal", SALT), make_body(b"kept", SALT)
    await events.append("a", 0, [ended()], time_ns=1, bodies=[gone, kept])
    before = await events.head()
    assert await events.erase_body(gone.digest) is True
    assert await events.erase_body(gone.digest) is False
    await events.append("a", 1, [ended()], time_ns=2, bodies=[gone])
    with pytest.raises(ErasedBody, match=gone.digest):
        await events.get_body(gone.digest)
    assert await events.get_bodies([gone.digest, kept.digest]) == {kept.digest: b"kept"}
    assert next(events.scan()).digest == before.digest


async def test_two_hundred_at_once_all_get_their_place(events):
    async def write(stream: str) -> list[Appended]:
        return [await events.append(stream, version, [ended(stream)], time_ns=1) for version in range(3)]

    made = await asyncio.gather(*(write(f"s{number}") for number in range(200)))
    assert sorted(one.last for done in made for one in done) == list(range(1, 601))
    assert all([one.version for one in done] == [1, 2, 3] for done in made)
    by_position = {record.position: record for record in events.scan()}
    assert all(by_position[one.last].version == one.version for done in made for one in done)


async def test_of_two_hundred_who_race_for_one_version_one_wins(events):
    outcomes = await asyncio.gather(
        *(events.append("a", 0, [ended(str(n))], time_ns=1) for n in range(200)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Appended) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LogConflict) for outcome in outcomes) == 199
    assert await events.stream_version("a") == 1


async def test_a_conflict_hurts_nobody_else(events):
    outcomes = await asyncio.gather(
        *(events.append(f"s{n}", n % 2, [ended()], time_ns=1) for n in range(100)), return_exceptions=True
    )
    assert [isinstance(outcome, Appended) for outcome in outcomes] == [n % 2 == 0 for n in range(100)]
    assert (await events.head()).position == 50


async def test_appends_go_in_the_order_in_which_they_were_made(events):
    tasks = [asyncio.create_task(events.append("a", n, [ended(str(n))], time_ns=1)) for n in range(20)]
    assert [(await task).version for task in tasks] == list(range(1, 21))


@pytest.mark.parametrize("turns", range(5))
async def test_a_cancelled_append_happened_whole_or_not_at_all(events, turns):
    body = make_body(b"content", SALT)
    task = asyncio.create_task(events.append("a", 0, [ended(), ended(), ended()], time_ns=1, bodies=[body]))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    after = await events.append("b", 0, [ended()], time_ns=2)
    found = await events.stream_version("a")
    assert (found, after.last) in ((0, 1), (3, 4))
    assert found == len(await events.get_bodies([body.digest]) if found else []) * 3


async def test_closing_finishes_what_was_begun(make, tmp_path):
    events = make(tmp_path)
    tasks = [asyncio.create_task(events.append(f"s{n}", 0, [ended()], time_ns=1)) for n in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(events.close(), events.close())
    assert {(await task).version for task in tasks} == {1}


async def test_a_closed_log_says_so(make, tmp_path):
    events = make(tmp_path)
    await events.append("a", 0, [ended()], time_ns=1)
    await events.close()
    await events.close()
    for ask in (
        events.append("a", 1, [ended()], time_ns=1),
        events.by_correlation("r"),
        events.find_key("a", "k"),
        events.stream_version("a"),
        events.head(),
        events.get_body("00" * 32),
        events.erase_body("00" * 32),
        everything(events),
    ):
        with pytest.raises(LogClosed, match="is closed"):
            await ask
    with pytest.raises(LogClosed, match="is closed"):
        events.scan()


async def test_the_implementations_write_the_same_bytes(tmp_path):
    records = []
    for make in MAKERS.values():
        events = make(tmp_path)
        await seven(events)
        await events.append("a", 4, [rated("r", correlation="c", causation="7", key="k")], time_ns=2**63 - 1)
        records.append(await everything(events))
        await events.close()
    assert records[0] == records[1]
    assert len(records[0]) == 8


STREAMS = ("a", "b", "c")
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(STREAMS), st.integers(1, 4), st.integers(-1, 1), st.sampled_from([None, "k1", "k2"])),
    max_size=12,
)


@given(rounds=st.lists(OPERATIONS, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_interleaving_keeps_every_stream_gapless_in_memory(rounds):
    asyncio.run(_interleave(MemoryLog(), rounds))


@given(rounds=st.lists(OPERATIONS, min_size=2, max_size=4))
@settings(max_examples=8, deadline=None)
def test_any_interleaving_keeps_every_stream_gapless_in_a_file(rounds):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_interleave(SqliteLog.open(Path(folder) / "log.db"), rounds))


async def _interleave(events: EventLog, rounds: list) -> None:
    """Each round's appends run at once. What each was told must be what the log holds in the end."""
    told: list[tuple[str, Appended, str, str | None]] = []
    try:
        for number, operations in enumerate(rounds):
            versions = {stream: await events.stream_version(stream) for stream in STREAMS}

            async def write(
                index: int, stream: str, count: int, off: int, key: str | None, versions=versions, number=number
            ):
                name = f"{number}.{index}"
                entries = [ended(f"{name}.{n}", key=key) if key else ended(f"{name}.{n}") for n in range(count)]
                with contextlib.suppress(LogConflict):
                    made = await events.append(stream, versions[stream] + off, entries, time_ns=number)
                    assert (made.last - made.first, made.version) == (count - 1, versions[stream] + off + count)
                    told.append((stream, made, name, key))

            await asyncio.gather(*(write(index, *operation) for index, operation in enumerate(operations)))
        records = await everything(events)
        assert [r.position for r in records] == list(range(1, len(records) + 1))
        assert sum(made.last - made.first + 1 for _, made, _, _ in told) == len(records)
        for stream in STREAMS:
            mine = [r for r in records if r.stream == stream]
            assert [r.version for r in mine] == list(range(1, len(mine) + 1))
            for key in ("k1", "k2"):
                assert await events.find_key(stream, key) == next((r for r in reversed(mine) if r.key == key), None)
        for stream, made, name, _ in told:
            block = records[made.first - 1 : made.last]
            assert {r.stream for r in block} == {stream}
            assert [r.event().reason for r in block] == [f"{name}.{n}" for n in range(len(block))]
    finally:
        await events.close()
