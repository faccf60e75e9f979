"""The mailbox: bounded, in order, and honest about what it refuses."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.testing.clock import VirtualClock, virtual_time
from apprentice_actors.mailbox import Mailbox, MailboxClosed, MailboxFull


class Gone(MailboxClosed):
    """A refusal with a name of its own."""


def fill(mailbox: Mailbox[int]) -> None:
    count = 0
    while mailbox.tell(count):
        count += 1


async def until_waiting(mailbox: Mailbox[int], writers: int) -> None:
    await asyncio.sleep(0)  # lets a new task run to its first wait
    assert mailbox.statistics().waiting == writers


@virtual_time
async def test_what_is_told_comes_out_in_order():
    mailbox: Mailbox[int] = Mailbox(10)
    assert [mailbox.tell(n) for n in range(5)] == [True] * 5
    assert [await mailbox.get() for _ in range(5)] == list(range(5))


@virtual_time
async def test_a_full_mailbox_refuses_a_tell_and_counts_it():
    mailbox: Mailbox[int] = Mailbox(2)
    assert [mailbox.tell(n) for n in range(3)] == [True, True, False]
    statistics = mailbox.statistics()
    assert (statistics.depth, statistics.capacity, statistics.refused, statistics.handled) == (2, 2, 1, 0)


@virtual_time
async def test_a_reader_that_waits_is_woken():
    mailbox: Mailbox[int] = Mailbox(2)
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(mailbox.get())
        await asyncio.sleep(0)
        mailbox.tell(7)
    assert reader.result() == 7


@virtual_time
async def test_writers_that_wait_are_let_in_in_their_order():
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.tell(0)
    async with asyncio.TaskGroup() as group:
        for n in (1, 2, 3):
            group.create_task(mailbox.put(n, timeout=60))
            await until_waiting(mailbox, n)
        assert [await mailbox.get() for _ in range(4)] == [0, 1, 2, 3]
    assert mailbox.statistics().waiting == 0
    assert mailbox.statistics().refused == 0


@virtual_time
async def test_a_put_gives_up_at_its_deadline_and_leaves_nothing_behind(clock: VirtualClock):
    mailbox: Mailbox[int] = Mailbox(1, "purse")
    mailbox.tell(0)
    with pytest.raises(MailboxFull, match=r"purse: still full with 1 messages after 2\.5 s"):
        await mailbox.put(1, timeout=2.5)
    assert clock.monotonic() == 2.5
    assert mailbox.drain(10) == [0]
    assert mailbox.drain(10) == []
    assert mailbox.statistics().refused == 1


@virtual_time
async def test_a_cancelled_put_delivers_nothing():
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.tell(0)
    writer = asyncio.ensure_future(mailbox.put(1, timeout=60))
    await until_waiting(mailbox, 1)
    writer.cancel()
    await asyncio.wait({writer})
    assert writer.cancelled()
    assert mailbox.statistics().waiting == 0
    assert mailbox.drain(10) == [0]
    assert mailbox.drain(10) == []


@virtual_time
async def test_room_that_comes_free_goes_past_a_writer_just_cancelled():
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.tell(0)
    writers = [asyncio.ensure_future(mailbox.put(n, timeout=60)) for n in (1, 2)]
    await until_waiting(mailbox, 2)
    writers[0].cancel()
    assert mailbox.drain(1) == [0]
    assert await mailbox.get() == 2
    await asyncio.wait(writers)


@virtual_time
async def test_the_first_refusal_stays_until_a_sharper_one_is_given():
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.close()
    mailbox.close(Gone)
    mailbox.close(abandon=True)
    assert type(mailbox.refusal()) is Gone


@virtual_time
async def test_a_cancelled_reader_loses_no_message():
    mailbox: Mailbox[int] = Mailbox(4)
    reader = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    mailbox.tell(1)
    reader.cancel()
    await asyncio.wait({reader})
    assert await mailbox.get() == 1


@virtual_time
async def test_a_second_reader_is_a_mistake():
    mailbox: Mailbox[int] = Mailbox(4, "purse")
    first = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="purse: a second reader"):
        await mailbox.get()
    mailbox.tell(1)
    assert await first == 1


@virtual_time
async def test_closing_refuses_writers_and_still_hands_out_what_is_inside():
    mailbox: Mailbox[int] = Mailbox(2)
    fill(mailbox)
    writer = asyncio.ensure_future(mailbox.put(9, timeout=60))
    await until_waiting(mailbox, 1)
    assert mailbox.close(Gone) == []
    assert not mailbox.tell(9)
    with pytest.raises(Gone):
        await writer
    with pytest.raises(Gone):
        await mailbox.put(9, timeout=60)
    assert await mailbox.take(10) == [0, 1]
    with pytest.raises(Gone):
        await mailbox.get()
    assert mailbox.statistics().refused == 4  # fill's last, the tell, and both puts


@virtual_time
async def test_closing_wakes_a_reader_that_waits_for_nothing():
    mailbox: Mailbox[int] = Mailbox(2)
    reader = asyncio.ensure_future(mailbox.get())
    await asyncio.sleep(0)
    mailbox.close()
    with pytest.raises(MailboxClosed, match="mailbox: closed"):
        await reader


@virtual_time
async def test_abandoning_returns_what_was_inside_even_after_a_plain_close():
    mailbox: Mailbox[int] = Mailbox(3)
    fill(mailbox)
    mailbox.close()
    assert mailbox.close(abandon=True) == [0, 1, 2]
    with pytest.raises(MailboxClosed):
        await mailbox.get()


@virtual_time
async def test_an_expected_outcome_comes_through_although_full_and_closed():
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.tell(0)
    mailbox.expect()
    mailbox.expect()
    mailbox.close()
    assert await mailbox.get() == 0
    reader = asyncio.ensure_future(mailbox.take(10))
    await asyncio.sleep(0)
    assert not reader.done()  # an outcome is still to come
    mailbox.fulfil(5)
    assert await reader == [5]
    reader = asyncio.ensure_future(mailbox.take(10))
    await asyncio.sleep(0)
    mailbox.fulfil(None)
    with pytest.raises(MailboxClosed):
        await reader


@virtual_time
async def test_an_outcome_for_an_abandoned_mailbox_is_dropped():
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.expect()
    mailbox.close(abandon=True)
    mailbox.fulfil(1)
    assert mailbox.statistics().depth == 0


def test_a_mailbox_without_room_is_refused():
    with pytest.raises(ValueError, match="purse: the capacity is 0"):
        Mailbox(0, "purse")


@given(
    capacity=st.integers(1, 4),
    steps=st.lists(st.one_of(st.sampled_from(["tell", "put", "close"]), st.integers(1, 5)), max_size=40),
)
@virtual_time
async def test_nothing_is_lost_doubled_or_reordered(capacity: int, steps: list[str | int]):
    mailbox: Mailbox[int] = Mailbox(capacity)
    accepted, taken = [], []
    writers: dict[int, asyncio.Task[None]] = {}
    for number, step in enumerate(steps):
        match step:
            case "tell":
                if mailbox.tell(number):
                    accepted.append(number)
            case "put":
                writers[number] = asyncio.ensure_future(mailbox.put(number, timeout=1))
                await asyncio.sleep(0)
                if not (writers[number].done() and writers[number].exception()):
                    accepted.append(number)
            case "close":
                mailbox.close()
            case int(limit):
                taken += mailbox.drain(limit)
        assert mailbox.statistics().depth <= capacity
    if writers:
        await asyncio.wait(writers.values())
    refused = {number for number, writer in writers.items() if writer.exception() is not None}
    taken += mailbox.drain(1000)
    assert taken == [number for number in accepted if number not in refused]
    statistics = mailbox.statistics()
    assert (statistics.depth, statistics.waiting, statistics.handled) == (0, 0, len(taken))
