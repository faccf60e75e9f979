"""The demo: the whole loop on generated tickets, with a simulated teacher on loopback and everything else real.

Real are the HTTP calls, the log, the training, the judgement and the money; made up are the tickets, the teacher's
answers and its price per answer's tokens. While a version is trained no new request comes in, as if requests came more
slowly than training takes; so the demo shows in seconds what traffic would show in days.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from apprentice.config import Config
from apprentice.demo_folder import MAIN_TASK, SIDE_TASK, prepare
from apprentice.demo_tickets import Sample, properties, tickets
from apprentice.remote.anthropic import AnthropicModel
from apprentice.remote.limits import RateLimiter
from apprentice.remote.pricing import PriceTable
from apprentice.remote.prompt import canonical_json
from apprentice.remote.secrets import Secret
from apprentice.results import Report
from apprentice.runtime import Runtime
from apprentice.system import SystemClock, SystemRandomness
from apprentice.testing.frontier import Frontier
from apprentice.wiring import LOG_FILE, World
from apprentice_actors.ports import JsonObject, Question
from apprentice_events import vocabulary as v
from apprentice_events.log import Record
from apprentice_events.sqlite import scan_file

SIDE_EVERY = 11
"""Every so many requests one goes to the second task."""
TEACHER = "claude-sonnet-5"
"""Whose price is taken where the configuration names a model without one."""
CALLERS = 8
FRAME_S = 0.15
STORY = tuple(
    event.TAG
    for event in (
        v.PhaseChanged,
        v.GateChanged,
        v.CertificateIssued,
        v.CertificateRevoked,
        v.TrainingTriggered,
        v.AdapterTrained,
        v.AdapterValidated,
        v.AdapterRejected,
        v.AdapterPromoted,
        v.AdapterRolledBack,
        v.CoachingStarted,
        v.CoachingEnded,
        v.DriftDetected,
        v.ShiftDetected,
        v.AlertRaised,
        v.AlertCleared,
    )
)
"""Events that are news; the others are everyday."""


class DemoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is played and where."""

    folder: Path
    """Emptied first, if an earlier demo made it."""
    seed: int = 1
    requests: int = 1500
    latency_s: float = 0.02
    """Of the simulated teacher."""
    config: Path | None = None
    """The configuration to copy into the folder; None for the shipped example."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The demo at one moment."""

    done: int
    total: int
    report: Report
    buckets: tuple["Bucket", ...]
    """One per hundred requests so far, the last one perhaps not full."""
    story: tuple[Record, ...]
    """The latest news, oldest first."""


class Bucket(msgspec.Struct, kw_only=True):
    """What became of one hundred requests: how many the local model answered, and US dollars spent."""

    requests: int = 0
    local: int = 0
    spent: float = 0.0


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo knows and a real runtime cannot: what the teacher would have answered to everything."""

    frame: Frame
    served_local: int
    agreement_local: float | None
    """Mean score of all local answers against the teacher's, as the evaluator scores the audited ones."""
    same_local: int
    """Local answers that agree with the teacher's in all compared fields."""
    audited_local: int
    """How many of them were compared."""
    example: str | None
    """A request that was answered locally and compared with the teacher, to be asked about."""
    phases: tuple[Record, ...]
    """When the main task changed its phase."""


type Watch = Callable[[Frame], None]


