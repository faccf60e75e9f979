"""One recorded stream played once: certified, through the real decisions, or with a fixed threshold and no promise."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

import msgspec

from apprentice.local.student import Settings, train
from apprentice.local.tuned import FOLDER
from apprentice.rehearsal import GRADUATES_UNDER
from apprentice.training.tuned_encoders import Encoders
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.ports import Example, JsonObject, TrainingJob
from apprentice_actors.settings import TaskSettings
from apprentice_events import vocabulary as v
from benchmarks.policy_rows import Fitted, RowWorld
from benchmarks.policy_sim import play
from benchmarks.policy_world import Lesson, Played, Said
from benchmarks.streams_data import ANSWER, Stream, Vectors

HOLDOUT_SHARE = 0.1
_CAP_S = 7_200.0
"""For one version: what comes of a play should not depend on how busy the machine is."""
AHEAD = 40
"""Requests that are answered in one go, which costs little more than one; a new version answers the rest again."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One play."""

    stream: str
    features: Literal["encoder", "tuned", "n-grams"]
    """``tuned``: an encoder that is fine-tuned on the answers as they come."""
    kind: Literal["certified", "threshold"]
    level: float
    """The guarantee, or the least confidence that is served."""
    seed: int
    first: int = 100
    batch: int = 50


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. Shares lie in [0, 1]; None where nothing was served locally, or gold answers are not known."""

    job: Job
    requests: int
    calls: float
    """Remote calls per request."""
    local: float
    gold: float | None
    teacher_gold: float | None
    """What asking the remote model throughout would have given."""
    agreement: float
    selective: float | None
    """Agreement of the answers served locally."""
    recalls: tuple[float, ...]
    """Recall per right answer that occurs at least five times, ascending."""
    versions: int
    graduated: bool
    certificates: int = 0
    false_certificates: int = 0
    below: float | None = None
    """Share of the locally served answers at which the running agreement of served answers was under the guarantee."""
    phases: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Calls in cold start, in reinforcement, under the gate, and as audits above it."""
    seconds: float = 0.0


class Tutor:
    """Fits students of one kind of features."""

    def __init__(self, encoder: str | None = None, kept: Path | None = None, *, tuned: bool = False) -> None:
        """``kept`` holds the vectors of ``encoder``; without both the features are n-grams."""
        self._settings = Settings(encoder=encoder, encoder_tuning="lora" if tuned else "none", time_cap_s=_CAP_S)
        self._plain = [Vectors(encoder, kept)] if encoder is not None and kept is not None else []
        self.made = 0
        self.begin(0, Path())

    def begin(self, seed: int, home: Path) -> None:
        """Forget what another play tuned; this one keeps what it tunes under ``home``."""
        self._encoders, self._seed = Encoders(self._plain), seed
        self._home = home
        self._adapted: str | None = None

    def fit(self, rows: list[Example], held_out: list[Example]) -> Fitted:
        """A student as the embedded trainer makes it; nothing is known of the answers beforehand."""
        self.made += 1
        job = TrainingJob(
            job="",
            task="",
            version="",
            parent=None,
            parent_folder=self._adapted,
            folder="",
            train_file="",
            calibration_file="",
            output_schema=None,
            match_fields=(ANSWER,),
            seed=self._seed,
        )
        work = self._home / str(self.made) / FOLDER
        chosen = self._encoders.choose(job, self._settings, rows, work, lambda fraction, message: None)
        if chosen.adapter is not None:
            self._adapted = str(chosen.adapter.folder.parent)
        student, _ = train(
            rows,
            held_out,
            schema=None,
            match_fields=(ANSWER,),
            settings=self._settings,
            encoder=chosen.encoder,
            adapter=chosen.adapter,
        )
        return student


def same(ours: JsonObject, theirs: JsonObject) -> float:
    """The evaluator: 1 for equal answers."""
    return float(ANSWER in ours and ours[ANSWER] == theirs[ANSWER])


def run(job: Job, stream: Stream, tutor: Tutor, limit: int | None = None) -> Outcome:
    """Play ``job``, or its first ``limit`` requests."""
    start, made = perf_counter(), tutor.made
    order = stream.order(job.seed)[:limit]
    rows = [stream.rows[at] for at in order]
    kept: dict[str, Any] = {}
    with TemporaryDirectory() as home:
        tutor.begin(job.seed, Path(home))
        told = _certified(job, rows, tutor, kept) if job.kind == "certified" else list(_threshold(job, rows, tutor))
    answers = [mine if mine is not None else row.output for mine, row in zip(told, rows, strict=True)]
    agreed = [same(answer, row.output) for answer, row in zip(answers, rows, strict=True)]
    local = [agrees for agrees, mine in zip(agreed, told, strict=True) if mine is not None]
    right = [stream.gold[at] for at in order] if stream.gold is not None else None
    hits = (
        None if right is None else [given.get(ANSWER) == wanted for given, wanted in zip(answers, right, strict=True)]
    )
    return Outcome(
        job=job,
        requests=len(rows),
        calls=kept.pop("calls", len(rows) - len(local)) / len(rows),
        local=len(local) / len(rows),
        gold=None if hits is None else sum(hits) / len(rows),
        teacher_gold=None
        if right is None
        else sum(row.output[ANSWER] == wanted for row, wanted in zip(rows, right, strict=True)) / len(rows),
        agreement=sum(agreed) / len(rows),
        selective=sum(local) / len(local) if local else None,
        recalls=() if hits is None or right is None else recalls(right, hits),
        versions=tutor.made - made,
        graduated=bool(local),
        seconds=perf_counter() - start,
        **kept,
    )


