"""The purse: no paid call without a reservation, none over a cap, and nothing stays reserved for a dead call.

The treasury decides in memory; durability is the asking task's affair, which writes the very event that it was given
into its own stream together with the intent. After a crash the fold of all streams is the purse again.
"""

from collections import deque

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.log import Entry, EventLog
from apprentice_events.spend import SpendState

from .actor import Actor, ActorRef, Reply
from .herald import Announce, announce
from .policy.budget import Blocked, Fits, applying, judge_reservation, share_used
from .ports import Clock
from .settings import Cap, PurseSettings

STREAM = "treasury"


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that the caps do not allow. ``reopens``: ISO 8601 UTC, or a word where no window can be named."""

    cap: str
    reopens: str


class ReserveFor(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: set aside the highest possible price of one call. Waits while others' reservations are in the way."""

    task: str
    request: str
    attempt: int
    amount_nd: int
    reply: Reply[v.BudgetReserved | Denied]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Tell: these durable events of a task moved money (settled, released, trained, saved)."""

    task: str
    events: tuple[v.Event, ...]
    time_ns: int


class Adopt(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: a task's supervisor was (re)started; ``open`` are the reservations its stream knows, all others lapse."""

    task: str
    open: frozenset[str]
    reply: Reply[None]


class ReadSpend(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: the purse as plain data, for reports."""

    reply: Reply[bytes]


type TreasuryMessage = ReserveFor | Moved | Adopt | ReadSpend


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
    ) -> None:
        super().__init__(ref)
        self._log = log
        self._spend = spend
        self._settings = settings
        self._clock = clock
        self._herald = herald
        self._waiting: deque[ReserveFor] = deque()
        self._exhausted: dict[str, Cap] = {}
        self._warned: set[str] = set()
        self._facts: list[v.Event] = []

    async def receive(self, batch: list[TreasuryMessage]) -> None:
        """Money moves first, then who waits longest is served first, then the caps are looked at."""
        for message in batch:
            match message:
                case Moved():
                    for event in message.events:
                        self._spend.apply(message.task, event, message.time_ns)
                case ReserveFor():
                    self._waiting.append(message)
                case Adopt():
                    self._adopt(message)
                case ReadSpend():
                    message.reply.set(msgspec.json.encode(self._spend))
        self._serve_waiting()
        self._look_at_caps()
        if self._facts:
            await self._record()

    def _adopt(self, message: Adopt) -> None:
        """Lapse what a dead supervisor was granted but never wrote down."""
        for name, held in list(self._spend.reservations.items()):
            if held.task == message.task and name not in message.open:
                del self._spend.reservations[name]
        message.reply.set(None)

    def _serve_waiting(self) -> None:
        """First come, first served; a call that must wait does not hold up smaller ones of other caps."""
        now_ns = self._clock.now_ns()
        still: deque[ReserveFor] = deque()
        for asked in self._waiting:
            if not asked.reply.done and not self._serve(asked, now_ns):
                still.append(asked)
        self._waiting = still

    def _serve(self, asked: ReserveFor, now_ns: int) -> bool:
        verdict = judge_reservation(self._spend, self._settings, asked.task, asked.amount_nd, now_ns)
        if isinstance(verdict, Blocked):
            self._block(verdict)
            asked.reply.set(Denied(cap=verdict.cap.name, reopens=verdict.reopens.isoformat()))
            return True
        if not isinstance(verdict, Fits):
            return False
        event = v.BudgetReserved(request=asked.request, attempt=asked.attempt, amount_nd=asked.amount_nd)
        self._spend.apply(asked.task, event, now_ns)
        asked.reply.set(event)
        self._restore(asked.task)
        return True

    def _block(self, verdict: Blocked) -> None:
        cap = verdict.cap
        if cap.name in self._exhausted:
            return
        self._exhausted[cap.name] = cap
        reopens = verdict.reopens.isoformat()
        self._facts.append(
            v.BudgetExhausted(cap=cap.name, limit_nd=cap.limit_nd, spent_nd=verdict.spent_nd, reopens=reopens)
        )
        message = f"the {cap.name} budget of ${cap.limit_nd / 1e9:.2f} is exhausted until {reopens}"
        self._facts.append(v.AlertRaised(alert=f"budget:{cap.name}", severity="critical", message=message))

    def _restore(self, task: str) -> None:
        for cap in applying(self._settings.caps, task):
            if self._exhausted.pop(cap.name, None) is not None:
                self._facts.append(v.BudgetRestored(cap=cap.name))
                self._facts.append(v.AlertCleared(alert=f"budget:{cap.name}"))

    def _look_at_caps(self) -> None:
        now_ns = self._clock.now_ns()
        for cap in self._settings.caps:
            used = share_used(self._spend, cap, now_ns)
            near = f"budget-near:{cap.name}"
            if used >= self._settings.warn_at and near not in self._warned and cap.limit_nd > 0:
                self._warned.add(near)
                message = f"{used:.0%} of the {cap.name} budget of ${cap.limit_nd / 1e9:.2f} is spent"
                self._facts.append(v.AlertRaised(alert=near, severity="warning", message=message))
            elif used < self._settings.warn_at and near in self._warned:
                self._warned.discard(near)
                self._facts.append(v.AlertCleared(alert=near))

    async def _record(self) -> None:
        facts, self._facts = self._facts, []
        version = await self._log.stream_version(STREAM)
        await self._log.append(STREAM, version, [Entry(fact) for fact in facts], time_ns=self._clock.now_ns())
        for fact in facts:
            announce(self._herald, None, fact)
