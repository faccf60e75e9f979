"""Versions on disk and in service over whole lives: promoted, rolled back, retired, swept up after a crash."""

import pytest

from apprentice.errors import CallerError, LocalUnavailable
from apprentice.lineage import TAGS, lineages
from apprentice.testing.folding import refold
from apprentice.testing.world import Options, Traffic, simulate
from apprentice.wiring import dollars
from apprentice_events import vocabulary as v

FIRST = Traffic(requests=70, burst=5, settle=True, gap_s=0.0)
FOUR = {"local": {"fine_tune_batch_size": 10_000, "keep_versions": 4}, "sampling": {"min_floor": 1.0}}


def folders(world):
    return sorted(one.name for one in (world.config.local.model_dir / "task_0").glob("v*"))


def statuses(runtime):
    return {one.name.partition("@")[2]: one.status for one in runtime.status("task_0").versions}


def events(world, *kinds):
    return [event for event in (record.event() for record in world.memory.scan()) if isinstance(event, kinds)]


async def train(world, runtime, begin):
    await world.drive(runtime, FIRST, begin=begin)
    await runtime.operate("task_0", "train")
    await runtime.settled()


def test_a_person_goes_forth_and_back_and_no_request_notices():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            for begin in (1000, 2000):
                await train(world, runtime, begin)
                await runtime.operate("task_0", "promote")
            assert statuses(runtime) == {"v1": "standby", "v2": "rival", "v3": "champion"}
            before = runtime.status("task_0").served_local
            for action, version in (("promote", "task_0@v1"), ("rollback", "task_0@v2"), ("promote", "task_0@v3")):
                await runtime.operate("task_0", action, version, reason="for a test")
                asked = await world.drive(runtime, Traffic(requests=10, burst=10), begin=len(events(world)) + 9000)
                assert [one.error for one in asked] == [None] * 10
            assert runtime.status("task_0").served_local > before
            assert events(world, v.LocalFailed) == []
            assert [one.reason for one in events(world, v.AdapterRolledBack)] == ["for a test"]
            await runtime.operate("task_0", "retire", "task_0@v1")
            await world.clock.sleep(1.0)
            assert folders(world) == ["v2", "v3"]

    simulate(program, Options(seed=2, config=FOUR))


def test_after_a_restart_a_version_is_loaded_before_it_takes_over():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            for begin in (1000, 2000):
                await train(world, runtime, begin)
                await runtime.operate("task_0", "promote")
        async with world.open() as runtime:
            await world.clock.sleep(1.0)
            assert world.local.loaded() == {"task_0@v2", "task_0@v3"}, "champion and rival alone"
            await runtime.operate("task_0", "promote", "task_0@v1")
            assert "task_0@v1" in world.local.loaded()
            (world.config.local.model_dir / "task_0" / "v3" / "script.json").write_text("{}")
            await world.local.unload("task_0@v3")
            with pytest.raises(LocalUnavailable, match="task_0@v3 cannot take over"):
                await runtime.operate("task_0", "promote", "task_0@v3")
            assert runtime.status("task_0").champion == "task_0@v1"
            with pytest.raises(CallerError, match="v9 is not known"):
                await runtime.operate("task_0", "promote", "task_0@v9")
        assert events_of_refusals(world) == ["task_0@v9"]

    def events_of_refusals(world):
        world.memory.reopen()
        return [one.detail for one in events(world, v.OperatorActed) if one.refused]

    simulate(program, Options(seed=2, config=FOUR))


def test_a_bad_champion_is_rolled_back_by_itself_unloaded_and_kept_for_inspection():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            await train(world, runtime, 1000)
            await runtime.operate("task_0", "promote")
            scripts = world.local._scripts
            scripts["task_0@v2"] = type(scripts["task_0@v2"])(skill=0.1, claimed=1.0)
            await world.drive(runtime, Traffic(requests=60, burst=3, settle=True), begin=3000)
            await world.clock.sleep(1.0)
            assert statuses(runtime) == {"v1": "champion", "v2": "rolled_back"}
            assert world.local.loaded() == {"task_0@v1"}
            assert folders(world) == ["v1", "v2"]
            assert "rolled back" in runtime.status("task_0").alerts["rollback"]

    simulate(program, Options(seed=2, config=FOUR))


def test_what_a_crash_left_of_versions_that_are_not_kept_is_deleted_at_the_next_start():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            await train(world, runtime, 1000)
            await runtime.operate("task_0", "retire", "task_0@v2")
            await world.clock.sleep(1.0)
        home = world.config.local.model_dir / "task_0"
        for name in ("v2", "v7", ".v2.work"):
            (home / name).mkdir()
        async with world.open():
            await world.clock.sleep(1.0)
        assert folders(world) == ["v1", "v7"], "v7 is nobody's of this log and stays"
        assert (home / ".v2.work").is_dir()

    simulate(program, Options(seed=2, config=FOUR))


def test_versions_are_compared_on_held_out_rows_when_a_person_asks():
    async def program(world):
        async with world.open() as runtime:
            with pytest.raises(CallerError, match="has no version yet"):
                await runtime.compare("task_0")
            await world.drive(runtime, FIRST)
            alone = await runtime.compare("task_0", against="base")
            assert (alone.version, alone.against, alone.untrained) == ("task_0@v1", "base", True)
            assert alone.score == 1.0 > alone.against_score
            assert alone.accepted
            await train(world, runtime, 1000)
            scripts = world.local._scripts
            scripts["task_0@v2"] = type(scripts["task_0@v2"])(skill=0.1, claimed=1.0)
            recorded = len(list(world.memory.scan()))
            bad = await runtime.compare("task_0")
            assert (bad.version, bad.against, bad.accepted) == ("task_0@v2", "task_0@v1", False)
            assert "worse with confidence" in bad.reason
            assert bad.rows == runtime.status("task_0").held_out
            with pytest.raises(CallerError, match="v9 is not among the versions that are kept"):
                await runtime.compare("task_0", "task_0@v9")
            assert len(list(world.memory.scan())) == recorded, "comparing writes nothing"

    simulate(program, Options(seed=2, base_skill=0.2, config=FOUR))


def test_what_training_and_answering_cost_counts_and_is_told():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            found = runtime.status("task_0").money
            remote = sum(event.amount_nd for event in events(world, v.BudgetSettled))
            local = sum(event.cost_nd for event in events(world, v.LocalAnswered))
            (trained,) = events(world, v.AdapterTrained)
            assert trained.cost_nd == 2_000_000, "two seconds at $3.60 an hour"
            assert local > 0
            assert found.training == "0.002"
            assert found.local_compute == dollars(local)
            assert found.spent == dollars(remote + local + trained.cost_nd)
            assert found.would_have_been == dollars(remote)
            assert runtime.report().money.training == "0.002"
        world.memory.reopen()
        state, records = refold(world.memory.scan())[0]["task_0"], list(world.memory.scan())
        (told,) = lineages(state, [record for record in records if record.tag in TAGS])
        assert (told.cost, told.seconds) == ("0.002", 2.0)

    simulate(program, Options(seed=2, config={"local": {"price_per_hour": "3.60"}}))