# ---------------------------------------------------------------- the traffic


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One request to come."""

    task: str
    sample: Sample


def traffic(seed: int, requests: int) -> list[Work]:
    """Tickets, and a property description every now and then."""
    side = requests // SIDE_EVERY
    others = iter(properties(seed, side))
    found: list[Work] = []
    for count, ticket in enumerate(tickets(seed, requests - side), 1):
        found.append(Work(task=MAIN_TASK, sample=ticket))
        if count % (SIDE_EVERY - 1) == 0 and (other := next(others, None)) is not None:
            found.append(Work(task=SIDE_TASK, sample=other))
    return found + [Work(task=SIDE_TASK, sample=other) for other in others]


class Teacher:
    """The simulated teacher's mind: every input's answer."""

    def __init__(self, work: Sequence[Work]) -> None:
        self._answers: Mapping[str, JsonObject] = {canonical_json(one.sample.given): one.sample.answer for one in work}

    def __call__(self, asked: JsonObject) -> JsonObject:
        return self._answers[canonical_json(asked)]


@contextlib.asynccontextmanager
async def opened(plan: DemoPlan, config: Config, teacher: Teacher) -> AsyncIterator[Runtime]:
    """A runtime whose remote model is the simulated teacher."""
    prices = PriceTable.load()
    price = prices.find("anthropic", config.remote.model) or prices.find("anthropic", TEACHER)
    assert price is not None, "the example's model is in the price table"
    clock, randomness = SystemClock(), SystemRandomness()
    async with Frontier(answer=teacher, latency=plan.latency_s, price=price) as frontier:
        remote = AnthropicModel(
            config.remote.model,
            Secret("simulated-teacher", "the demo"),
            price,
            limiter=RateLimiter(clock),
            clock=clock,
            randomness=randomness,
            base_url=frontier.url,
        )
        world = World(clock=clock, randomness=randomness, remote=remote)
        async with Runtime.open(config, world=world) as runtime:
            yield runtime


# ---------------------------------------------------------------- playing


async def play(plan: DemoPlan, watch: Watch) -> Ending:
    """Play the demo; ``watch`` is shown a frame several times a second. Raises what ``prepare`` raises."""
    config = prepare(plan.folder, plan.config)
    work = traffic(plan.seed, plan.requests)
    async with opened(plan, config, Teacher(work)) as runtime:
        stage = _Stage(runtime, work, config.storage.path / LOG_FILE)
        watching = asyncio.create_task(stage.show(watch), name="demo display")
        try:
            await stage.play()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await runtime.settled()
        ending = await stage.ending()
        watch(ending.frame)
        return ending


class _Stage:
    """The demo while it runs."""

    def __init__(self, runtime: Runtime, work: Sequence[Work], log: Path) -> None:
        self._runtime = runtime
        self._work = work
        self._log = log
        self._done = 0
        self._outputs: dict[str, tuple[Work, JsonObject]] = {}
        self._buckets: list[Bucket] = []
        self._counted_local = 0
        self._counted_spent = 0.0
        self._story: list[Record] = []
        self._read_to = 0

    async def play(self) -> None:
        """Send everything, a few at a time, none while a version is being made."""
        waiting = iter(enumerate(self._work, 1))

        async def caller() -> None:
            for number, one in waiting:
                await self._runtime.paced(8)
                result = await self._runtime.submit(one.task, one.sample.given, key=f"demo-{number}")
                self._outputs[result.request_id] = (one, result.output)
                self._count()

        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())

    def _count(self) -> None:
        if self._done % 100 == 0:
            self._buckets.append(Bucket())
        self._done += 1
        report = [self._runtime.status(name) for name in (MAIN_TASK, SIDE_TASK)]
        local = sum(one.served_local for one in report)
        spent = sum(float(one.money.spent) for one in report)
        bucket = self._buckets[-1]
        bucket.requests += 1
        bucket.local += local - self._counted_local
        bucket.spent += spent - self._counted_spent
        self._counted_local, self._counted_spent = local, spent

    async def show(self, watch: Watch) -> None:
        """Show a frame every now and then, until cancelled."""
        clock = SystemClock()
        while True:
            watch(self.frame())
            await clock.sleep(FRAME_S)

    def frame(self) -> Frame:
        """The present moment; news is read from the log's file, from where the last look ended."""
        for record in scan_file(self._log, self._read_to, tags=STORY):
            self._read_to = record.position
            self._story.append(record)
        return Frame(
            done=self._done,
            total=len(self._work),
            report=self._runtime.report(),
            buckets=tuple(msgspec.structs.replace(one) for one in self._buckets),
            story=tuple(self._story),
        )

    async def ending(self) -> Ending:
        """Sum up, with the answers that the teacher would have given."""
        local: set[str] = set()
        audited: list[str] = []
        async for record in self._runtime.records(tags=(v.ResponseServed.TAG, v.RemoteScored.TAG)):
            event = record.event()
            if isinstance(event, v.ResponseServed) and event.by == "local":
                local.add(event.request)
            elif isinstance(event, v.RemoteScored) and event.served == "local":
                audited.append(event.request)
        mine = [self._outputs[request] for request in local if self._outputs[request][0].task == MAIN_TASK]
        evaluator, question = self._runtime.evaluator(MAIN_TASK), Question(task=MAIN_TASK, input={})
        scores = [await evaluator.score(output, one.sample.answer, question) for one, output in mine]
        frame = self.frame()
        return Ending(
            frame=frame,
            served_local=len(mine),
            agreement_local=sum(scores) / len(scores) if scores else None,
            same_local=sum(score >= 1.0 for score in scores),
            audited_local=sum(self._outputs[request][0].task == MAIN_TASK for request in audited),
            example=audited[-1] if audited else min(self._outputs, default=None),
            phases=tuple(r for r in frame.story if r.tag == v.PhaseChanged.TAG and r.stream == f"task/{MAIN_TASK}"),
        )
