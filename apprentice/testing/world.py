"""A whole runtime in a simulated world: virtual time, a log in memory, a scripted student, a simulated teacher.

One seed, one course of events, byte for byte::

    async def program(world: SimulatedWorld) -> None:
        async with world.open() as runtime:
            await world.drive(runtime)

    simulate(program, Options(seed=7, traffic=Traffic(requests=400, burst=20), fault_probability=0.1))

What fails carries a note with the options that bring it back.
"""

import asyncio
import hashlib
import random
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml

from apprentice.config import Config, loads
from apprentice.errors import ApprenticeError
from apprentice.remote.anthropic import API_VERSION, BASE_URL, AnthropicModel
from apprentice.remote.limits import RateLimiter
from apprentice.remote.model_list import LISTINGS, ModelList
from apprentice.remote.pricing import PriceTable
from apprentice.remote.secrets import Secret
from apprentice.runtime import Opening, Runtime
from apprentice.testing.clock import START, SeededRandomness, VirtualClock, run_virtual
from apprentice.testing.faults import Fault, FaultPlan
from apprentice.testing.faulty_log import FaultyLog
from apprentice.testing.flat_price import FlatQuote
from apprentice.testing.frontier import Answer, Frontier
from apprentice.testing.models import Accuracy, Outcome, ScriptedLocalModel, ScriptedTrainer, even
from apprentice.wiring import World
from apprentice_actors.ports import JsonObject, ModelNotices, RemoteModel
from apprentice_events.bodies import encode_json
from apprentice_events.log import MemoryLog

PROVIDER, MODELS = "anthropic", ("claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001", "claude-opus-4-5-20251101")
CATEGORIES = ("billing", "bug", "account", "other")


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How callers behave. Shares lie in [0, 1]; times are virtual seconds."""

    requests: int = 200
    burst: int = 1
    """Requests that come at once; the next ones come when all of these are answered."""
    gap_s: float = 0.1
    """Pause between bursts."""
    repeated: float = 0.0
    """Share of requests that come again, under the key of an earlier one."""
    impatient: float = 0.0
    """Share of callers who go away before they have their answer."""
    patience_s: float = 0.5
    """The longest that an impatient caller waits."""
    settle: bool = False
    """Whether everything under way, training included, ends before the next burst."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes one world. ``task`` and ``config`` are merged into the configuration, as in its file."""

    seed: int = 0
    teachers: int = 1
    """Remote models, each behind a frontier of its own: the main one and up to two additional ones."""
    teacher: dict[str, Any] = {}
    """Merged into the configuration of every teacher."""
    traffic: Traffic = Traffic()
    tasks: int = 1
    task: dict[str, Any] = {}
    config: dict[str, Any] = {}
    outcomes: tuple[Outcome, ...] = ("perfect",)
    """How each training ends, the last one for all that follow."""
    skill: float | None = None
    """Skill of versions that are ``learning``; None: by the number of rows."""
    base_skill: float | None = None
    """How often the untrained base model is right; None: there is none."""
    accuracy: Accuracy = even
    latency_s: tuple[float, float] = (0.2, 0.2)
    """Shortest and longest time that the teacher takes."""
    local_latency_s: float = 0.001
    reserved_nd: int | None = None
    """What every call is reserved at, in nano-dollars; None: the highest possible price of each."""
    watched: bool = False
    """Whether the teachers' model lists are read."""
    fault_probability: float = 0.0
    fault_kinds: tuple[Fault, ...] = (Fault.server_error, Fault.rate_limited, Fault.cut_connection, Fault.refusal)
    start: datetime = START


class Asked(msgspec.Struct, kw_only=True):
    """One request that :meth:`SimulatedWorld.drive` made, and what came of it."""

    index: int
    task: str
    given: JsonObject
    key: str | None = None
    request_id: str | None = None
    output: JsonObject | None = None
    error: ApprenticeError | None = None
    gone: bool = False
    """The caller went away."""


class RememberingSink:
    """Keeps the alerts that it is given. Implements :class:`apprentice_actors.ports.AlertSink`."""

    def __init__(self) -> None:
        self.raised_alerts: list[tuple[str | None, str, str]] = []
        """Task, alert and message, in order."""
        self.cleared_alerts: list[tuple[str | None, str]] = []

    async def raised(self, task: str | None, alert: str, severity: str, message: str) -> None:
        """Keep it."""
        self.raised_alerts.append((task, alert, message))

    async def cleared(self, task: str | None, alert: str) -> None:
        """Keep it."""
        self.cleared_alerts.append((task, alert))


