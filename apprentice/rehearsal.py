"""A rehearsal: recorded requests and the answers a remote model gave, played through the whole runtime.

Real HTTP to the simulated frontier, the real log, real training; only the remote model's answers come from the record.
Every row is submitted under its own key, so a rehearsal that was killed goes on where its log ends.

Time: while a version is trained, or comparisons are behind, no new request comes in, as if requests came more slowly
than that takes (recorded streams seldom say when requests came). ``impatient`` lets them come as fast as they can.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from apprentice.config import Config, loads
from apprentice.errors import ApprenticeError, InvalidConfig
from apprentice.rehearsal_report import RehearsalReport, RowOutcome, summarise
from apprentice.remote.anthropic import AnthropicModel
from apprentice.remote.limits import RateLimiter
from apprentice.remote.pricing import PriceTable
from apprentice.remote.secrets import Secret
from apprentice.runtime import Runtime
from apprentice.system import SystemClock, SystemRandomness
from apprentice.testing.frontier import Frontier
from apprentice.testing.stream import RecordedStream
from apprentice.wiring import World
from apprentice_actors.ports import JsonObject, RemoteModel

DEFAULT_MODEL = "claude-sonnet-5"
"""Whose prices and wire format the simulated frontier takes where no configuration says otherwise."""

GRADUATES_UNDER = 0.15
"""How far the correlation at which a rehearsal graduates lies under the guarantee. The certificate keeps the promise;
this sets how soon the audit rate falls: .05 bought two to three times as many comparisons of what was served."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is played and how."""

    stream: Path
    storage: Path
    """Folder of the log and the versions; the same folder again resumes."""
    task: str = "rehearsal"
    input_fields: tuple[str, ...] = ("text",)
    answer_field: str = "teacher"
    gold_field: str | None = None
    seed: int | None = 0
    """Order of the rows: shuffled by this seed, or as recorded (None)."""
    limit: int | None = None
    concurrency: int = 8
    impatient: bool = False
    latency_s: float = 0.0
    """Of the simulated frontier."""


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the stream, in the order of playing."""

    key: str
    given: JsonObject
    expected: JsonObject
    """The recorded answer."""
    gold: Any


def default_config(plan: Plan, *, guarantee: float, encoder: str | None, first: int, batch: int) -> Config:
    """A one-task configuration for a stream: any text in, one label out, nothing else known beforehand."""
    inputs = ", ".join(f"{name}: any" for name in plan.input_fields)
    return loads(
        f"""
tasks:
  - name: {plan.task}
    description: "Answer as the recorded model did."
    input_schema: {{{inputs}}}
    output_schema: {{{plan.answer_field}: any}}
    match_fields: [{plan.answer_field}]
    guarantee: {{agreement: {guarantee}}}
    holdout_share: 0.1
    confidence_thresholds:
      phase1_to_phase2: {first}
      phase2_to_phase3: {round(guarantee - GRADUATES_UNDER, 4)}
      coaching_trigger: {round(guarantee - 0.2, 4)}
      emergency_threshold: {round(guarantee - 0.4, 4)}
remote: {{provider: anthropic, model: {DEFAULT_MODEL}}}
local:
  fine_tune_batch_size: {batch}
  {f"encoder: {encoder}" if encoder else "keep_versions: 3"}
