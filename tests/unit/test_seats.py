"""Versions take turns on a server that holds only some of them, and no request fails for want of a place."""

import asyncio
from collections import Counter

import pytest

from apprentice.local.seats import Seats
from apprentice_actors.ports import LocalFailure


class Server:
    """Notes what it holds. ``gate`` holds up arrivals while it is closed."""

    def __init__(self, places: int) -> None:
        self.holds: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.came: list[str] = []
        self.refuses: set[str] = set()
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.seats = Seats(places, self.attach, self.detach)

    async def attach(self, version: str) -> None:
        await self.gate.wait()
        if version in self.refuses:
            raise LocalFailure(f"{version} is refused")
        assert version not in self.holds, "it is there already"
        self.holds.add(version)
        self.came.append(version)
        self.most = max(self.most, len(self.holds))

    async def detach(self, version: str) -> None:
        assert not self.asked[version], "it is in use"
        await asyncio.sleep(0)
        self.holds.remove(version)

    async def ask(self, version: str, steps: int = 3) -> None:
        async with self.seats.hold(version):
            self.asked[version] += 1
            for _ in range(steps):
                await asyncio.sleep(0)
                assert version in self.holds
            self.asked[version] -= 1


async def test_three_versions_over_two_places_under_load_and_nobody_fails():
    server = Server(2)

    async def caller(number: int) -> None:
        for turn in range(40):
            await server.ask(f"v{(number + turn * 7) % 3}", steps=number % 5)

    async with asyncio.timeout(10):
        await asyncio.gather(*(caller(number) for number in range(16)))
    assert server.most == 2
    assert {*server.came} == {"v0", "v1", "v2"}
    assert len(server.came) > 3, "somebody had to make room and came back"


async def test_a_place_is_taken_from_the_one_asked_longest_ago():
    server = Server(2)
    for version in ("a", "b", "a", "c"):
        await server.ask(version)
    assert server.seats.held == {"a", "c"}


async def test_versions_that_are_always_busy_still_make_room():
    server = Server(1)
    stop = asyncio.Event()

    async def busy() -> None:
        while not stop.is_set():
            await server.ask("busy")

    await server.ask("busy")
    callers = [asyncio.create_task(busy()) for _ in range(4)]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await server.ask("late")
        stop.set()
        await asyncio.gather(*callers)
    assert server.came[:2] == ["busy", "late"]


async def test_one_arrival_serves_all_who_wait_for_it():
    server = Server(2)
    server.gate.clear()
    waiting = [asyncio.create_task(server.ask("v1")) for _ in range(20)]
    await asyncio.sleep(0)
    server.gate.set()
    await asyncio.gather(*waiting)
    assert server.came == ["v1"]


async def test_a_version_that_cannot_come_fails_alone():
    server = Server(1)
    server.refuses = {"bad"}
    found = await asyncio.gather(server.ask("good"), server.ask("bad"), server.ask("good"), return_exceptions=True)
    assert [type(each) for each in found] == [type(None), LocalFailure, type(None)]
    with pytest.raises(LocalFailure, match="bad is refused"):
        await server.ask("bad")
    await server.ask("good")


async def test_a_defect_while_bringing_a_version_does_not_leave_requests_waiting():
    async def broken(version: str) -> None:
        raise ZeroDivisionError(version)

    seats = Seats(1, broken, broken)
    async with asyncio.timeout(10):
        with pytest.raises(LocalFailure, match="ZeroDivisionError"):
            async with seats.hold("v1"):
                pass


async def test_leaving_waits_for_the_last_request():
    server = Server(2)
    leave = asyncio.Event()

    async def long() -> None:
        async with server.seats.hold("v1"):
            await leave.wait()

    request = asyncio.create_task(long())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    going = asyncio.create_task(server.seats.leave("v1"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert "v1" in server.holds
    leave.set()
    await asyncio.gather(request, going)
    assert server.holds == set()
    await server.seats.leave("v1")


async def test_who_gives_up_waiting_takes_no_place():
    server = Server(1)
    server.gate.clear()
    impatient = asyncio.create_task(server.ask("v1"))
    patient = asyncio.create_task(server.ask("v1"))
    await asyncio.sleep(0)
    impatient.cancel()
    server.gate.set()
    await asyncio.gather(impatient, patient, return_exceptions=True)
    async with asyncio.timeout(10):
        await server.ask("v2")  # v1 is idle, so it can go
    assert server.seats.held == {"v2"}


async def test_a_lost_version_is_brought_once_however_many_notice():
    server = Server(2)
    async with server.seats.hold("v1") as seat:
        arrivals = seat.arrivals
        server.holds.clear()
        await asyncio.gather(*(server.seats.bring_again("v1", seat, arrivals) for _ in range(5)))
    assert server.came == ["v1", "v1"]


async def test_after_a_restart_of_the_server_all_versions_are_brought_again():
    server = Server(3)
    for version in ("v1", "v2", "v3"):
        await server.ask(version)
    server.holds.clear()
    server.refuses = {"v2"}
    await server.seats.restore()
    assert server.holds == {"v1", "v3"}


async def test_closing_fails_those_who_wait():
    server = Server(1)
    server.gate.clear()
    waiting = asyncio.create_task(server.ask("v1"))
    await asyncio.sleep(0)
    await server.seats.close()
    with pytest.raises(LocalFailure, match="closed"):
        await waiting
    assert server.seats.held == frozenset()
    with pytest.raises(LocalFailure, match="closed"):
        await server.ask("v1")
