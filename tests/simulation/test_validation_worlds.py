"""Validation on held-out rows in whole worlds: against the untrained base, against the champion, slice by slice."""

import pytest

from apprentice.testing.world import Options, Traffic, simulate
from apprentice_events import vocabulary as v

FIRST = Traffic(requests=90, burst=5, settle=True, gap_s=0.0)


def events(world, *kinds):
    return [event for event in (record.event() for record in world.memory.scan()) if isinstance(event, kinds)]


@pytest.mark.parametrize(
    ("base_skill", "accepted"), [(None, True), (0.0, True), (0.5, True), (0.75, False), (1.0, False)]
)
def test_a_first_version_has_to_beat_the_untrained_base_where_there_is_one(base_skill, accepted):
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            (verdict,) = events(world, v.AdapterValidated, v.AdapterRejected)
            assert isinstance(verdict, v.AdapterValidated) is accepted
            assert verdict.incumbent == ("base" if base_skill is not None else None)
            assert (verdict.incumbent_score is None) is (base_skill is None)
            status = runtime.status("task_0")
            assert (status.champion == "task_0@v1") is accepted
            assert status.phase == ("reinforcement" if accepted else "cold_start")
            assert "base" not in [one.name for one in status.versions]

    simulate(program, Options(seed=5, base_skill=base_skill, outcomes=("learning",), skill=0.75))


def test_the_base_is_asked_once_and_a_later_version_meets_the_champion():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            await world.drive(runtime, FIRST, begin=1000)
            first, second, *_ = events(world, v.AdapterValidated, v.AdapterRejected)
            assert (first.incumbent, second.incumbent) == ("base", "task_0@v1")

    simulate(program, Options(seed=5, base_skill=0.2, config={"local": {"fine_tune_batch_size": 50}}))


def test_a_poisoned_version_is_rejected_with_its_slices_and_leaves_no_folder():
    async def program(world):
        async with world.open() as runtime:
            for begin in (0, 1000):
                for number in range(70):
                    tags = ("format",) if number % 3 else ("long", "format")
                    await runtime.submit("task_0", {"text": f"ticket {begin + number}"}, tags=tags)
                await runtime.settled()
            (validated,) = events(world, v.AdapterValidated)
            (rejected,) = events(world, v.AdapterRejected)
            assert [one.tag for one in rejected.slices] == ["format", "long"]
            form = rejected.slices[0]
            assert (form.rows, form.score, form.incumbent_score) == (
                rejected.rows,
                rejected.score,
                rejected.incumbent_score,
            )
            assert form.score < 0.3 < form.incumbent_score
            assert validated.slices[0].incumbent_score is None
            assert sorted(one.name for one in (world.config.local.model_dir / "task_0").glob("v*")) == ["v1"]

    simulate(program, Options(seed=5, outcomes=("perfect", "poisoned"), config={"local": {"fine_tune_batch_size": 50}}))


def test_what_the_trainer_measured_stands_in_the_log():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, FIRST)
            (trained,) = events(world, v.AdapterTrained)
            assert trained.metrics == {"agreement_holdout": 1.0}

    simulate(program, Options(seed=5))
