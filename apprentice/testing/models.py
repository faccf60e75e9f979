"""A local model and a trainer that follow a script: for simulations, and held to the contract suites of their ports.

They need no thread and no process and wait on the clock they are given, so that they run in virtual time. The pair
plays together: :class:`ScriptedTrainer` writes into each version how good it is, :class:`ScriptedLocalModel` answers
accordingly.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from apprentice.training.versions import VersionError, check_manifest, sha256_of, write_version
from apprentice_actors.ports import (
    Clock,
    Example,
    JsonObject,
    LocalAnswer,
    LocalFailure,
    Question,
    TrainedVersion,
    TrainingFailure,
    TrainingJob,
)

BASE = "scripted"
SCRIPT = "script.json"

type Accuracy = Callable[[Question, float], float]
"""From a question and the version's skill in [0, 1] to the probability of answering like the remote."""
type Outcome = Literal["perfect", "learning", "failing", "slow", "poisoned"]


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What a scripted version is."""

    skill: float
    """Mean agreement with the remote, in [0, 1]."""
    claimed: float
    """The skill that ``p_agree`` speaks of; above ``skill`` for a poisoned version."""


def even(question: Question, skill: float) -> float:
    """Every question is equally hard."""
    return skill


def two_kinds(easy_share: float, *, easy: float = 0.99, hard: float = 0.5, seed: int = 0) -> Accuracy:
    """Some questions, chosen by hash, are easy and the others hard; both scale with the version's skill."""

    def accuracy(question: Question, skill: float) -> float:
        return skill * (easy if _uniform(seed, "kind", question) < easy_share else hard)

    return accuracy


