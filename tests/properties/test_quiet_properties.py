"""Leaving out the standing rules after quiet events changes nothing: two lives hear the same and decide the same.

One asks its rules after every command, the other where an event is not quiet. Whatever happens to them, in whatever
order, at whatever time, their events and effects are the same, and so are those of their successors.
"""

import random
from collections import deque

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apprentice_actors import alerts
from apprentice_actors import commands as c
from apprentice_actors.decide import decide
from apprentice_actors.quiet import UNREVIEWED, ask_rules, quiet
from apprentice_actors.recovery import recover
from apprentice_actors.settings import TaskSettings
from apprentice_events import evidence
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve

SECOND = 10**9
HOUR = 3600 * SECOND
TEACHERS = ("p/m", "p/n")
BEGIN_NS = 1_767_225_600 * SECOND


@pytest.fixture(scope="module", autouse=True)
def _limits_within_reach():
    """Limits that otherwise take thousands of requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "OPEN_TURNS_MAX", 5)
        patch.setattr(alerts, "INPUTS_MIN", 10)
        yield


class Life:
    """The supervisor of a task without its loop and its log. ``skips`` leaves out what is quiet."""

    def __init__(self, rules, *, skips):
        self.rules, self.skips = rules, skips
        self.log = []
        self.begin(BEGIN_NS)

    def begin(self, now_ns):
        self.now_ns = now_ns
        self.state = TaskState(task=self.rules.task)
        for event, time_ns in self.log:
            evolve(self.state, event, time_ns)
        self.said, self.reviews = [], 0
        self.take(recover(self.state))
        self.review()
        return self.said

    def decide(self, command, now_ns):
        self.now_ns, self.said = now_ns, []
        silence, decision = self.silence, decide(self.state, self.rules, command, now_ns)
        self.take(decision)
        if silence is not None and not (self.skips and quiet(self.state, self.rules, silence, decision.events)):
            self.silence = None
        if self.silence is None and not isinstance(command, UNREVIEWED):
            self.review()
        return self.said

    def review(self):
        self.reviews += 1
        self.silence = ask_rules(self.state, self.rules, self.take)

    def take(self, decision):
        for event in decision.events:
            evolve(self.state, event, self.now_ns)
            self.log.append((event, self.now_ns))
        self.said += [*decision.events, *decision.effects]


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Some requests under the same circumstances. All but the first two are chances in [0, 1]."""

    requests: int = 30
    gap_ns: int = SECOND
    agrees: float = 1.0
    doubtful: float = 0.9
    """The same for answers that the student is not sure of, in proportion."""
    sure: float = 0.7
    unusual: float = 0.0
    breaks: float = 0.0
    refused: float = 0.0
    down: float = 0.0
    late: float = 0.0


