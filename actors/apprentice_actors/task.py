"""The supervisor of one task: receive → decide → fold → append → effects, for whatever is ready, as one commit.

Commands that gather while a commit is under way are decided together: each sees the state that the one before left,
and all their events become durable at once. Nothing leaves the actor earlier: no reply, no paid call. If the append
fails, it is not known what is durable; the actor dies with all it decided since, and its successor folds the log.
"""

from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from itertools import batched
from pathlib import Path
from typing import Any

import msgspec

from apprentice_events import vocabulary as v
from apprentice_events.bodies import Body, make_body
from apprentice_events.log import APPEND_ENTRIES_MAX, Entry, EventLog
from apprentice_events.spend import MONEY
from apprentice_events.task_state import TaskState, evolve

from . import commands as c
from .actor import Actor, ActorRef, Reply
from .decide import decide
from .decision import Decision
from .effects import Effects
from .herald import Announce, announce
from .keys import KeyKnown, look_up
from .live import BodyShelf, Live, RequestDenied, SubmitRequest
from .local import LocalMessage
from .policy.holdout import held_out
from .ports import Clock, DatasetBuilder, Evaluator, JsonObject, Question, Randomness, Validator
from .quiet import UNREVIEWED, Silence, ask_rules, quiet
from .recovery import recover
from .settings import TaskSettings
from .teachers import Teachers
from .trainer import Train
from .treasury import Adopt, Moved, TreasuryMessage

