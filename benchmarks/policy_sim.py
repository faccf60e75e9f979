"""Requests of one task played through the real decisions, as fast as they decide: no loop, no log, no clock.

:func:`play` says to ``decide`` what the supervisor of a task (``apprentice_actors/task.py``) would say, asks the
standing rules after the same commands, folds the same events in the same order, and carries out each effect at once by
asking a :class:`benchmarks.policy_world.World`. What differs from life: money is never refused, no call breaks, and
time is counted in requests. Nothing here decides anything.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any

from apprentice_actors import commands as c
from apprentice_actors.comparing import CHANCE_PAIRS
from apprentice_actors.decide import decide
from apprentice_actors.decision import Decision
from apprentice_actors.lessons_effects import HELD_OUT_ROWS_MAX
from apprentice_actors.quiet import UNREVIEWED, Silence, ask_rules, quiet
from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState, evolve
from benchmarks.policy_world import Lesson, Note, Played, Told, World

PROVIDER, MODEL = "simulated", "teacher"
PRICE_ND = 1_000_000
"""Price of every remote answer, in nano-dollars."""
REMEMBERED = 16
"""Remote answers kept for agreement by chance, as the supervisor keeps them."""
NO_TOKENS = v.TokenUsage()


def play(
    settings: TaskSettings,
    world: World,
    requests: int,
    *,
    training_takes: int = 0,
    thorough: bool = False,
    enough: Callable[[Note], bool] = lambda note: False,
    listen: Callable[[v.Event], None] | None = None,
) -> Played:
    """Play requests ``0 … requests - 1`` to their end.

    ``training_takes`` is how many requests come in during a training. After a note that is ``enough``, no further
    request comes in. ``listen`` hears every event, routine ones too. ``thorough`` asks the rules after quiet events
    too, which takes several times as long and ends in the same events.
    """
    return _Player(settings, world, training_takes, thorough, enough, listen).play(requests)


ROUTINE = frozenset(
    {
        *(v.RequestReceived, v.RequestRouted, v.LocalAnswered, v.LocalFailed, v.ResponseServed, v.RemoteCallIntended),
        *(v.RemoteAnswered, v.RemoteScored, v.ExampleCollected, v.AuditMissed, v.BudgetReserved, v.BudgetSettled),
    }
)
"""Steps of a request: folded and counted, but not noted."""


class _Live:
    """The outputs behind the digests of one request."""

    __slots__ = ("local", "local_score", "rival")

    def __init__(self) -> None:
        self.local: Any = None
        self.local_score: float | None = None
        self.rival: Any = None


class _Player:
    """The supervisor and everybody it talks to, in one."""

    def __init__(
        self,
        settings: TaskSettings,
        world: World,
        training_takes: int,
        thorough: bool,
        enough: Callable[[Note], bool],
        listen: Callable[[v.Event], None] | None,
    ) -> None:
        self.settings = settings
        self.world = world
        self.state = TaskState(task=settings.task)
        self.index = -1
        self.told: list[Told] = []
        self.notes: list[Note] = []
        self._training_takes = training_takes
        self._thorough = thorough
        self._enough = enough
        self._listen = listen
        self._over = False
        self._silence: Silence | None = None
        self._todo: list[c.Effect] = []
        self._live: dict[str, _Live] = {}
        self._recent: deque[int] = deque(maxlen=REMEMBERED)
        self._collected: list[int] = []
        self._ready: deque[c.Command] = deque()
        self._later: list[tuple[int, int, Callable[[], c.Command]]] = []
        self._order = count()
        self._acts: dict[type[Any], Callable[[Any], None]] = {
            c.Reserve: self._reserve,
            c.AskLocal: self._ask_local,
            c.CallRemote: self._call_remote,
            c.Score: self._score,
            c.StartTraining: self._start_training,
            c.Validate: self._validate,
        }
        self._tells: dict[type[Any], Callable[[Told, Any], None]] = {
            v.RequestRouted: _routed,
            v.ResponseServed: _served,
            v.RemoteCallIntended: _called,
        }

    def play(self, requests: int) -> Played:
        self._review()
        for index in range(requests):
            self.index = index
            self._wait(index - 1)
            coin, holdout = self.world.coin(index), self.world.holdout(index)
            request = c.Request(id=str(index), input=f"i{index}", coin=coin, holdout=holdout)
            self._live[request.id] = _Live()
            self.told.append(Told())
            self._ready.append(c.Submit(request=request))
            self._wait(index)
            if self._over:
                break
        self._wait(None)
        return Played(told=self.told, notes=self.notes, state=self.state)

    # ------------------------------------------------------------ deciding, as the supervisor does

    def _wait(self, until: int | None) -> None:
        """Let everything happen that is due by request ``until``, what is at hand first."""
        ready, later = self._ready, self._later
        while True:
            while ready:
                self._decide(ready.popleft())
            if not later or (until is not None and later[0][0] > until):
                return
            ready.append(heappop(later)[2]())

    def _decide(self, command: c.Command) -> None:
        decision, silence = decide(self.state, self.settings, command, 0), self._silence
        self._take(decision)
        if silence is not None and (self._thorough or not quiet(self.state, self.settings, silence, decision.events)):
            self._silence = None
        if self._silence is None and not isinstance(command, UNREVIEWED):
            self._review()
        todo, self._todo = self._todo, []
        for effect in todo:
            act = self._acts.get(type(effect))
            if act is not None:  # replies and the loading and dropping of versions need nobody here
                act(effect)

    def _review(self) -> None:
        self._silence = ask_rules(self.state, self.settings, self._take)

    def _take(self, decision: Decision) -> None:
        state = self.state
        self._todo += decision.effects
        for event in decision.events:
            evolve(state, event, 0)
            kind = type(event)
            if kind not in ROUTINE:
                opened = state.evidence.open_turns
                turn = next(iter(opened)) - 1 if opened else state.evidence.last_turn
                self.notes.append(Note(self.index, turn, event))
                self._over = self._over or self._enough(self.notes[-1])
            tell = self._tells.get(kind)
            if tell is not None:
                tell(self.told[int(event.request)], event)  # type: ignore[attr-defined]  # all of these have one
            elif kind is v.ExampleCollected:
                self._collected.append(int(event.request))  # type: ignore[attr-defined]
            if self._listen is not None:
                self._listen(event)

    # ------------------------------------------------------------ acting, as the effects do

    def _reserve(self, effect: c.Reserve) -> None:
        self._ready.append(
            c.Reserved(
                request=effect.request,
                reservation=v.BudgetReserved(request=effect.request.id, attempt=effect.attempt, amount_nd=PRICE_ND),
                provider=PROVIDER,
                model=MODEL,
                purpose=effect.purpose,
                hedge=effect.hedge,
                local=effect.local,
                version=effect.version,
            )
        )

    def _ask_local(self, effect: c.AskLocal) -> None:
        name = effect.request.id
        index, live = int(name), self._live[name]
        said = self.world.answer(index, effect.version)
        outcome: c.LocalOk | c.LocalBad
        if said is None:
            outcome = c.LocalBad(kind="failed", reason="scripted to fail")
        else:
            outcome = c.LocalOk(output=f"{effect.role[0]}{name}", p_agree=said.p_agree, latency_ms=0.0)
            if effect.role == "champion":
                told = self.told[index]
                live.local, live.local_score = said.output, self.world.score(said.output, index)
                told.p_agree, told.score, told.version = said.p_agree, live.local_score, effect.version
            else:
                live.rival = said.output
        self._ready.append(
            c.LocalReturned(
                request=effect.request,
                version=effect.version,
                role=effect.role,
                outcome=outcome,
                shadow=effect.shadow,
            )
        )

    def _call_remote(self, effect: c.CallRemote) -> None:
        index = int(effect.request.id)

        def answered() -> c.Command:
            self._recent.append(index)
            output = c.RemoteOk(output=f"o{index}", model=MODEL, cost_nd=PRICE_ND, usage=NO_TOKENS, latency_ms=0.0)
            return c.RemoteReturned(
                request=effect.request, attempt=effect.attempt, outcome=output, teacher=effect.teacher
            )

        self._at(self.world.lag(index), answered)

    def _at(self, lag: int, happens: Callable[[], c.Command]) -> None:
        heappush(self._later, (self.index + lag, next(self._order), happens))

    def _score(self, effect: c.Score) -> None:
        name = effect.request.id
        live, score = self._live[name], self.world.score
        rival = None
        flight = self.state.flights.get(name)
        if flight is not None and flight.rival is not None:
            rival = score(live.rival, int(name)) if live.rival is not None else 0.0
        self._ready.append(
            c.Scored(
                request=effect.request,
                score=live.local_score if live.local_score is not None else 0.0,
                chance=self._chance(live, int(name)),
                rival_score=rival,
            )
        )

    def _chance(self, live: _Live, index: int) -> float:
        others = list(islice((other for other in reversed(self._recent) if other != index), CHANCE_PAIRS))
        if live.local is None or not others:
            return 0.0
        return sum(self.world.score(live.local, other) for other in others) / len(others)

    # ------------------------------------------------------------ training

    def _start_training(self, effect: c.StartTraining) -> None:
        known = self.state.versions.known[effect.version]
        lesson = self._lesson(effect, known.examples, self.state.versions.trained_examples)
        self._ready.append(
            c.TrainingBegan(
                job=effect.job, rows_train=len(lesson.rows), rows_holdout=len(lesson.held_out), dataset="simulated"
            )
        )

        def done() -> c.Command:
            self.world.train(lesson)
            trained = v.AdapterTrained(
                job=effect.job,
                version=effect.version,
                parent=effect.parent,
                manifest="simulated",
                examples=len(lesson.rows),
                seconds=0.0,
            )
            return c.TrainingDone(trained=trained)

        self._at(self._training_takes, done)

    def _lesson(self, effect: c.StartTraining, upto: int, fresh_after: int) -> Lesson:
        rows, held_out = self._rows(self._collected[:upto])
        fresh = frozenset(self._collected[fresh_after:upto])
        return Lesson(effect.version, effect.parent, rows, held_out, fresh)

    def _rows(self, collected: Sequence[int]) -> tuple[list[int], list[int]]:
        """Of several with the same input the last one counts, and takes its place in the order."""
        latest: dict[Hashable, int] = {}
        for index in collected:
            name = self.world.name(index)
            latest.pop(name, None)
            latest[name] = index
        held_out = self.world.holdout
        return [row for row in latest.values() if not held_out(row)], [row for row in latest.values() if held_out(row)]

    def _validate(self, effect: c.Validate) -> None:
        rows = self._rows(self._collected)[1][-HELD_OUT_ROWS_MAX:]
        scored = tuple(
            c.HeldOutRow(
                candidate=self._held_out_score(effect.version, row),
                incumbent=self._held_out_score(effect.incumbent, row) if effect.incumbent is not None else None,
            )
            for row in rows
        )
        self._ready.append(c.ValidationDone(version=effect.version, incumbent=effect.incumbent, rows=scored))

    def _held_out_score(self, version: str, row: int) -> float:
        said = self.world.answer(row, version)
        return self.world.score(said.output, row) if said is not None else 0.0


def _routed(told: Told, event: v.RequestRouted) -> None:
    told.phase, told.gate, told.turn = event.phase, event.gate, event.turn
    if event.turn:
        told.rate, told.compared = event.audit_probability, event.audit


def _served(told: Told, event: v.ResponseServed) -> None:
    told.served = event.by


def _called(told: Told, event: v.RemoteCallIntended) -> None:
    told.calls += 1
