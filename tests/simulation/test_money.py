"""Money in whole worlds: caps hold whatever goes wrong, nothing stays reserved, and refusals name the way out."""

import asyncio
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from apprentice.errors import BudgetExhausted
from apprentice.testing.faults import Fault
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import vocabulary as v

SHORT = {"max_output_tokens": 64}
"""A call costs about $0.00055 and is reserved at less than $0.008."""
NEVER = {"confidence_thresholds": {"phase1_to_phase2": 100_000}, **SHORT}


def capped(daily: str, **more) -> Options:
    config = {"budget": {"daily": daily, **more.pop("budget", {})}}
    return Options(config=config, task={**NEVER, **more.pop("task", {})}, **more)


def tags(world):
    world.memory.reopen()
    return [record.event() for record in world.memory.scan()]


async def check_purse(world, runtime, cap_nd: int) -> int:
    """Nothing reserved, nothing over the cap, nothing that the teacher billed unaccounted for; what was spent."""
    await runtime.settled()
    _, spend = refold(world.memory.scan(), world.config.budget.timezone)
    spent = spend.spent_since(0)
    assert runtime._spend.reservations == {} == spend.reservations
    assert spent == runtime._spend.spent_since(0)
    assert world.frontier.billed_nd <= spent <= cap_nd
    return spent


@pytest.mark.parametrize("seed", range(3))
def test_400_at_once_under_a_small_cap_spend_no_cent_too_much(seed):
    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            spent = await check_purse(world, runtime, 50_000_000)
            errors = [one.error for one in asked if one.error is not None]
            assert all(type(error) is BudgetExhausted for error in errors)
            assert len(errors) + len(world.frontier.calls) == 400
            assert errors
            assert spent > 40_000_000  # and what fits is not refused
            assert {error.reopens for error in errors} == {"2026-01-02T00:00:00+00:00"}
            assert "$0.05" in str(errors[0])

    simulate(program, capped("0.05", seed=seed, traffic=Traffic(requests=400, burst=400), latency_s=(0.05, 1.0)))


def test_a_reservation_waits_for_others_to_settle():
    """The highest price of a call is many times the actual one: all twelve fit, but only one after the other."""

    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            assert [one.error for one in asked] == [None] * 12
            assert world.clock.monotonic() > 11 * 0.2
            await check_purse(world, runtime, 15_000_000)

    simulate(program, capped("0.015", traffic=Traffic(requests=12, burst=12)))


def test_a_reservation_waits_until_the_deadline_and_then_says_why():
    async def program(world):
        async with world.open() as runtime, asyncio.TaskGroup() as group:
            group.create_task(runtime.submit("task_0", {"text": "slow"}))
            await world.clock.sleep(0.1)
            for number in range(3):
                with pytest.raises(BudgetExhausted, match="is set aside, and the calls under way") as caught:
                    await runtime.submit("task_0", {"text": f"{number}"}, timeout_s=5.0)
                assert caught.value.reopens == "2026-01-02T00:00:00+00:00"
            assert world.clock.monotonic() == pytest.approx(15.1)
        assert len(world.frontier.calls) == 1

    simulate(program, capped("0.015", latency_s=(20.0, 20.0)))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland", "America/St_Johns", "Asia/Kathmandu"])
@pytest.mark.parametrize("day", ["2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25", "2026-09-26"])
def test_the_window_reopens_at_midnight_of_the_zone(zone, day):
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone))
    midnight = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=ZoneInfo(zone)) + timedelta(days=1)

    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime, Traffic(requests=100))
            assert isinstance(asked[-1].error, BudgetExhausted)
            reopens = datetime.fromisoformat(asked[-1].error.reopens)
            assert reopens == midnight.astimezone(UTC)
            left_s = reopens.timestamp() - world.clock.now_ns() / 1e9
            await world.clock.sleep(left_s - 1.0)
            with pytest.raises(BudgetExhausted):
                await runtime.submit("task_0", {"text": "a second too early"})
            await world.clock.sleep(1.001)
            await runtime.submit("task_0", {"text": "a new day"})
        said = [type(event) for event in tags(world) if isinstance(event, v.BudgetExhausted | v.BudgetRestored)]
        assert said == [v.BudgetExhausted, v.BudgetRestored]
        assert [alert for _, alert, _ in world.sink.raised_alerts if "near" not in alert] == ["budget:day"]

    simulate(program, capped("0.02", budget={"timezone": zone}, start=noon.astimezone(UTC)))