SALT_BYTES = 16


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a task is, apart from the rules of judgement."""

    name: str
    settings: TaskSettings
    description: str = ""
    output_schema: JsonObject | None = None
    match_fields: tuple[str, ...] = ()
    deadline_s: float = 60.0
    max_in_flight: int = 1000
    max_output_tokens: int = 1024
    local_nd_per_ms: float = 0.0
    """Price of local compute, in nano-dollars per millisecond of answering or training."""
    image_fields: tuple[str, ...] = ()
    tools: tuple[JsonObject, ...] = ()
    model_dir: Path = Path("models")
    training: dict[str, Any] = {}
    """Handed to the trainer as they are."""


class TaskPorts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a supervisor talks to."""

    log: EventLog
    clock: Clock
    randomness: Randomness
    treasury: ActorRef[TreasuryMessage]
    teachers: Teachers
    local: ActorRef[LocalMessage]
    trainer: ActorRef[Train]
    datasets: DatasetBuilder
    evaluator: Evaluator
    validator: Validator
    herald: ActorRef[Announce] | None = None


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: a person's command (correction, feedback, intervention), answered once it is durable."""

    command: c.PersonCommand
    bodies: tuple[Body, ...]
    reply: Reply[None]


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: answered once nothing is in flight and everything that was decided is durable."""

    reply: Reply[None]


type TaskMessage = SubmitRequest | KeyKnown | Person | Rest | c.Command


class TaskSupervisor(Actor[TaskMessage]):
    """One life of a task's supervisor. ``state`` may be read by anyone on the loop and changed by nobody else."""

    batch_max = 128

    def __init__(self, ref: ActorRef[TaskMessage], *, spec: TaskSpec, ports: TaskPorts) -> None:
        super().__init__(ref)
        self.spec = spec
        self.ports = ports
        self.state = TaskState(task=spec.name)
        self.live: dict[str, Live] = {}
        self.shelf = BodyShelf()
        self.recent: deque[tuple[str, JsonObject]] = deque(maxlen=16)
        """The newest remote outputs with their requests, for agreement by chance."""
        self._stream = f"task/{spec.name}"
        self._version = 0
        self._by_key: dict[str, Live] = {}
        self._now_ns = 0
        self._entries: list[Entry] = []
        self._bodies: list[Body] = []
        self._todo: list[c.Effect] = []
        self._answered: list[Reply[None]] = []
        self._touched: set[str] = set()
        """Requests that an outcome came in for since the last commit."""
        self._rest: list[Reply[None]] = []
        self._at_work = True
        """Whether the state may be ahead of the log."""
        self._silence: Silence | None = None
        """Set while no standing rule has anything to say."""
        self._hands = Effects(self)

    @property
    def learning(self) -> bool:
        """Whether a version is being trained, validated or loaded."""
        return self.state.versions.job is not None or self.state.versions.candidate is not None

    @property
    def at_rest(self) -> bool:
        """Whether nothing is in flight and the log has everything that was decided."""
        return not (self._at_work or self.live or self.state.flights or self.learning)

    # ------------------------------------------------------------ the three steps

    async def started(self) -> None:
        """Fold the log, close what the last life left dangling, load the versions that serve."""
        for record in self.ports.log.scan(stream=self._stream):
            evolve(self.state, record.event(), record.time_ns)
            self._version = record.version
        await self._remember_remote()
        self._now_ns = self.ports.clock.now_ns()
        settings = msgspec.json.encode(self.spec.settings).decode()
        if self.state.config != settings:
            self._take(Decision((v.ConfigApplied(digest=_digest(settings), settings=settings),)))
        self._take(recover(self.state))
        self._review()
        await self._commit()
        await self.ports.treasury.ask(lambda reply: Adopt(task=self.spec.name, reply=reply), 60.0)
        self._at_work = False

    async def receive(self, batch: list[TaskMessage]) -> None:
        """Decide everything that is ready, make it durable, then act."""
        self._at_work = True
        self._now_ns = self.ports.clock.now_ns()
        for message in batch:
            match message:
                case SubmitRequest():
                    self._admit(message)
                case KeyKnown():
                    self._key_known(message)
                case Person():
                    for body in message.bodies:
                        self.shelf.put(body)
                    self._answered.append(message.reply)
                    self._decide(message.command)
                case Rest():
                    self._rest.append(message.reply)
                case _:
                    self._outcome(message)
        await self._commit()
        self._at_work = False
        if self.at_rest:
            self._tell_rest()

    def _tell_rest(self) -> None:
        for reply in self._rest:
            reply.set(None)
        self._rest.clear()

    # ------------------------------------------------------------ deciding

    def _outcome(self, command: c.Command) -> None:
        request = getattr(command, "request", None)
        if isinstance(request, c.Request):
            live = self.live.get(request.id)
            if live is None:  # it was under way in an earlier life, and recovery has closed it
                return
            live.pending -= 1
            self._touched.add(request.id)
        self._decide(command)

    def _decide(self, command: c.Command) -> None:
        settings, silence = self.spec.settings, self._silence
        decision = decide(self.state, settings, command, self._now_ns)
        self._take(decision)
        if silence is not None and not quiet(self.state, settings, silence, decision.events):
            self._silence = None
        if self._silence is None and not isinstance(command, UNREVIEWED):
            self._review()

    def _review(self) -> None:
        self._silence = ask_rules(self.state, self.spec.settings, self._take)

    def _take(self, decision: Decision) -> None:
        for event in decision.events:
            evolve(self.state, event, self._now_ns)
            self._bodies += self.shelf.take_named(event)
            key = event.key if isinstance(event, v.RequestReceived) else None
            self._entries.append(Entry(event, correlation=getattr(event, "request", None), key=key))
        self._todo += decision.effects

    # ------------------------------------------------------------ admission

    def _admit(self, message: SubmitRequest) -> None:
        joined = self._by_key.get(message.key) if message.key is not None else None
        if joined is not None and not joined.failed:
            self._join(joined, message)
            return
        if len(self.live) >= self.spec.max_in_flight:
            limit = f"{self.spec.name} has {len(self.live)} requests in flight, its limit; slow down and try again"
            message.reply.fail(RequestDenied("Overloaded", limit))
            return
        live = self._new_live(message)
        live.replies.append(message.reply)
        self.live[live.request.id] = live
        if message.key is None:
            self._begin(live)
        else:
            self._by_key[message.key] = live
            live.pending += 1
            self.spawn(look_up(self.ports.log, self._stream, live))

    def _join(self, live: Live, message: SubmitRequest) -> None:
        if live.content != message.content:
            message.reply.fail(RequestDenied("KeyConflict", key_conflict(self.spec.name, message.key)))
        else:
            live.join(message.reply)

    def _new_live(self, message: SubmitRequest) -> Live:
        ports = self.ports
        body = make_body(message.content, ports.randomness.token(SALT_BYTES))
        ordered = f"{self._now_ns // 1_000_000:011x}"  # neighbours in time share a page of the index
        request = c.Request(
            id=f"req_{ordered}{ports.randomness.token(6).hex()}",
            input=self.shelf.put(body),
            coin=ports.randomness.random(),
            draw=ports.randomness.random(),
            key=message.key,
            tags=message.tags,
            holdout=held_out(message.input, self.spec.settings.holdout_share),
            received_ns=self._now_ns,
        )
        return Live(request, self.question(message.input), message.content, ports.clock.monotonic() + message.timeout_s)

    def question(self, given: JsonObject) -> Question:
        """The input as a model sees it."""
        spec = self.spec
        return Question(
            task=spec.name,
            input=given,
            description=spec.description,
            output_schema=spec.output_schema,
            max_output_tokens=spec.max_output_tokens,
            image_fields=spec.image_fields,
            tools=spec.tools,
        )

    def _begin(self, live: Live) -> None:
        self._decide(c.Submit(request=live.request))

    def _key_known(self, message: KeyKnown) -> None:
        live = message.live
        if self.live.get(message.live_id) is not live:  # asked for by an earlier life, whose callers were told
            return
        live.pending -= 1
        if message.conflict:
            live.deny("KeyConflict", key_conflict(self.spec.name, live.request.key))
        elif message.erased:
            live.deny("Erased", f"what the key {live.request.key!r} stood for was erased; use a new key to ask again")
        elif message.output is not None and message.request is not None:
            live.request = msgspec.structs.replace(live.request, id=message.request)
            live.answer(message.output)
        else:
            self._begin(live)
            return
        self.shelf.forget(message.live_input)
        del self.live[message.live_id]
        self._forget_key(live)

    # ------------------------------------------------------------ durability

    async def _commit(self) -> None:
        entries, bodies, todo = self._entries, self._bodies, self._todo
        answered = self._answered
        self._entries, self._bodies, self._todo, self._answered = [], [], [], []
        if entries:
            await self._append(entries, bodies)
            await self._tell_others(entries)
        for effect in todo:
            self._hands.start(effect)
        for reply in answered:
            reply.set(None)
        self._forget(entries)
        self._touched.clear()

    async def _append(self, entries: Sequence[Entry], bodies: Sequence[Body]) -> None:
        """One append; only what recovery closes after a crash with thousands of requests in flight can take more."""
        for part in batched(entries, APPEND_ENTRIES_MAX):
            appended = await self.ports.log.append(
                self._stream, self._version, part, time_ns=self._now_ns, bodies=bodies
            )
            self._version, bodies = appended.version, ()

    async def _tell_others(self, entries: Sequence[Entry]) -> None:
        moved = tuple(entry.event for entry in entries if _moves_money(entry.event))
        if moved:
            message = Moved(task=self.spec.name, events=moved, time_ns=self._now_ns)
            await self.ports.treasury.put(message, 60.0)
        for entry in entries:
            announce(self.ports.herald, self.spec.name, entry.event)

    def _forget(self, entries: Sequence[Entry]) -> None:
        """Let go of requests that are over: answered, closed in the state, and nothing under way."""
        named = {entry.correlation for entry in entries if entry.correlation is not None}
        for name in named | self._touched:
            live = self.live.get(name)
            if live is not None and live.settled and live.pending == 0 and name not in self.state.flights:
                del self.live[name]
                self._forget_key(live)

    def _forget_key(self, live: Live) -> None:
        key = live.request.key
        if key is not None and self._by_key.get(key) is live:  # another attempt may stand under it by now
            del self._by_key[key]

    async def _remember_remote(self) -> None:
        digests = self.state.recent_remote
        found = await self.ports.log.get_bodies(digests)
        self.recent.extend(("", msgspec.json.decode(found[digest])) for digest in digests if digest in found)


def _moves_money(event: v.Event) -> bool:
    return isinstance(event, MONEY) and not (isinstance(event, v.LocalAnswered) and event.cost_nd == 0)


def key_conflict(task: str, key: str | None) -> str:
    """The words for one key with two inputs."""
    return f"the key {key!r} of {task} came before with another input; a key stands for one input, use a new one"


def _digest(settings: str) -> str:
    return sha256(settings.encode()).hexdigest()
