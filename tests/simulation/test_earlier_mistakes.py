"""What went wrong in earlier systems, each as a world in which it would show."""

from itertools import pairwise

import msgspec
import pytest

from apprentice.errors import InvalidConfig, RemoteRefused
from apprentice.testing.clock import SeededRandomness
from apprentice.testing.faults import Fault
from apprentice.testing.world import CATEGORIES, Options, SimulatedWorld, Traffic, simulate, truth
from apprentice.wiring import make_remotes
from apprentice_actors.policy.holdout import input_hash
from apprentice_events import vocabulary as v

STEADY = Traffic(requests=400, settle=True, gap_s=0.0)


def events(world: SimulatedWorld, *kinds: type[v.Event]) -> list[v.Event]:
    world.memory.reopen()
    found = [record.event() for record in world.memory.scan()]
    return [event for event in found if not kinds or isinstance(event, kinds)]


def flipped(given):
    """The teacher has changed its mind about everything."""
    return {"category": CATEGORIES[(CATEGORIES.index(truth(given)["category"]) + 1) % len(CATEGORIES)]}


async def graduated(world: SimulatedWorld, runtime, *, requests: int = 150) -> None:
    await world.drive(runtime, Traffic(requests=requests, settle=True, gap_s=0.0))
    assert runtime.status("task_0").phase == "steady_state"


# ---------------------------------------------------------------- 1 to 5: the loop


@pytest.mark.parametrize(("agreement", "asked_at_most"), [(0.90, 200), (0.95, 280)])
@pytest.mark.parametrize("seed", range(3))
def test_01_the_loop_closes_with_a_perfect_student(agreement, asked_at_most, seed):
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
        return len(world.frontier.calls)

    options = Options(seed=seed, traffic=STEADY, task={"guarantee": {"agreement": agreement}})
    assert simulate(program, options) <= asked_at_most


def test_02_reading_the_status_changes_nothing():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=130, settle=True))
            before, state = await world.log.head(), msgspec.json.encode(runtime._state("task_0"))
            for _ in range(1000):
                runtime.status("task_0")
            runtime.report()
            await runtime.settled()
            assert await world.log.head() == before
            assert msgspec.json.encode(runtime._state("task_0")) == state

    simulate(program)


def test_03_an_emergency_ends_when_the_student_is_back():
    async def program(world):
        async with world.open() as runtime:
            await graduated(world, runtime)
            world.teaches = flipped
            await world.drive(runtime, Traffic(requests=120, settle=True), begin=1000)
            assert runtime.status("task_0").phase == "reinforcement"
            assert "quality" in runtime.status("task_0").alerts
            world.teaches = truth
            await world.drive(runtime, Traffic(requests=350, settle=True), begin=2000)
            status = runtime.status("task_0")
            assert status.phase == "steady_state"
            assert status.alerts == {}
            assert status.served_local > 100

    simulate(program, Options(seed=3, config={"local": {"fine_tune_batch_size": 10_000}}))


@pytest.mark.parametrize("seed", range(2))
def test_04_a_steady_student_better_than_promised_is_never_sent_back(seed):
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
        assert events(world, v.ShiftDetected, v.DriftDetected, v.CertificateRevoked, v.CoachingStarted) == []
        phases = [event.after for event in events(world, v.PhaseChanged)]
        assert phases == ["reinforcement", "steady_state"]

    options = Options(
        seed=seed,
        traffic=Traffic(requests=5000, burst=50, gap_s=0.0),
        outcomes=("learning",),
        skill=0.95,
        config={"local": {"fine_tune_batch_size": 100_000}},
    )
    simulate(program, options)


@pytest.mark.parametrize("seed", range(3))
def test_04_total_collapse_is_noticed_within_about_a_hundred_requests(seed):
    async def program(world):
        async with world.open() as runtime:
            await graduated(world, runtime, requests=180)
            served = runtime.status("task_0").served_local
            world.teaches = flipped
            for begin in range(1000, 1400, 10):
                await world.drive(runtime, Traffic(requests=10, settle=True, gap_s=0.0), begin=begin)
                if runtime.status("task_0").phase != "steady_state":
                    break
            return runtime.status("task_0").served_local - served

    options = Options(
        seed=seed,
        config={"local": {"fine_tune_batch_size": 100_000}, "sampling": {"min_floor": 0.12}},
    )
    assert simulate(program, options) <= 110  # eight audits, at least, each of which disagrees