class ScriptedLocalModel:
    """Answers as the remote would, as often as its versions are skilled, and knows how often that is.

    Whether an answer is right follows from seed, version and input alone: the same question gets the same answer, in
    whatever order questions come. Implements :class:`apprentice_actors.ports.LocalModel`.
    """

    def __init__(
        self,
        truth: Callable[[Question], JsonObject],
        clock: Clock,
        *,
        accuracy: Accuracy = even,
        latency_s: float = 0.001,
        seed: int = 0,
        base_skill: float | None = None,
    ) -> None:
        """``truth`` is what the remote answers; ``latency_s`` passes on ``clock`` for every answer.

        ``base_skill`` is how often the untrained model is right; None: there is none.
        """
        self.truth = truth
        self.accuracy = accuracy
        self.base: str | None = "base" if base_skill is not None else None
        self._base = Script(skill=base_skill or 0.0, claimed=base_skill or 0.0)
        self.down = False
        """Set it and every call fails until it is unset."""
        self._clock = clock
        self._latency_s = latency_s
        self._seed = seed
        self._scripts: dict[str, Script] = {}
        self._closed = False

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Verify the files as every local model does, and read the script."""
        self._refuse_if_down(version)
        if version in self._scripts:
            return
        try:
            manifest = check_manifest(folder, manifest_sha256)
            script = msgspec.json.decode((folder / SCRIPT).read_bytes(), type=Script)
        except (VersionError, OSError, msgspec.DecodeError) as error:
            raise LocalFailure(f"{version} cannot be loaded: {error}") from error
        if manifest.version != version:
            raise LocalFailure(f"{folder} holds {manifest.version}, not {version}; give the folder of that version")
        self._scripts[version] = script

    async def unload(self, version: str) -> None:
        """Forget a version."""
        self._scripts.pop(version, None)

    def loaded(self) -> frozenset[str]:
        """The versions that can be asked."""
        return frozenset(self._scripts)

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """The remote's answer or a wrong one, by the version's skill."""
        self._refuse_if_down(version)
        script = self._base if version == self.base else self._scripts.get(version)
        if script is None:
            raise LocalFailure(f"{version} is not loaded; load it before asking it")
        await self._clock.sleep(self._latency_s)
        right = _uniform(self._seed, version, question) < self.accuracy(question, script.skill)
        truth = self.truth(question)
        return LocalAnswer(
            output=truth if right else wrong_answer(truth, question.output_schema),
            p_agree=0.5 if version == self.base else min(0.999, max(0.001, self.accuracy(question, script.claimed))),
            latency_ms=self._latency_s * 1000.0,
        )

    async def healthy(self) -> bool:
        """Whether it answers."""
        return not (self.down or self._closed)

    async def aclose(self) -> None:
        """Forget everything."""
        self._closed = True
        self._scripts.clear()

    def _refuse_if_down(self, version: str) -> None:
        if self.down or self._closed:
            raise LocalFailure(
                f"{version} cannot be reached: the scripted model is {'closed' if self._closed else 'down'}"
            )


class ScriptedTrainer:
    """Makes versions of scripted skill. Implements :class:`apprentice_actors.ports.Trainer`.

    ``outcomes`` says how each job ends, the last one for all that follow: ``perfect`` (skill 1), ``learning`` (skill by
    number of rows), ``failing`` (no version), ``slow`` (as learning, after a hundred times as long), ``poisoned``
    (claims the skill it should have and has next to none).
    """

    def __init__(
        self,
        clock: Clock,
        outcomes: Sequence[Outcome] = ("learning",),
        *,
        learns: Callable[[int], float] = lambda rows: rows / (rows + 20.0),
        seconds: float = 2.0,
    ) -> None:
        """``learns`` gives the skill after training on so many rows; ``seconds`` pass on ``clock`` for each job."""
        assert outcomes, "name at least one outcome"
        self._clock = clock
        self._outcomes = self._forever(outcomes)
        self._learns = learns
        self._seconds = seconds
        self._closed = False
        self.jobs: list[TrainingJob] = []
        """All jobs that were asked for, for assertions."""
        self.datasets: list[tuple[tuple[Example, ...], tuple[Example, ...]]] = []
        """The rows to train on and the held-out ones of every job; the files are gone when a job has ended."""

    async def train(self, job: TrainingJob, progress: Callable[[float, str], None]) -> TrainedVersion:
        """Wait, then write the version or fail, as scripted."""
        if self._closed:
            raise TrainingFailure(f"{job.version} cannot be trained: the trainer is closed")
        self.jobs.append(job)
        rows, held_out = _rows(job.train_file), _rows(job.calibration_file)
        self.datasets.append((tuple(rows), tuple(held_out)))
        if not rows:
            raise TrainingFailure(f"{job.version} could not be trained: {job.train_file} has no rows; collect some")
        if {_spell(row.input) for row in rows} & {_spell(row.input) for row in held_out}:
            raise TrainingFailure(f"{job.version} could not be trained: a held-out input is in {job.train_file} too")
        _spare(Path(job.folder), job.version)
        outcome = next(self._outcomes)
        seconds = self._seconds * (100.0 if outcome == "slow" else 1.0)
        for step in range(4):
            progress(step / 4, outcome)
            await self._clock.sleep(seconds / 4)
        if outcome == "failing":
            raise TrainingFailure(f"{job.version} could not be trained: scripted to fail")
        skill = 1.0 if outcome == "perfect" else self._learns(len(rows))
        script = Script(skill=0.05 if outcome == "poisoned" else skill, claimed=skill)
        manifest = self._write(job, script)
        progress(1.0, "done")
        return TrainedVersion(manifest_sha256=manifest, seconds=seconds, metrics={"agreement_holdout": skill})

    async def aclose(self) -> None:
        """Refuse further jobs."""
        self._closed = True

    def _write(self, job: TrainingJob, script: Script) -> str:
        def fill(folder: Path) -> None:
            (folder / SCRIPT).write_bytes(msgspec.json.encode(script))

        try:
            return write_version(
                Path(job.folder),
                fill,
                version=job.version,
                base=BASE,
                parent=job.parent,
                dataset=sha256_of(Path(job.train_file)),
                calibration=sha256_of(Path(job.calibration_file)),
                settings=dict(job.settings),
                metrics={"agreement_holdout": script.claimed},
                created=datetime.fromtimestamp(self._clock.now_ns() // 10**9, UTC).isoformat(),
            )
        except VersionError as error:
            raise TrainingFailure(f"{job.version} could not be trained: {error}") from error

    @staticmethod
    def _forever(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
        yield from outcomes
        while True:
            yield outcomes[-1]


def wrong_answer(truth: JsonObject, schema: JsonObject | None) -> JsonObject:
    """``truth`` with its first field changed to something else that the schema still allows, as far as it is known."""
    if not truth:
        return {"wrong": True}
    field = next(iter(truth))
    about = ((schema or {}).get("properties") or {}).get(field) or {}
    return {**truth, field: _other(truth[field], about)}


def _other(value: Any, about: JsonObject) -> Any:
    allowed = about.get("enum") or ()
    for candidate in allowed:
        if candidate != value:
            return candidate
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value - 1 if "maximum" in about and value + 1 > about["maximum"] else value + 1
    return f"not {value}"


def _rows(file: str) -> list[Example]:
    lines = Path(file).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Example) for line in lines]


def _uniform(seed: int, salt: str, question: Question) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    spelled = _spell([seed, salt, question.task, question.input])
    return int.from_bytes(hashlib.sha256(spelled).digest()[:7]) / 2**56


def _spell(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _spare(folder: Path, version: str) -> None:
    if folder.exists():
        raise TrainingFailure(f"{folder} exists already; train under a new number than that of {version}")