class SimulatedWorld:
    """The parts of a runtime, made from :class:`Options` and within reach. :meth:`open` may be called again."""

    def __init__(self, options: Options, clock: VirtualClock, folder: Path) -> None:
        self.options = options
        self.clock = clock
        self.config = make_config(options, folder)
        self.memory = MemoryLog()
        self.log = FaultyLog(self.memory)
        self.sink = RememberingSink()
        self.teaches: Answer = truth
        """What the teacher answers; set it, and the student's world changes under its feet."""
        self._randomness = SeededRandomness(options.seed)
        self.frontiers = [self._frontier(number) for number in range(options.teachers)]
        """One per teacher, in the order of the configuration."""
        self.local = self._student()
        self.trainer = self._trainer()

    @property
    def frontier(self) -> Frontier:
        """The main teacher's."""
        return self.frontiers[0]

    def _frontier(self, number: int) -> Frontier:
        options, chance = self.options, random.Random(f"{self.options.seed}/latency/{number}")
        return Frontier(
            answer=lambda asked: self.teaches(asked),
            latency=lambda index: chance.uniform(*options.latency_s),
            faults=FaultPlan(probability=options.fault_probability, kinds=options.fault_kinds, seed=options.seed),
            price=PriceTable.load().find(PROVIDER, MODELS[number]),
            clock=self.clock,
        )

    def _remote(self, number: int) -> AnthropicModel:
        price = PriceTable.load().find(PROVIDER, MODELS[number])
        assert price is not None
        return AnthropicModel(
            MODELS[number],
            Secret("sk-simulated"),
            price,
            limiter=RateLimiter(self.clock),
            clock=self.clock,
            randomness=self._randomness,
            client=httpx.AsyncClient(transport=self.frontiers[number].transport()),
        )

    def _notices(self) -> tuple[ModelNotices, ...]:
        listing, headers = LISTINGS[PROVIDER], {"anthropic-version": API_VERSION, "x-api-key": "sk-simulated"}
        return tuple(
            ModelList(listing, model, BASE_URL, lambda: headers, transport=frontier.transport())
            for model, frontier in zip(MODELS, self.frontiers, strict=False)
        )

    def open(self) -> Opening[Runtime]:
        """A runtime in this world; the log goes on where the last runtime left it."""
        self.memory.reopen()
        self.local, self.trainer = self._student(), self._trainer()
        remotes: list[RemoteModel] = [self._remote(number) for number in range(self.options.teachers)]
        if self.options.reserved_nd is not None:
            remotes = [FlatQuote(model, self.options.reserved_nd) for model in remotes]
        remote, *others = remotes
        world = World(
            clock=self.clock,
            randomness=self._randomness,
            log=self.log,
            remote=remote,
            additional_remotes=tuple(others),
            notices=self._notices() if self.options.watched else (),
            local=self.local,
            trainer=self.trainer,
            sinks=(self.sink,),
        )
        return Runtime.open(self.config, world=world)

    async def drive(self, runtime: Runtime, traffic: Traffic | None = None, *, begin: int = 0) -> list[Asked]:
        """Make the requests of ``traffic`` (the options' own unless given), numbered from ``begin``."""
        traffic = traffic or self.options.traffic
        plan = self._plan(traffic, begin)
        for first in range(0, len(plan), traffic.burst):
            async with asyncio.TaskGroup() as group:
                for asked, patience_s in plan[first : first + traffic.burst]:
                    group.create_task(self._ask(runtime, asked, patience_s))
            if traffic.settle:
                await runtime.settled()
            await self.clock.sleep(traffic.gap_s)
        return [asked for asked, _ in plan]

    def _plan(self, traffic: Traffic, begin: int) -> list[tuple[Asked, float | None]]:
        chance = random.Random(f"{self.options.seed}/traffic/{begin}")
        names = [task.name for task in self.config.tasks]
        plan: list[tuple[Asked, float | None]] = []
        for index in range(begin, begin + traffic.requests):
            asked = Asked(index=index, task=chance.choice(names), given={"text": f"ticket {index}"})
            if traffic.repeated:
                asked.key = f"key {index}"
            if plan and chance.random() < traffic.repeated:
                earlier = chance.choice(plan)[0]
                asked = msgspec.structs.replace(earlier, index=index)
            patience_s = chance.uniform(0.0, traffic.patience_s) if chance.random() < traffic.impatient else None
            plan.append((asked, patience_s))
        return plan

    async def _ask(self, runtime: Runtime, asked: Asked, patience_s: float | None) -> None:
        try:
            async with asyncio.timeout(patience_s):
                result = await runtime.submit(asked.task, asked.given, key=asked.key)
        except ApprenticeError as error:
            asked.error = error
        except TimeoutError:
            asked.gone = True
        else:
            asked.request_id, asked.output = result.request_id, result.output

    def _student(self) -> ScriptedLocalModel:
        options = self.options
        return ScriptedLocalModel(
            lambda question: truth(question.input),
            self.clock,
            accuracy=options.accuracy,
            latency_s=options.local_latency_s,
            seed=options.seed,
            base_skill=options.base_skill,
        )

    def _trainer(self) -> ScriptedTrainer:
        skill = self.options.skill
        if skill is None:
            return ScriptedTrainer(self.clock, self.options.outcomes)
        return ScriptedTrainer(self.clock, self.options.outcomes, learns=lambda rows: skill)


def make_config(options: Options, folder: Path) -> Config:
    """The configuration of a world: ``options.tasks`` alike tasks named ``task_0`` … and what the options change."""
    task = {
        "description": "Sort a ticket",
        "input_schema": {"text": "str"},
        "output_schema": {"category": list(CATEGORIES)},
        **options.task,
    }
    whole: dict[str, Any] = {
        "tasks": [{"name": f"task_{number}", **task} for number in range(options.tasks)],
        **options.config,
    }
    main, *others = [
        {"provider": PROVIDER, "model": model, "distillation": "allowed", **options.teacher}
        for model in MODELS[: options.teachers]
    ]
    whole["remote"] = {**main, "additional_providers": others, **whole.get("remote", {})}
    whole["local"] = {"model_dir": str(folder), **whole.get("local", {})}
    return loads(yaml.safe_dump(whole))


def truth(given: Mapping[str, Any]) -> JsonObject:
    """The right answer to an input: one of four categories, by its hash."""
    return {"category": CATEGORIES[hashlib.sha256(encode_json(dict(given))).digest()[0] % len(CATEGORIES)]}


def simulate[T](program: Callable[[SimulatedWorld], Coroutine[Any, Any, T]], options: Options | None = None) -> T:
    """Run ``program(world)`` to its end in virtual time. What it raises gets a note with the options."""
    options = options or Options()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return run_virtual(lambda clock: program(SimulatedWorld(options, clock, Path(folder))), start=options.start)
        except BaseException as error:
            error.add_note(f"to see it again: simulate(…, {options!r})")
            raise