""",
        "the rehearsal's own configuration",
    )


def read_stream(plan: Plan) -> list[Played]:
    """The rows in playing order. Raises :class:`InvalidConfig` naming the line and field that is missing."""
    rows: list[Played] = []
    with plan.stream.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            rows.append(_played(plan, number, line))
    if plan.seed is not None:
        random.Random(plan.seed).shuffle(rows)
    return rows[: plan.limit]


def _played(plan: Plan, number: int, line: bytes) -> Played:
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
        answer = row[plan.answer_field]
        return Played(
            key=f"row-{number}",
            given={name: row[name] for name in plan.input_fields},
            expected=answer if isinstance(answer, dict) else {plan.answer_field: answer},
            gold=row[plan.gold_field] if plan.gold_field is not None else None,
        )
    except KeyError as error:
        known = ", ".join(row)
        problem = f"line {number} has no field {error}; it has: {known}. Name the fields with --input, --answer, --gold"
        raise InvalidConfig([problem], str(plan.stream)) from None
    except msgspec.DecodeError as error:
        raise InvalidConfig([f"line {number} is no JSON object: {error}"], str(plan.stream)) from None


type Progress = Callable[[int, Runtime], None]


async def rehearse(plan: Plan, config: Config, progress: Progress = lambda done, runtime: None) -> RehearsalReport:
    """Play the stream and sum up. ``progress`` is called after each answer with how many are done.

    Raises :class:`InvalidConfig` for a stream or a configuration that cannot be played.
    """
    rows = read_stream(plan)
    task = config.task(plan.task)
    if task is None:
        raise InvalidConfig([f"there is no task {plan.task!r}; name one of the configuration's with --task"])
    stream = RecordedStream((row.given, row.expected, {}) for row in _first_of_each(rows))
    config = _in_folder(config, plan.storage)
    price = PriceTable.load().find("anthropic", DEFAULT_MODEL)
    assert price is not None, "the default model is in the price table"
    async with Frontier(answer=stream, latency=plan.latency_s, price=price) as frontier:
        clock, randomness = SystemClock(), _Chance(plan.seed)
        remote: RemoteModel = AnthropicModel(
            DEFAULT_MODEL,
            Secret("rehearsal-key", "the rehearsal"),
            price,
            limiter=RateLimiter(clock),
            clock=clock,
            randomness=randomness,
            base_url=frontier.url,
        )
        world = World(clock=clock, randomness=randomness, remote=remote)
        async with Runtime.open(config, world=world) as runtime:
            outcomes = await _play(plan, runtime, rows, progress)
            await runtime.settled()
            return await summarise(runtime, plan.task, rows_expected(rows, stream), outcomes)


def rows_expected(rows: Sequence[Played], stream: RecordedStream) -> list[tuple[JsonObject, Any]]:
    """Per row what the remote says to it (the first recorded answer to that input), and the gold value."""
    return [(stream(row.given).output, row.gold) for row in rows]


def _first_of_each(rows: Sequence[Played]) -> Iterator[Played]:
    seen: set[bytes] = set()
    for row in rows:
        name = msgspec.json.encode(row.given, order="deterministic")
        if name not in seen:
            seen.add(name)
            yield row


def _in_folder(config: Config, folder: Path) -> Config:
    storage = config.storage.model_copy(update={"path": folder})
    local = config.local.model_copy(update={"model_dir": folder / "models"})
    return config.model_copy(update={"storage": storage, "local": local})


class _Chance(SystemRandomness):
    """Coins of a seeded rehearsal repeat; identifiers and salts stay unpredictable."""

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self._coins = random.Random(seed)

    def random(self) -> float:
        return self._coins.random()


async def _play(plan: Plan, runtime: Runtime, rows: Sequence[Played], progress: Progress) -> list[RowOutcome]:
    outcomes: list[RowOutcome | None] = [None] * len(rows)
    waiting = iter(enumerate(rows))
    done = 0

    async def caller() -> None:
        nonlocal done
        for index, row in waiting:
            if not plan.impatient:
                await runtime.paced(plan.concurrency)
            try:
                result = await runtime.submit(plan.task, row.given, key=row.key)
                outcomes[index] = RowOutcome(request_id=result.request_id, output=result.output)
            except ApprenticeError as error:
                outcomes[index] = RowOutcome(request_id=None, output=None, error=f"{type(error).__name__}: {error}")
            done += 1
            progress(done, runtime)

    async with asyncio.TaskGroup() as group:
        for _ in range(plan.concurrency):
            group.create_task(caller())
    return [outcome for outcome in outcomes if outcome is not None]
