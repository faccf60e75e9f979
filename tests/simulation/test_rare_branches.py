"""Rare things do happen in these worlds: every event that is ever recorded is recorded here at least once."""

import asyncio

from apprentice.testing.faults import Fault
from apprentice.testing.model_api import Announced
from apprentice.testing.world import CATEGORIES, MODELS, Options, SimulatedWorld, Traffic, simulate, truth
from apprentice_events.vocabulary import EVENTS

NOT_YET = {
    "examples_imported": "no command imports examples yet",
    "body_erased": "erasing has tests of its own",
}
"""Events of the vocabulary that nothing records so far, and why."""

NO_TRAINING = {"local": {"fine_tune_batch_size": 100_000}}


def turned(share: float):
    """A teacher who has changed its mind about a share of the tickets."""

    def teaches(given):
        category = CATEGORIES.index(truth(given)["category"])
        moved = 37 * int(given["text"].split()[1]) % 100 < 100 * share  # scattered: no runs that look like a shift
        return {"category": CATEGORIES[(category + moved) % len(CATEGORIES)]}

    return teaches


async def collapse(world: SimulatedWorld) -> None:
    """Shift, revocation, and the way back."""
    async with world.open() as runtime:
        await world.drive(runtime, Traffic(requests=150, settle=True))
        world.teaches = turned(1.0)
        await world.drive(runtime, Traffic(requests=120, settle=True), begin=1000)
        world.teaches = truth
        await world.drive(runtime, Traffic(requests=300, settle=True), begin=2000)


async def wear(world: SimulatedWorld) -> None:
    """Agreement wears away slowly: coaching, and its end."""
    async with world.open() as runtime:
        await world.drive(runtime, Traffic(requests=200, settle=True))
        world.teaches = turned(0.24)
        await world.drive(runtime, Traffic(requests=900, burst=10), begin=1000)
        world.teaches = truth
        await world.drive(runtime, Traffic(requests=300, burst=10), begin=4000)


async def people(world: SimulatedWorld) -> None:
    """Corrections, ratings, an operator; and a student outside the schema."""
    async with world.open() as runtime:
        result = await runtime.submit("task_0", {"text": "ticket 1"})
        await runtime.correct(result.request_id, {"category": "bug"}, author="ann")
        await runtime.feedback(result.request_id, 0.5, comment="so so")
        await world.drive(runtime, Traffic(requests=60, settle=True))
        await runtime.operate("task_0", "train")
        await world.drive(runtime, Traffic(requests=20, settle=True), begin=500)
        world.local.truth = lambda question: {"category": "?"}
        await world.drive(runtime, Traffic(requests=10, settle=True), begin=1000)
        world.local.truth = lambda question: truth(question.input)
        world.local.down = True
        await world.drive(runtime, Traffic(requests=2, settle=True), begin=1500)
        world.local.down = False
        evaluator = runtime.evaluator("task_0")

        async def broken(*args: object) -> float:
            raise ValueError("no score")

        object.__setattr__(evaluator, "score", broken)
        await world.drive(runtime, Traffic(requests=3, settle=True), begin=2000)


async def trouble(world: SimulatedWorld) -> None:
    """Failing calls, a cap, its next window, a death with calls under way, a better version and its retirement."""
    async with world.open() as runtime:
        await world.drive(runtime)
        await world.clock.sleep(86_400.0)
        await world.drive(runtime, Traffic(requests=150, burst=5), begin=5000)
        world.log.stream = "task/task_0"
        driving = asyncio.create_task(world.drive(runtime, Traffic(requests=5, burst=5), begin=9000))
        await world.clock.sleep(0.1)
        world.log.fail_next("conflict")
        await driving
        await world.clock.sleep(5.0)


async def backwards(world: SimulatedWorld) -> None:
    """The operator promotes a version that is worse; its predecessor comes back by itself."""
    async with world.open() as runtime:
        await world.drive(runtime, Traffic(requests=70, settle=True))
        skilled = world.local.accuracy
        await runtime.operate("task_0", "train")
        await runtime.settled()
        rival = runtime.status("task_0").rival
        assert rival is not None
        await runtime.operate("task_0", "promote", rival)
        scripts = world.local._scripts
        scripts[rival] = type(scripts[rival])(skill=0.2, claimed=1.0)
        world.local.accuracy = skilled
        await world.drive(runtime, Traffic(requests=80, settle=True), begin=1000)


async def forbidden(world: SimulatedWorld) -> None:
    """A provider whose answers may not be trained on."""
    async with world.open() as runtime:
        await world.drive(runtime, Traffic(requests=3, settle=True))


async def ending(world: SimulatedWorld) -> None:
    """The teacher's provider announces its end."""
    world.frontier.announced[MODELS[0]] = Announced(shutdown_date="2026-12-31")
    async with world.open() as runtime:
        await world.drive(runtime, Traffic(requests=2, settle=True))


async def doubted(world: SimulatedWorld) -> None:
    """Every question is asked twice; the second time the teacher is down once."""
    async with world.open() as runtime:
        await world.drive(runtime, Traffic(requests=1, settle=True))
        world.teaches = lambda given: (world.frontier.fail_next(Fault.unauthorized, 1), truth(given))[1]
        await world.drive(runtime, Traffic(requests=1, settle=True), begin=10)


WORLDS = {
    "doubted": (doubted, Options(config={"sampling": {"self_agreement_rate": 1.0}})),
    "ending": (ending, Options(watched=True)),
    "pacing": (
        forbidden,
        Options(task={"max_output_tokens": 64}, config={"budget": {"daily": "0.01", "pacing": True}}),
    ),
    "forbidden": (forbidden, Options(teacher={"distillation": "disallowed"})),
    "collapse": (collapse, Options(seed=1, config=NO_TRAINING)),
    "wear": (
        wear,
        Options(
            seed=4,
            task={"guarantee": {"agreement": 0.8}},
            config={**NO_TRAINING, "sampling": {"min_floor": 0.5, "false_alarm_every": 20}},
        ),
    ),
    "people": (people, Options(seed=1)),
    "trouble": (
        trouble,
        Options(
            seed=4,
            traffic=Traffic(requests=260, burst=10, impatient=0.1),
            fault_probability=0.2,
            fault_kinds=(Fault.server_error, Fault.cut_connection, Fault.refusal, Fault.unauthorized),
            task={"max_output_tokens": 64, "confidence_thresholds": {"phase1_to_phase2": 20}},
            config={"budget": {"daily": "0.2"}, "local": {"fine_tune_batch_size": 20, "keep_versions": 1}},
            outcomes=("poisoned", "learning", "failing", "learning", "poisoned", "perfect"),
        ),
    ),
    "backwards": (backwards, Options(seed=1, config=NO_TRAINING)),
}


def tags_of(name: str) -> set[str]:
    program, options = WORLDS[name]

    async def whole(world: SimulatedWorld) -> set[str]:
        await program(world)
        async with world.open():
            return {record.tag for record in world.memory.scan()}

    return simulate(whole, options)


def test_every_event_happens_in_some_world():
    seen = {name: tags_of(name) for name in WORLDS}
    missing = EVENTS.keys() - set().union(*seen.values()) - NOT_YET.keys()
    assert missing == set()
    assert NOT_YET.keys() & set().union(*seen.values()) == set(), "recorded after all: strike it from NOT_YET"