class Twins:
    """Both lives and the world around them, which chance makes."""

    def __init__(self, rules, seed):
        self.lives = Life(rules, skips=True), Life(rules, skips=False)
        self.chance = random.Random(seed)
        self.now_ns, self.made = BEGIN_NS, 0
        self.pending = deque()
        self.stretch = Stretch()
        self.last = None
        self.outcomes = {
            c.Reserve: self._reserve,
            c.AskLocal: self._ask_local,
            c.CallRemote: self._call_remote,
            c.Hedge: self._hedge,
            c.Score: self._score,
            c.ScoreRepeat: self._score_repeat,
            c.StartTraining: self._train,
            c.Validate: self._validate,
        }

    @property
    def state(self):
        return self.lives[0].state

    def hear(self, command):
        self.now_ns += self.chance.randrange(1000)
        quick, thorough = (life.decide(command, self.now_ns) for life in self.lives)
        assert quick == thorough, command
        self.pending += [one for one in quick if not isinstance(one, v.Event)]

    def restart(self):
        self.pending.clear()
        quick, thorough = (life.begin(self.now_ns) for life in self.lives)
        assert quick == thorough
        self.pending += [one for one in quick if not isinstance(one, v.Event)]

    def play(self, stretch):
        self.stretch = stretch
        for _ in range(stretch.requests):
            self.now_ns += stretch.gap_ns
            self.made += 1
            tags = ("a",) if self.made % 3 else ()
            coin, holdout = self.chance.random(), self.made % 5 == 0
            self.last = c.Request(id=f"r{self.made}", input=f"i{self.made}", coin=coin, holdout=holdout, tags=tags)
            self.hear(c.Submit(request=self.last))
            while self.pending and not self.happens(stretch.late):
                self.act()
        while self.pending and not self.happens(stretch.late / 20):
            self.act()

    def happens(self, chance):
        return self.chance.random() < chance

    def act(self):
        """Something that is under way comes to its end; of several it may be any."""
        if self.stretch.late:
            self.pending.rotate(self.chance.randrange(3))
        self.carry_out(self.pending.popleft())

    def carry_out(self, effect):
        outcome = self.outcomes.get(type(effect))
        for command in outcome(effect) if outcome is not None else ():
            self.hear(command)

    # ------------------------------------------------------------ what comes of effects

    def _reserve(self, effect):
        request, attempt = effect.request, effect.attempt
        handed = {"request": request, "purpose": effect.purpose, "local": effect.local, "version": effect.version}
        if self.happens(self.stretch.refused):
            error = self.chance.choice(["BudgetExhausted", "RemoteUnavailable"])
            yield c.ReservationRefused(attempt=attempt, reason="no money", reopens="", error=error, **handed)
            return
        teacher = effect.teacher or self.chance.choice(TEACHERS)
        provider, model = teacher.split("/")
        granted = v.BudgetReserved(request=request.id, attempt=attempt, amount_nd=10)
        yield c.Reserved(reservation=granted, provider=provider, model=model, hedge=effect.hedge, **handed)

    def _ask_local(self, effect):
        outcome = c.LocalBad(kind=self.chance.choice(["failed", "rejected"]), reason="scripted")
        if not self.happens(self.stretch.breaks):
            p_agree = self.chance.choice([0.97, 0.92]) if self.happens(self.stretch.sure) else self.chance.random()
            novelty = 0.99 if self.happens(self.stretch.unusual) else 0.5
            outcome = c.LocalOk(output="o", p_agree=p_agree, latency_ms=1.0, novelty=novelty)
        yield c.LocalReturned(
            request=effect.request, version=effect.version, role=effect.role, outcome=outcome, shadow=effect.shadow
        )

    def _call_remote(self, effect):
        if self.happens(self.stretch.down):
            kind = self.chance.choice(["unavailable", "interrupted", "refusal", "invalid"])
            outcome = c.RemoteBad(kind=kind, reason="scripted", cost_nd=self.chance.choice([0, 10]))
        else:
            model = "renamed" if self.happens(self.stretch.down / 10) else effect.teacher
            outcome = c.RemoteOk(
                output="o", model=model, cost_nd=10, usage=v.TokenUsage(), latency_ms=1.0, teachable=self.happens(0.95)
            )
        yield c.RemoteReturned(
            request=effect.request, attempt=effect.attempt, outcome=outcome, teacher=effect.teacher, alternatives=1
        )

    def _hedge(self, effect):
        yield c.HedgeDue(request=effect.request, attempt=effect.attempt)
        if self.pending and isinstance(self.pending[-1], c.Reserve) and self.pending[-1].hedge:
            self.carry_out(self.pending.pop())  # before the first call can end: attempts are numbered by what is out

    def _score(self, effect):
        if self.happens(self.stretch.breaks):
            yield c.ScoringFailed(request=effect.request, reason="scripted")
            return
        flight = self.state.flights[effect.request.id]
        sure = flight.local is not None and flight.local.p_agree >= 0.9
        agrees = self.stretch.agrees * (1.0 if sure else self.stretch.doubtful)
        score, rival = (float(self.happens(agrees)) for _ in range(2))
        yield c.Scored(
            request=effect.request, score=score, chance=0.2, rival_score=rival if flight.rival is not None else None
        )

    def _score_repeat(self, effect):
        yield c.RepeatScored(request=effect.request, score=float(self.happens(self.stretch.agrees)))

    def _train(self, effect):
        yield c.TrainingBegan(job=effect.job, rows_train=4, rows_holdout=1, dataset="d")
        yield c.TrainingMoved(job=effect.job, fraction=0.5, message="half")
        if self.happens(self.stretch.breaks):
            yield c.TrainingBroke(job=effect.job, version=effect.version, reason="scripted")
            return
        trained = v.AdapterTrained(
            job=effect.job, version=effect.version, parent=effect.parent, manifest="m", examples=4, seconds=1.0
        )
        yield c.TrainingDone(trained=trained)

    def _validate(self, effect):
        if self.happens(self.stretch.breaks):
            yield c.ValidationBroke(version=effect.version, reason="scripted")
            return
        row = c.HeldOutRow(candidate=1.0, incumbent=1.0 if effect.incumbent is not None else None)
        yield c.ValidationDone(version=effect.version, incumbent=effect.incumbent, rows=(row,) * 40)


# ---------------------------------------------------------------- what may happen

