"""The policy simulator of the benchmarks goes the way that the whole runtime goes, event by event."""

import random

import msgspec
import pytest

from apprentice.testing.models import Script, ScriptedLocalModel, two_kinds
from apprentice.testing.world import CATEGORIES, Options, Traffic, simulate, truth
from apprentice.wiring import task_settings
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.policy.holdout import held_out, input_hash
from apprentice_actors.ports import Example, Question
from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from benchmarks.policy_rows import RowWorld
from benchmarks.policy_sim import play
from benchmarks.policy_world import Said

ELSEWHERE = {
    *("input", "output", "latency_ms", "cost_nd", "saved_nd", "amount_nd", "reserved_nd", "usage", "provider", "model"),
    *("manifest", "dataset", "seconds", "audit_probability", "metrics", "statistics", "novelty"),
}
"""Fields that speak of money, time and bodies, and of what came of a training, which the simulator does without; the
coin is compared as ``audit``."""


class NoWait:
    """A clock on which nothing takes time."""

    async def sleep(self, seconds):
        """Return at once."""


class Copied:
    """The scripted student and the teacher of a simulated world, without the world; coins as its log tells them."""

    def __init__(self, options, settings, coins) -> None:
        self.student = ScriptedLocalModel(
            lambda question: truth(question.input), NoWait(), accuracy=options.accuracy, seed=options.seed
        )
        self.settings = settings
        self.coins = coins
        self.schema = {"properties": {"category": {"enum": list(CATEGORIES)}}}

    def given(self, index):
        return {"text": f"ticket {index}"}

    def coin(self, index):
        return self.coins.get(index, 0.0)

    def name(self, index):
        return index

    def holdout(self, index):
        return held_out(self.given(index), self.settings.holdout_share)

    def answer(self, index, version):
        question = Question(task=self.settings.task, input=self.given(index), output_schema=self.schema)
        try:
            self.student.answer(question, version).send(None)
        except StopIteration as done:
            return Said(done.value.output, done.value.p_agree)
        raise AssertionError("it waited")

    def score(self, output, index):
        return float(output == truth(self.given(index)))

    def train(self, lesson):
        skill = len(lesson.rows) / (len(lesson.rows) + 20.0)
        self.student._scripts[lesson.version] = Script(skill=skill, claimed=skill)

    def lag(self, index):
        return 0


def spelled(event, names):
    fields = msgspec.to_builtins(event)
    if "request" in fields:
        fields["request"] = names.setdefault(fields["request"], len(names))
    return type(event).__name__, {name: value for name, value in fields.items() if name not in ELSEWHERE}


def told(events):
    """Events as far as both sides have them, requests numbered in the order of coming."""
    names: dict[str, int] = {}
    passed = (v.ConfigApplied, v.TrainingProgressed)
    found = []
    for event in events:
        if isinstance(event, v.RequestReceived):
            names.setdefault(event.request, len(names))
        if not isinstance(event, passed):
            found.append(spelled(event, names))
    return found


OPTIONS = Options(
    seed=5,
    outcomes=("learning",),
    accuracy=two_kinds(0.7, easy=1.0, hard=0.6),
    traffic=Traffic(requests=700, settle=True, gap_s=0.0),
    task={"guarantee": {"agreement": 0.8}, "confidence_thresholds": {"phase2_to_phase3": 0.7, "coaching_trigger": 0.6}},
)


@pytest.fixture(scope="module")
def life():
    """The settings and the events of a task in the whole runtime."""

    async def program(world):
        async with world.open() as runtime:
            await world.drive(runtime)
        world.memory.reopen()
        records = [record.event() for record in world.memory.scan() if record.stream == "task/task_0"]
        return task_settings(world.config, world.config.tasks[0]), records

    return simulate(program, OPTIONS)


def coins_of(events):
    """A coin for every request that would fall as it fell."""
    numbers: dict[str, int] = {}
    coins = {}
    for event in events:
        if isinstance(event, v.RequestReceived):
            numbers[event.request] = len(numbers)
        elif isinstance(event, v.RequestRouted):
            coins[numbers[event.request]] = 0.0 if event.audit else 1.0
    return coins