def test_an_exhausted_cap_stays_exhausted_across_a_restart_and_is_said_once():
    async def program(world):
        for _ in range(3):
            async with world.open() as runtime:
                asked = await world.drive(runtime, Traffic(requests=100))
                assert isinstance(asked[-1].error, BudgetExhausted)
        assert len([event for event in tags(world) if isinstance(event, v.BudgetExhausted)]) == 1
        await world.clock.sleep(86_400.0)
        async with world.open() as runtime:
            await runtime.submit("task_0", {"text": "tomorrow"})
        assert len([event for event in tags(world) if isinstance(event, v.BudgetRestored)]) == 1

    simulate(program, capped("0.02"))


def test_a_task_has_a_cap_of_its_own():
    async def program(world):
        async with world.open() as runtime:
            asked = await world.drive(runtime)
            await runtime.settled()
            for name in ("task_0", "task_1"):
                assert runtime._spend.spent_since(0, name) <= 20_000_000
            assert {type(one.error) for one in asked} == {type(None), BudgetExhausted}
            assert "task_0:day" in runtime.report().caps

    options = Options(tasks=2, task={**NEVER, "budget": {"daily": "0.02"}}, traffic=Traffic(requests=100, burst=25))
    simulate(program, options)


def test_with_the_cap_reached_a_graduate_serves_on_and_skips_audits():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=140, settle=True))
            served = runtime.status("task_0").served_local
            assert runtime.status("task_0").phase == "steady_state"
            asked = await world.drive(runtime, Traffic(requests=200, settle=True), begin=1000)
            assert [one.error for one in asked if one.error is not None] == []
            assert runtime.status("task_0").served_local == served + 200
        assert [event for event in tags(world) if isinstance(event, v.AuditMissed) and "exhausted" in event.reason]
        assert any(alert.startswith("budget:") for _, alert, _ in world.sink.raised_alerts)

    simulate(program, Options(config={"budget": {"daily": "0.0805"}}, task=SHORT))


def _sure_of_half(question, skill):
    """Right and certain about every other ticket, a coin's toss about the rest."""
    return skill * (0.999 if int(question.input["text"].split()[1]) % 2 else 0.5)


@pytest.mark.parametrize(("fallback", "refused"), [("reject", True), ("local", False)])
def test_on_exhausted_decides_what_lies_under_the_gate(fallback, refused):
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=240, settle=True))
            assert runtime.status("task_0").phase == "steady_state"
            asked = await world.drive(runtime, Traffic(requests=60, settle=True), begin=1000)
            errors = {type(one.error) for one in asked if one.error is not None}
            assert errors == ({BudgetExhausted} if refused else set())
            assert (runtime.status("task_0").degraded > 0) is not refused

    options = Options(
        accuracy=_sure_of_half,
        config={"budget": {"daily": "0.13"}},
        task={"on_exhausted": fallback, **SHORT},
    )
    simulate(program, options)


def test_an_interrupted_call_is_charged_in_full_and_asked_once_more():
    async def program(world):
        async with world.open() as runtime:
            world.frontier.fail_next(Fault.cut_connection)
            await runtime.submit("task_0", {"text": "once"})
            await runtime.settled()
            assert len(world.frontier.calls) == 2
        settled = [event for event in tags(world) if isinstance(event, v.BudgetSettled)]
        assert [event.attempt for event in settled] == [1, 2]
        assert settled[0].amount_nd == settled[0].reserved_nd
        assert settled[1].amount_nd < settled[1].reserved_nd / 10

    simulate(program)