def recalls(right: Sequence[Any], hits: Sequence[bool]) -> tuple[float, ...]:
    """Recall of each textual right answer that occurs five times or more, ascending."""
    asked = Counter(wanted for wanted in right if isinstance(wanted, str))
    found = Counter(wanted for wanted, hit in zip(right, hits, strict=True) if hit and isinstance(wanted, str))
    return tuple(sorted(found[wanted] / count for wanted, count in asked.items() if count >= 5))


def spread(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Least value and the three quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return min(values), low, middle, high


# ---------------------------------------------------------------- without a promise


def _threshold(job: Job, rows: Sequence[Example], tutor: Tutor) -> Iterator[JsonObject | None]:
    """Per request the local answer that is served, None for a call. Every answer that was bought trains, none is kept
    aside; a version is made per ``batch`` of them."""
    bought: list[Example] = []
    fresh, model, due, at = 0, None, job.first, 0
    while at < len(rows):
        chunk = rows[at : at + (AHEAD if model else job.first)]
        told: Sequence[tuple[JsonObject, float]] = [({}, -1.0)] * len(chunk)
        if model is not None:
            told = model.answer([row.input for row in chunk])
        for row, (answer, p_agree) in zip(chunk, told, strict=True):
            at += 1
            if p_agree >= job.level:
                yield answer
                continue
            yield None
            bought.append(row)
            fresh += 1
            if fresh >= due:
                break
        if fresh >= due:
            model, fresh, due = tutor.fit(bought, []), 0, job.batch


# ---------------------------------------------------------------- certified


class _AheadWorld(RowWorld):
    """Answers some requests ahead of time: the same answers, sooner."""

    def __init__(self, rows: Sequence[Example], tutor: Tutor, seed: int) -> None:
        super().__init__(rows, tutor.fit, same, holdout_share=HOLDOUT_SHARE, seed=seed)
        self._said: dict[str, dict[int, Said]] = {}

    def answer(self, index: int, version: str) -> Said:
        """What the fitted model says."""
        said = self._said[version]
        if index not in said:
            self._ask(version, range(index, min(index + AHEAD, len(self.rows))))
        return said[index]

    def train(self, lesson: Lesson) -> None:
        """Fit, and answer the held-out rows, which are asked next."""
        super().train(lesson)
        self._said[lesson.version] = {}
        self._ask(lesson.version, lesson.held_out)

    def _ask(self, version: str, places: Sequence[int]) -> None:
        if places:
            answers = self.models[version].answer([self.rows[at].input for at in places])
            self._said[version].update((at, Said(*each)) for at, each in zip(places, answers, strict=True))


def settings_of(job: Job) -> TaskSettings:
    """As ``apprentice rehearse`` sets a task up."""
    return TaskSettings(
        task=job.stream,
        phase1_to_phase2=job.first,
        batch=job.batch,
        guarantee=job.level,
        phase2_to_phase3=round(job.level - GRADUATES_UNDER, 4),
        coaching_trigger=round(job.level - 0.2, 4),
        emergency_threshold=round(job.level - 0.4, 4),
        gates=DEFAULT_GATES,
        holdout_share=HOLDOUT_SHARE,
    )


def _certified(job: Job, rows: Sequence[Example], tutor: Tutor, kept: dict[str, Any]) -> list[JsonObject | None]:
    world = _AheadWorld(rows, tutor, job.seed)
    played = play(settings_of(job), world, len(rows), thorough=False)
    issued = [false for _, false in certificates(played, job.level)]
    kept["calls"] = sum(told.calls for told in played.told)
    kept["certificates"], kept["false_certificates"] = len(issued), sum(issued)
    kept["below"], kept["phases"] = _below(played, job.level), _phases(played)
    answers: list[JsonObject | None] = []
    for index, told in enumerate(played.told):
        local = told.served == "local" and told.version is not None
        answers.append(world.answer(index, str(told.version)).output if local else None)
    return answers


def certificates(played: Played, guarantee: float) -> Iterator[tuple[float, bool]]:
    """Each certificate's step, and whether the mean agreement over its evidence was really under the guarantee.

    The evidence are the step's answers since it began, audited or not, each weighted by the audit rate at its coin.
    """
    asked = sorted((told.turn, at) for at, told in enumerate(played.told) if told.turn)
    begun = 0
    for note in played.notes:
        if isinstance(note.event, v.EvidenceRestarted):
            begun = note.turn
        elif isinstance(note.event, v.CertificateIssued):
            weight = lost = 0.0
            for told in (played.told[at] for turn, at in asked if begun < turn <= note.turn):
                if told.score is not None and told.p_agree is not None and told.p_agree >= note.event.gate:
                    weight += told.rate
                    lost += told.rate * (1.0 - told.score)
            yield note.event.gate, lost > (1.0 - guarantee) * weight + 1e-9


def _below(played: Played, guarantee: float) -> float | None:
    total = below = agreed = 0.0
    for told in played.told:
        if told.served == "local" and told.score is not None:
            total += 1
            agreed += told.score
            below += agreed < guarantee * total - 1e-9
    return below / total if total else None


def _phases(played: Played) -> tuple[int, int, int, int]:
    found = [0, 0, 0, 0]
    for told in played.told:
        place = {"cold_start": 0, "reinforcement": 1}.get(told.phase, 3 if told.served == "local" else 2)
        found[place] += told.calls
    return found[0], found[1], found[2], found[3]