def test_it_goes_the_way_of_the_runtime_event_by_event(life):
    settings, lived = life
    simulated = []
    world = Copied(OPTIONS, settings, coins_of(lived))
    played = play(settings, world, OPTIONS.traffic.requests, listen=simulated.append)
    assert told(simulated) == told(lived)
    kinds = {name for name, _ in told(lived)}
    assert {"CertificateIssued", "GateChanged", "SamplingRateChanged", "AdapterPromoted", "RemoteScored"} <= kinds
    assert sum(one.served == "local" for one in played.told) > 50


def test_asking_the_rules_only_about_news_ends_in_the_same_events(life):
    settings, lived = life
    coins, quick, thorough = coins_of(lived), [], []
    for heard, asks_always in ((quick, False), (thorough, True)):
        world = Copied(OPTIONS, settings, coins)
        play(settings, world, OPTIONS.traffic.requests, thorough=asks_always, listen=heard.append)
    assert quick == thorough


class Steady:
    """A student that agrees with a given probability."""

    def __init__(self, agreement, *, lag=0) -> None:
        chance = random.Random(3)
        self.draws = [chance.random() for _ in range(3_000)]
        self.coins = [chance.random() for _ in range(3_000)]
        self.agreement, self.late = agreement, lag

    def coin(self, index):
        return self.coins[index]

    def name(self, index):
        return index

    def holdout(self, index):
        return index % 5 == 0

    def answer(self, index, version):
        return Said((index if self.draws[index] < self.agreement else -1) % 4, 0.97)

    def score(self, output, index):
        return float(output == index % 4)

    def train(self, lesson):
        assert set(lesson.rows).isdisjoint(lesson.held_out)

    def lag(self, index):
        return self.late


SETTINGS = TaskSettings(task="t", gates=DEFAULT_GATES, batch=10**9)


def test_late_answers_of_the_teacher_lose_nothing():
    prompt = play(SETTINGS, Steady(0.99), 2_000)
    late = play(SETTINGS, Steady(0.99, lag=40), 2_000)
    for played in (prompt, late):
        assert played.state.phase == "steady_state"
        assert played.state.flights == {}
        assert all(one.served for one in played.told)
        assert played.state.counters.audits_missed == 0
    opened = [played.events(v.GateChanged)[0][0] for played in (prompt, late)]
    assert opened[0] < opened[1] <= opened[0] + 81


def test_a_training_takes_its_time():
    played = play(SETTINGS, Steady(0.99), 300, training_takes=100)
    ((triggered, _),) = played.events(v.TrainingTriggered)
    ((trained, _),) = played.events(v.AdapterTrained)
    assert trained - triggered == 100


def test_recorded_rows_teach_a_student_that_is_fitted_on_them():
    lessons = []

    class Known:
        def __init__(self, rows, unseen) -> None:
            assert not {input_hash(row.input) for row in rows} & {input_hash(row.input) for row in unseen}
            lessons.append((len(rows), len(unseen), sum(row.fresh for row in rows)))

        def answer(self, inputs):
            return [({"word": given["text"].lower()[0]}, 0.99) for given in inputs]

    rows = [
        Example(
            request=str(number), input={"text": f"{'aB'[number % 2]} {number % 300}"}, output={"word": "ab"[number % 2]}
        )
        for number in range(600)
    ]
    world = RowWorld(rows, Known, lambda local, remote: float(local == remote), holdout_share=0.2)
    played = play(TaskSettings(task="t", gates=DEFAULT_GATES, batch=100), world, len(rows))
    assert played.state.phase == "steady_state"
    assert lessons[0][0] + lessons[0][1] == 50
    assert all(one.score == 1.0 for one in played.told if one.version)
    assert played.told[-1].served == "local"
    assert next(iter(world.models)) == "t@v1"
    assert all(fresh <= trained for trained, _, fresh in lessons)
