"""The purse: no paid call without a reservation, none over a cap, and nothing stays reserved for a dead call.

The treasury decides in memory; durability is the asking task's affair, which writes the very event that it was given
into its own stream together with the intent. After a crash the fold of all streams is the purse again.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.log import Entry, EventLog
from apprentice_events.spend import MONEY_TAGS, SpendState, window_start

from . import commands as c
from .actor import Actor, ActorRef, Reply
from .herald import Announce, announce
from .policy.budget import Blocked, Fits, Waits, judge_reservation, share_used
from .policy.pacing import pace_of, worth_telling
from .ports import Clock
from .settings import Cap, PurseSettings

STREAM = "treasury"
NEAR = "budget-near:"
"""How the names of the alerts begin that warn of a cap."""


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that is not made: why, in words, and when the cap's window reopens (ISO 8601 UTC, or empty)."""

    reason: str
    reopens: str
    error: Literal["BudgetExhausted", "RemoteUnavailable", "TaskIsolated"] = "BudgetExhausted"
    """The public error that it comes to."""


class ReserveFor(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: set aside the highest possible price of one call. Waits while others' reservations are in the way."""

    task: str
    request: str
    attempt: int
    amount_nd: int
    reply: Reply[v.BudgetReserved | Denied]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: what stands in the way of a call that has waited in vain."""

    task: str
    amount_nd: int
    reply: Reply[Denied]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Tell: these durable events of a task moved money (reserved, settled, released, trained, saved)."""

    task: str
    events: tuple[v.Event, ...]
    time_ns: int


class Adopt(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: a task's supervisor was (re)started and has closed what was open: take its money from its stream."""

    task: str
    reply: Reply[None]


class CatchUp(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: answered once everything that followed from earlier messages is durable, and the tasks were told."""

    reply: Reply[None]


class Exhausted(msgspec.Struct, frozen=True):
    """A cap that stood in the way, and the first day of the window in which it did."""

    limit_nd: int
    start: int


type TreasuryMessage = ReserveFor | Refusal | Moved | Adopt | CatchUp


class Treasury(Actor[TreasuryMessage]):
    """Turn-taking over the money of all tasks."""

    def __init__(
        self,
        ref: ActorRef[TreasuryMessage],
        *,
        log: EventLog,
        spend: SpendState,
        settings: PurseSettings,
        clock: Clock,
        herald: ActorRef[Announce] | None = None,
        tell: Callable[[str, c.Paced], bool] = lambda task, command: False,
    ) -> None:
        """``tell`` takes a command to a task, if that has room for it; used where the settings say ``pacing``."""
        super().__init__(ref)
        self._log = log
        self._spend = spend
        self._settings = settings
        self._clock = clock
        self._herald = herald
        self._waiting: deque[ReserveFor] = deque()
        self._exhausted: dict[str, Exhausted] = {}
        self._warned: set[str] = set()
        self._facts: list[v.Event] = []
        self._tell = tell
        self._paced: dict[str, float] = {}
        """The factors that the tasks were told."""

    async def started(self) -> None:
        """What was said about the caps stays said: a restart raises no alert again, and ends those that are over."""
        for record in self._log.scan(stream=STREAM):
            match record.event():
                case v.BudgetExhausted() as event:
                    day = self._spend.day_of(record.time_ns)
                    window = event.cap.rpartition(":")[2]
                    self._exhausted[event.cap] = Exhausted(event.limit_nd, window_start(day, window))
                case v.BudgetRestored() as event:
                    self._exhausted.pop(event.cap, None)
                case v.AlertRaised() as event if event.alert.startswith(NEAR):
                    self._warned.add(event.alert)
                case v.AlertCleared() as event:
                    self._warned.discard(event.alert)

    async def receive(self, batch: list[TreasuryMessage]) -> None:
        """Money moves first, then who waits longest is served first, then the caps are looked at."""
        recorded: list[Reply[None]] = []
        for message in batch:
            match message:
                case Moved():
                    for event in message.events:
                        self._spend.apply(message.task, event, message.time_ns)
                case ReserveFor():
                    self._waiting.append(message)
                case Refusal():
                    message.reply.set(self._refusal(message))
                case Adopt():
                    await self._adopt(message)
                case CatchUp():
                    recorded.append(message.reply)
        if self._exhausted:
            self._restore(self._clock.now_ns())
        self._serve_waiting()
        self._look_at_caps()
        if self._settings.pacing:
            self._pace()
        if self._facts:
            await self._record()
        for reply in recorded:
            reply.set(None)

    async def _adopt(self, message: Adopt) -> None:
        """An earlier life may have been granted what it never wrote, and may have written what it never told."""
        folded = SpendState(zone=self._spend.zone)
        async for record in self._log.read(stream=f"task/{message.task}", tags=MONEY_TAGS):
            folded.apply(message.task, record.event(), record.time_ns)
        self._spend.take_over(message.task, folded)
        message.reply.set(None)

    def _refusal(self, message: Refusal) -> Denied:
        verdict = judge_reservation(self._spend, self._settings, message.task, message.amount_nd, self._clock.now_ns())
        if isinstance(verdict, Blocked):
            return self._denied(verdict)
        what = "the calls under way did not settle before the deadline"
        if not isinstance(verdict, Waits):
            return Denied(reason=f"no money came free in time: {what}; try again", reopens="")
        cap, reopens = verdict.cap, verdict.reopens.isoformat()
        return Denied(
            reason=f"the {cap.name} budget of {_usd(cap.limit_nd)} is set aside, and {what}; it reopens {reopens}",
            reopens=reopens,
        )

    @staticmethod
    def _denied(verdict: Blocked) -> Denied:
        cap, reopens = verdict.cap, verdict.reopens.isoformat()
        return Denied(
            reason=f"the {cap.name} budget of {_usd(cap.limit_nd)} is exhausted until {reopens}", reopens=reopens
        )

    def _serve_waiting(self) -> None:
        """First come, first served; a call that must wait does not hold up smaller ones of other caps."""
        now_ns = self._clock.now_ns()
        still: deque[ReserveFor] = deque()
        in_vain: set[tuple[str, int]] = set()  # what found no room in this round finds none later in it
        for asked in self._waiting:
            what = asked.task, asked.amount_nd
            if asked.reply.done:
                continue
            if what in in_vain or not self._serve(asked, now_ns):
                in_vain.add(what)
                still.append(asked)
        self._waiting = still

    def _serve(self, asked: ReserveFor, now_ns: int) -> bool:
        verdict = judge_reservation(self._spend, self._settings, asked.task, asked.amount_nd, now_ns)
        if isinstance(verdict, Blocked):
            denied = self._denied(verdict)
            self._block(verdict, denied, now_ns)
            asked.reply.set(denied)
            return True
        if not isinstance(verdict, Fits):
            return False
        event = v.BudgetReserved(request=asked.request, attempt=asked.attempt, amount_nd=asked.amount_nd)
        self._spend.apply(asked.task, event, now_ns)
        asked.reply.set(event)
        return True

    def _block(self, verdict: Blocked, denied: Denied, now_ns: int) -> None:
        """Say once per window that a cap is reached; smaller calls may still fit under it."""
        cap = verdict.cap
        if cap.name in self._exhausted:
            return
        self._exhausted[cap.name] = Exhausted(cap.limit_nd, self._window(cap, now_ns))
        self._facts.append(
            v.BudgetExhausted(cap=cap.name, limit_nd=cap.limit_nd, spent_nd=verdict.spent_nd, reopens=denied.reopens)
        )
        self._facts.append(v.AlertRaised(alert=f"budget:{cap.name}", severity="critical", message=denied.reason))

    def _window(self, cap: Cap, now_ns: int) -> int:
        return window_start(self._spend.day_of(now_ns), cap.window)

    def _restore(self, now_ns: int) -> None:
        """A new window, a higher limit, or a cap that is gone, lets calls through again."""
        present = {cap.name: Exhausted(cap.limit_nd, self._window(cap, now_ns)) for cap in self._settings.caps}
        for name, then in list(self._exhausted.items()):
            now = present.get(name)
            if now is None or now.start != then.start or now.limit_nd > then.limit_nd:
                del self._exhausted[name]
                self._facts.append(v.BudgetRestored(cap=name))
                self._facts.append(v.AlertCleared(alert=f"budget:{name}"))

    def _look_at_caps(self) -> None:
        now_ns = self._clock.now_ns()
        for cap in self._settings.caps:
            used = share_used(self._spend, cap, now_ns)
            near = NEAR + cap.name
            if used >= self._settings.warn_at and near not in self._warned and cap.limit_nd > 0:
                self._warned.add(near)
                message = f"{used:.0%} of the {cap.name} budget of {_usd(cap.limit_nd)} is spent"
                self._facts.append(v.AlertRaised(alert=near, severity="warning", message=message))
            elif used < self._settings.warn_at and near in self._warned:
                self._warned.discard(near)
                self._facts.append(v.AlertCleared(alert=near))

    def _pace(self) -> None:
        """Tell each task how fast it may buy audits, when that changes. A life that knows nothing tells all anew."""
        now_ns = self._clock.now_ns()
        for task in self._spend.tasks:
            pace = pace_of(self._spend, self._settings, task, now_ns)
            told = self._paced.get(task)
            news = told is None or worth_telling(told, pace.factor)
            if news and self._tell(task, c.Paced(factor=pace.factor, reason=pace.reason)):
                self._paced[task] = pace.factor

    async def _record(self) -> None:
        facts, self._facts = self._facts, []
        version = await self._log.stream_version(STREAM)
        await self._log.append(STREAM, version, [Entry(fact) for fact in facts], time_ns=self._clock.now_ns())
        for fact in facts:
            announce(self._herald, None, fact)


def _usd(amount_nd: int) -> str:
    return f"${amount_nd / 1e9:.2f}"