shares = st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.3, 1.0])
gaps = st.sampled_from([0, SECOND, SECOND, HOUR, 30 * HOUR, -SECOND])
stretches = st.builds(
    Stretch,
    requests=st.sampled_from([3, 20, 40, 150]),
    gap_ns=gaps,
    agrees=st.sampled_from([1.0, 1.0, 0.95, 0.8, 0.5, 0.0]),
    doubtful=st.sampled_from([1.0, 0.9, 0.8, 0.6]),
    sure=st.sampled_from([1.0, 0.7, 0.3]),
    unusual=shares,
    breaks=shares,
    refused=shares,
    down=shares,
    late=st.sampled_from([0.0, 0.0, 0.3, 0.7]),
)
told = st.one_of(
    st.just(c.TimePassed()),
    st.just(c.Review()),
    st.builds(c.Paced, factor=st.sampled_from([0.0, 0.3, 1.0]), reason=st.just("scripted")),
    st.builds(c.TeacherNoticed, teacher=st.sampled_from(TEACHERS), notice=st.sampled_from([None, "ends"])),
    st.builds(c.OperatorAsked, action=st.sampled_from(["train", "promote", "rollback", "reinforce"])),
)
persons = st.sampled_from(["correct", "rate", "erase"])
steps = st.one_of(stretches, stretches, stretches, told, persons, gaps, st.just("restart"))
rules = st.builds(
    TaskSettings,
    task=st.just("t"),
    phase1_to_phase2=st.just(5),
    phase2_to_phase3=st.sampled_from([0.3, 0.6]),
    coaching_trigger=st.sampled_from([0.2, 0.97]),
    emergency_threshold=st.sampled_from([0.0, 0.1]),
    guarantee=st.sampled_from([0.7, 0.8, 0.9]),
    gates=st.sampled_from([(0.9, 0.5, 0.0), (0.9, 0.0)]),
    window_size=st.sampled_from([8, 20]),
    min_floor=st.sampled_from([0.02, 0.3]),
    trend_sensitivity=st.sampled_from([0.0, 0.05]),
    batch=st.sampled_from([20, 200]),
    cron=st.sampled_from([None, "0 3 * * *"]),
    max_wait_s=st.sampled_from([None, 7200.0]),
    cooldown_s=st.sampled_from([0.0, 3600.0]),
    on_exhausted=st.sampled_from(["reject", "local"]),
    on_remote_down=st.sampled_from(["reject", "local"]),
    hedge_after_s=st.sampled_from([None, 1.0]),
    licences=st.sampled_from([(), tuple((name, "allowed") for name in TEACHERS), (("p/m", "unknown"),)]),
    missed_in_a_row=st.sampled_from([3, 20]),
    audit=st.sampled_from(["background", "inline"]),
    self_agreement_rate=st.sampled_from([0.0, 0.3]),
    pacing=st.booleans(),
    coaching_budget_nd=st.sampled_from([None, 20]),
)


def take(twins, step):
    """Let one step happen."""
    match step:
        case Stretch():
            twins.play(step)
        case int():
            twins.now_ns += step
        case "restart":
            twins.restart()
        case str() if twins.last is None:
            return
        case "correct":
            about, tags = twins.last, twins.last.tags
            twins.hear(
                c.CorrectionGiven(request=about.id, input="i", output="o", author=None, holdout=False, tags=tags)
            )
        case "rate":
            twins.hear(c.FeedbackGiven(request=twins.last.id, rating=1.0, comment=None))
        case "erase":
            versions = tuple(twins.state.versions.known)
            twins.hear(c.EraseAsked(request=twins.last.id, bodies=("i",), versions=versions, reason="asked"))
        case _:
            twins.hear(step)


WAITING = TaskSettings(
    task="t",
    phase1_to_phase2=5,
    phase2_to_phase3=0.3,
    guarantee=0.8,
    gates=(0.9, 0.0),
    window_size=20,
    min_floor=0.3,
    batch=10**6,
)
"""With these and chance 955 a burst begins at a request that is not compared, for requests alone make it pay."""


@settings(max_examples=50, deadline=None)
@example(WAITING, 955, 150, [])
@given(rules, st.integers(0, 10**6), st.integers(0, 150), st.lists(steps, min_size=3, max_size=12))
def test_whatever_happens_the_same_is_decided(rules, seed, taught, steps):
    twins = Twins(rules, seed)
    twins.play(Stretch(requests=taught))
    for step in steps:
        take(twins, step)
    quick, thorough = twins.lives
    assert quick.log == thorough.log
    assert quick.reviews <= thorough.reviews