@pytest.mark.parametrize("seed", range(3))
def test_05_the_audit_rate_never_jumps(seed):
    async def program(world):
        async with world.open() as runtime:
            await graduated(world, runtime)
            world.teaches = flipped
            await world.drive(runtime, Traffic(requests=200, settle=True), begin=1000)
            world.teaches = truth
            await world.drive(runtime, Traffic(requests=300, burst=10, settle=True), begin=2000)
        rates = [1.0]
        for event in events(world, v.SamplingRateChanged, v.CoachingStarted):
            if isinstance(event, v.CoachingStarted) or event.correlation is None:
                rates = [1.0]  # every request is compared again: coaching, or the remote answers everything
                continue
            assert event.before == rates[-1]
            rates.append(event.after)
            assert all(abs(after - before) <= 0.05 + 1e-12 for before, after in pairwise(rates))

    simulate(program, Options(seed=seed, config={"local": {"fine_tune_batch_size": 10_000}}))


# ---------------------------------------------------------------- 6 and 7: see the tests of evaluators, prices, budgets


def test_06_two_answers_that_fit_no_schema_agree_about_nothing():
    async def program(world):
        async with world.open() as runtime:
            await graduated(world, runtime, requests=120)
            world.frontier.fail_next(Fault.wrong_schema, 1000)
            await runtime.operate("task_0", "reinforce")
            asked = await world.drive(runtime, Traffic(requests=20, settle=True), begin=1000)
            assert {type(one.error) for one in asked} == {RemoteRefused}
        scores = [event.score for event in events(world, v.RemoteScored)][-20:]
        assert scores == [0.0] * 20

    simulate(program, Options(seed=1))


def test_07_an_unpriced_model_is_refused_and_costs_nothing():
    async def program(world):
        with pytest.raises(InvalidConfig, match="price"):
            make_remotes(world.config, world.clock, SeededRandomness(0))[0]

    simulate(program, Options(config={"remote": {"provider": "anthropic", "model": "claude-of-tomorrow"}}))


# ---------------------------------------------------------------- 8 and 9: training


def test_08_a_failing_trainer_consumes_no_data():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
            assert runtime.status("task_0").champion == "task_0@v2"
        started = events(world, v.TrainingStarted)
        assert started[0].rows_train + started[0].rows_holdout == 50
        assert started[1].rows_train + started[1].rows_holdout == 150  # all of the first ones, and a batch more
        assert [type(event) for event in events(world, v.TrainingFailed, v.AdapterTrained)] == [
            v.TrainingFailed,
            v.AdapterTrained,
        ]

    simulate(program, Options(traffic=Traffic(requests=160, settle=True), outcomes=("failing", "perfect")))


def test_08_three_failures_wait_for_an_operator():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
            assert len(world.trainer.jobs) == 3
            assert "training" in runtime.status("task_0").alerts
            await runtime.operate("task_0", "train")
            await runtime.settled()
            assert len(world.trainer.jobs) == 4
            assert "training" not in runtime.status("task_0").alerts

    outcomes = ("failing", "failing", "failing", "perfect")
    options = Options(
        traffic=Traffic(requests=200, settle=True), outcomes=outcomes, config={"local": {"fine_tune_batch_size": 20}}
    )
    simulate(program, options)


@pytest.mark.parametrize("seed", range(3))
def test_08_a_poisoned_version_never_serves_for_long(seed):
    """It claims more than it can: the held-out rows or the live comparison send it away, and the old one serves on."""

    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
            status = runtime.status("task_0")
            assert len(world.trainer.jobs) >= 2
            assert status.champion == "task_0@v1"
            assert status.agreement_local is None or status.agreement_local > 0.9
        assert next(event.version for event in events(world, v.AdapterRejected, v.AdapterRolledBack)) == "task_0@v2"

    options = Options(
        seed=seed,
        traffic=Traffic(requests=400, settle=True),
        outcomes=("perfect", "poisoned"),
        config={"local": {"fine_tune_batch_size": 60}},
    )
    simulate(program, options)


