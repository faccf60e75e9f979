"""The recorded requests decided anew: the real decisions and standing rules, with the world played from the record.

Requests come in their order and outcomes at their places in the log, so under the recorded settings the replay goes
the way that was gone. Versions of the local model come and go as they did: what another training would have made,
nobody knows.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import msgspec

from apprentice.whatif.filling import Filling
from apprentice.whatif.recorded import NOWHERE, Asked, Happened, Other, Place, Recorded
from apprentice_actors import commands as c
from apprentice_actors import review
from apprentice_actors.decide import decide
from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.spend import day_of
from apprentice_events.task_state import TaskState, evolve

type Changing = Callable[[TaskSettings], TaskSettings]
"""From the settings that were in force to those that shall be."""

_LEFT_OUT = frozenset({"judge_rival", "trigger_training", "retire_versions"})
RULES = tuple(
    rule for rule in review.RULES if rule.__name__ not in _LEFT_OUT and not rule.__name__.startswith("watch_")
)
"""The standing rules of judgement; versions are taken from the record, and alerts wake nobody."""


class Replayed(Happened, kw_only=True):
    """What the replay came to, beside what happened."""

    agreed: float = 0.0
    """Sum of the scores of locally served answers."""
    drawn: int = 0
    """Comparisons that the log does not have, so that their scores were drawn."""
    days: dict[int, int] = msgspec.field(default_factory=dict)
    """Spent by calendar day (proleptic ordinal)."""


class Replay:
    """One run over the record."""

    def __init__(
        self,
        recorded: Recorded,
        changing: Changing,
        filling: Filling,
        draw: Callable[[], float],
        *,
        price_nd: int,
        zone: str = "UTC",
    ) -> None:
        """``price_nd`` is what a remote answer costs where the log does not say; days begin as ``zone`` has it."""
        self.state = TaskState(task=recorded.task)
        self.found = Replayed(training_nd=recorded.happened.training_nd)
        self._recorded = recorded
        self._changing = changing
        self._filling = filling
        self._draw = draw
        self._price_nd = price_nd
        self._zone = zone
        self._settings = changing(TaskSettings(task=recorded.task))
        self._agenda: list[tuple[Place, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = self._begun_ns = 0
        self._at = NOWHERE
        self._asked: dict[str, Asked] = {}
        self._seen: object = None

    def run(self) -> Replayed:
        """Play everything; what it came to."""
        for one in self._recorded.asked:
            self._later(one.opened_at, self._open, one)
        for other in self._recorded.others:
            self._later(other.at, self._happen, other)
        while self._agenda:
            self._at, _, act, args = heappop(self._agenda)
            act(*args)
        return self.found

    def _later(self, at: Place | None, act: Callable[..., None], *args: Any) -> None:
        """Act at a place of the log, or at once where it is past or unknown."""
        self._made += 1
        heappush(self._agenda, (max(at or NOWHERE, self._at), self._made, act, args))

    @property
    def _now_ns(self) -> int:
        return self._at.time_ns

    # ------------------------------------------------------------ what comes from outside

    def _happen(self, other: Other) -> None:
        event = other.event
        if isinstance(event, v.ConfigApplied):
            settings = msgspec.json.decode(event.settings, type=TaskSettings)
            changed = self._changing(settings)
            self._settings = msgspec.structs.replace(changed, self_agreement_rate=0.0, hedge_after_s=None)
        elif isinstance(event, v.OperatorActed):
            if event.action == "reinforce":
                self._decide(c.OperatorAsked(action="reinforce"), None)
            return
        else:
            if isinstance(event, v.AdapterTrained) and event.cost_nd:
                self._spend(event.cost_nd)
            evolve(self.state, event, self._now_ns)
        self._review()

    def _open(self, asked: Asked) -> None:
        low, high = asked.coin
        request = c.Request(
            id=asked.id,
            input=asked.input,
            coin=low + (high - low) * self._draw(),
            tags=asked.tags,
            holdout=asked.holdout,
            received_ns=self._now_ns,
        )
        self._begun_ns = self._begun_ns or self._now_ns
        self.found.requests += 1
        self._asked[asked.id] = asked
        if asked.recovered_at is not None:
            self._later(asked.recovered_at, self._recover, asked)
        locally = self.state.phase == "steady_state" and self.state.gate is not None
        if self.state.phase == asked.phase:  # whoever was under way when the phase changed goes as they went
            locally = asked.route == "local_first"
        champion = self.state.versions.champion
        if locally and champion is not None:
            self._effect(c.AskLocal(request=request, version=champion, role="champion"), asked)
        else:
            self._effect(c.Reserve(request=request, attempt=1, purpose="serve"), asked)

    def _recover(self, asked: Asked) -> None:
        flight = self.state.flights.get(asked.id)
        if flight is None:
            return
        for attempt, reserved in list(flight.calls.items()):
            self._take(v.BudgetSettled(request=asked.id, attempt=attempt, amount_nd=reserved, reserved_nd=reserved))
        if asked.id in self.state.flights:
            self._take(v.RequestRecovered(request=asked.id, charged_nd=0, reason="as recorded"))

    # ------------------------------------------------------------ deciding

    def _decide(self, command: c.Command, asked: Asked | None) -> None:
        decision = decide(self.state, self._settings, command, self._now_ns)
        for event in decision.events:
            self._take(event)
        if not isinstance(command, c.Reserved | c.ReservationRefused):
            self._review()
        if asked is not None:
            for effect in decision.effects:
                self._effect(effect, asked)

    def _review(self) -> None:
        """Ask the rules, unless nothing that they look at has moved since they had nothing to say."""
        state = self.state
        seen = (
            *(state.evidence.everything.count, state.evidence.epoch, state.versions.champion, state.teachers.change),
            *(state.coaching_spent_nd, state.pace, id(self._settings)),
        )
        if seen == self._seen:
            return
        said = False
        for rule in RULES:
            for event in rule(state, self._settings).events:
                self._take(event)
                said = True
        self._seen = None if said else seen

    def _take(self, event: v.Event) -> None:
        evolve(self.state, event, self._now_ns)
        found = self.found
        if isinstance(event, v.ResponseServed):
            if event.by == "local":
                found.served_local += 1
                found.agreed += self._filling.pair(self._asked[event.request]).score
            else:
                found.served_remote += 1
        elif isinstance(event, v.RequestFailed):
            found.failed += 1
        elif isinstance(event, v.BudgetSettled):
            self._spend(event.amount_nd)
        elif isinstance(event, v.LocalAnswered):
            self._spend(event.cost_nd)
        elif isinstance(event, v.PhaseChanged) and event.after == "steady_state" and found.graduated_after is None:
            found.graduated_after = found.requests
            found.graduated_ns = self._now_ns - self._begun_ns

    def _spend(self, amount_nd: int) -> None:
        if amount_nd:
            self.found.spent_nd += amount_nd
            day = day_of(self._now_ns, self._zone)
            self.found.days[day] = self.found.days.get(day, 0) + amount_nd

    # ------------------------------------------------------------ the world, from the record

    def _effect(self, effect: c.Effect, asked: Asked) -> None:
        match effect:
            case c.Reserve(purpose="serve" | "audit"):
                self._reserve(effect, asked)
            case c.AskLocal(role="rival"):
                unknown = c.LocalBad(kind="failed", reason="rivals are not replayed")
                self._local(effect, asked, unknown)
            case c.AskLocal(shadow=True):
                self._later(asked.local_at, self._local, effect, asked, self._answer(asked))
            case c.AskLocal():
                self._local(effect, asked, self._answer(asked))
            case c.CallRemote():
                self._call(effect, asked)
            case c.Score():
                self._later(asked.scored_at, self._score, effect.request, asked)

    def _answer(self, asked: Asked) -> c.LocalOk | c.LocalBad:
        if asked.local_failure is not None:
            kind = "rejected" if asked.local_rejected else "failed"
            return c.LocalBad(kind=kind, reason=asked.local_failure)  # type: ignore[arg-type]  # one of the two
        pair = self._filling.pair(asked)
        output = asked.local_output or "not recorded"
        return c.LocalOk(output=output, p_agree=pair.p_agree, latency_ms=0.0, cost_nd=asked.local_nd)

    def _local(self, effect: c.AskLocal, asked: Asked, outcome: c.LocalOk | c.LocalBad) -> None:
        told = c.LocalReturned(
            request=effect.request, version=effect.version, role=effect.role, outcome=outcome, shadow=effect.shadow
        )
        self._decide(told, asked)

    def _reserve(self, effect: c.Reserve, asked: Asked) -> None:
        if asked.refused is not None:
            error = asked.error if asked.error in ("BudgetExhausted", "RemoteUnavailable") else "BudgetExhausted"
            refused = c.ReservationRefused(
                request=effect.request,
                attempt=effect.attempt,
                purpose=effect.purpose,
                reason=asked.refused,
                reopens="",
                error=error,  # type: ignore[arg-type]  # one of the two
                local=effect.local,
                version=effect.version,
            )
            self._later(asked.refused_at, self._decide, refused, asked)
            return
        provider, _, model = (asked.teacher or "a/teacher").partition("/")
        reservation = v.BudgetReserved(request=asked.id, attempt=effect.attempt, amount_nd=self._cost(asked))
        granted = c.Reserved(
            request=effect.request,
            reservation=reservation,
            provider=provider,
            model=model,
            purpose=effect.purpose,
            local=effect.local,
            version=effect.version,
        )
        self._decide(granted, asked)

    def _cost(self, asked: Asked) -> int:
        """What all calls of a request cost together, or what one is expected to where there was none."""
        return asked.spent_nd if asked.calls else asked.saved_nd or self._price_nd

    def _call(self, effect: c.CallRemote, asked: Asked) -> None:
        self.found.calls += asked.calls or 1
        if asked.calls and asked.remote_at is None:
            return  # it was under way when the log ended, or recovery closes it
        outcome: c.RemoteOk | c.RemoteBad
        if asked.calls and asked.remote_output is None:
            outcome = c.RemoteBad(kind=asked.remote_kind, reason="as recorded", cost_nd=asked.spent_nd)
        else:
            outcome = c.RemoteOk(
                output=asked.remote_output or "not recorded",
                model=asked.model or "not recorded",
                cost_nd=self._cost(asked),
                usage=v.TokenUsage(),
                latency_ms=0.0,
                teachable=asked.teachable,
            )
        returned = c.RemoteReturned(
            request=effect.request, attempt=effect.attempt, outcome=outcome, teacher=effect.teacher, expired=True
        )
        self._later(asked.remote_at, self._decide, returned, asked)

    def _score(self, request: c.Request, asked: Asked) -> None:
        if asked.evaluator_failed:
            self._decide(c.ScoringFailed(request=request, reason="as recorded"), asked)
            return
        if asked.score is not None:
            self._decide(c.Scored(request=request, score=asked.score, chance=asked.chance), asked)
            return
        pair = self._filling.pair(asked)
        self.found.drawn += 1
        self._decide(c.Scored(request=request, score=pair.score, chance=pair.chance), asked)