def test_09_held_out_inputs_are_never_trained_on():
    trained, held = [], []

    async def program(world):
        async with world.open() as runtime:
            train = world.trainer.train

            async def watched(job, progress):
                trained.append(_hashes(job.train_file))
                held.append(_hashes(job.calibration_file))
                return await train(job, progress)

            world.trainer.train = watched
            for blanks in (1, 2):  # the same tickets again, spelled differently: no second side for them
                asked = await world.drive(runtime, Traffic(requests=150, burst=5))
                for one in asked[:40]:
                    await runtime.submit("task_0", {"text": one.given["text"].upper() + " " * blanks})
            await runtime.settled()
        assert len(trained) >= 2
        assert all(trained)
        assert all(held)
        assert set().union(*trained) & set().union(*held) == set()

    simulate(program, Options(config={"local": {"fine_tune_batch_size": 50}}, outcomes=("learning",), skill=0.5))


def _hashes(file: str) -> set[bytes]:
    with open(file, "rb") as lines:
        return {input_hash(msgspec.json.decode(line)["input"]) for line in lines}


# ---------------------------------------------------------------- 10 to 15: the outside


def test_10_braces_reach_the_teacher_as_they_are():
    text = "what does {input} in {{a template}} mean, {0} or %s or ${HOME}?"

    async def program(world):
        async with world.open() as runtime:
            await runtime.submit("task_0", {"text": text})
            assert world.frontier.calls[0].input == {"text": text}
            assert world.frontier.times_asked({"text": text}) == 1

    simulate(program, Options(task={"description": "Sort {this} and {{that}}"}))


def test_12_each_task_has_thresholds_of_its_own():
    async def program(world):
        changed = world.config.tasks[1].model_copy(
            update={
                "confidence_thresholds": world.config.tasks[1].confidence_thresholds.model_copy(
                    update={"phase1_to_phase2": 20}
                ),
                "guarantee": world.config.tasks[1].guarantee.model_copy(update={"agreement": 0.99}),
            }
        )
        world.config = world.config.model_copy(update={"tasks": (world.config.tasks[0], changed)})
        async with world.open() as runtime:
            await world.drive(runtime)
            first, second = runtime.status("task_0"), runtime.status("task_1")
            assert (first.promise.agreement, second.promise.agreement) == (0.90, 0.99)
            assert first.phase == "steady_state"
            assert second.phase == "reinforcement"  # 0.99 takes more evidence
        triggered = [event.examples for event in events(world, v.TrainingTriggered) if event.cause == "first"]
        assert sorted(triggered) == [20, 50]

    simulate(program, Options(tasks=2, traffic=Traffic(requests=320, settle=True, gap_s=0.0)))


def test_13_a_shadow_that_never_answers_raises_an_alert_and_is_counted():
    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime, Traffic(requests=60, settle=True))
            world.local.down = True
            await world.drive(runtime, Traffic(requests=30, settle=True), begin=100)
            status = runtime.status("task_0")
            assert "shadow" in status.alerts
            assert status.shadow_attempted == status.shadow_ran + status.shadow_failed == 40
            assert status.shadow_failed == 30
            world.local.down = False
            await world.drive(runtime, Traffic(requests=1, settle=True), begin=200)
            assert "shadow" not in runtime.status("task_0").alerts
        assert ("task_0", "shadow") in world.sink.cleared_alerts

    simulate(program)


def test_14_what_a_server_says_outside_the_schema_is_never_served():
    async def program(world):
        async with world.open() as runtime:
            await graduated(world, runtime, requests=120)
            world.local.truth = lambda question: {"category": "something else"}
            asked = await world.drive(runtime, Traffic(requests=30, settle=True), begin=1000)
            assert [one.output for one in asked] == [truth(one.given) for one in asked]
        assert len(events(world, v.LocalRejected)) >= 30
        escalated = [event.reason for event in events(world, v.RequestRouted) if "validation gate" in event.reason]
        assert escalated

    simulate(program, Options(seed=2))


def test_15_a_version_name_is_never_used_twice():
    async def program(world):
        for begin in (0, 1000):
            async with world.open() as runtime:
                await world.drive(runtime, begin=begin)
        made = [event.version for event in events(world, v.TrainingTriggered)]
        assert len(made) == len(set(made)) >= 4
        folders = [job.folder for job in world.trainer.jobs]
        assert len(folders) == len(set(folders))

    options = Options(
        traffic=Traffic(requests=150, settle=True),
        outcomes=("learning", "failing", "poisoned", "perfect"),
        config={"local": {"fine_tune_batch_size": 40}},
    )
    simulate(program, options)
