"""Ways to teach the embedded model with an encoder, side by side on a recorded stream: balanced rows, chosen rows, a
fine-tuned encoder. Every way is measured on the same requests, which none of them has seen."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from apprentice.local.student import Settings, Student, train
from apprentice.training.tuned_encoders import Encoders
from apprentice_actors.ports import Example, TrainingJob
from benchmarks.measuring import Row
from benchmarks.streams_data import ANSWER, Source, Stream, Vectors, vectors
from benchmarks.streams_plays import recalls, spread

SHUFFLES = 3
UNSEEN = 1_500
FIRST, POOL, CHOSEN = 300, 900, 300
"""Rows that everybody has, further rows, and how many of those are taken."""
COUNTS = (600, 1_500)
_CAP_S = 7_200.0


class Teacher:
    """Fits students on rows of a stream with one encoder."""

    def __init__(self, encoder: str, kept: Path) -> None:
        self._name, self._plain = encoder, Vectors(encoder, kept)

    def fit(self, rows: Sequence[Example], *, balance: bool = False) -> Student:
        """A student with the encoder as it is."""
        settings = Settings(encoder=self._name, balance=balance)
        return train(rows, [], schema=None, match_fields=(ANSWER,), settings=settings, encoder=self._plain)[0]

    def tune(self, rows: Sequence[Example]) -> Student:
        """A student with an encoder that was tuned on these rows, as the worker does it."""
        settings = Settings(encoder=self._name, encoder_tuning="lora", time_cap_s=_CAP_S)
        job = TrainingJob(
            job="",
            task="",
            version="",
            parent=None,
            parent_folder=None,
            folder="",
            train_file="",
            calibration_file="",
            output_schema=None,
            match_fields=(ANSWER,),
            seed=1,
        )
        with TemporaryDirectory() as work:
            chosen = Encoders([self._plain]).choose(job, settings, rows, Path(work), lambda share, message: None)
            return train(
                rows,
                [],
                schema=None,
                match_fields=(ANSWER,),
                settings=settings,
                encoder=chosen.encoder,
                adapter=chosen.adapter,
            )[0]


def run_teaching(source: Source, *, encoder: str, tuned: bool, quick: bool = False) -> dict[str, Any] | None:
    """Means over shuffles; None where the stream is not there. ``tuned`` adds minutes per shuffle."""
    stream = source.read()
    if stream is None:
        return None
    teacher = Teacher(encoder, vectors(stream, encoder))
    shuffles = 1 if quick else SHUFFLES
    ways = _ways(teacher, tuned)
    found = {way: [_measured(stream, seed, fit) for seed in range(shuffles)] for way, fit in ways.items()}
    rows: list[Row] = [
        {"way": way, **{key: round(fmean(each[key] for each in measured), 3) for key in measured[0]}}
        for way, measured in found.items()
    ]
    return {"stream": stream.name, "encoder": encoder, "shuffles": shuffles, "rows": rows}


type Fit = Callable[[list[Example], random.Random], Student]


def _ways(teacher: Teacher, tuned: bool) -> dict[str, Fit]:
    ways: dict[str, Fit] = {}
    for count in COUNTS:
        ways[f"{count:,} rows"] = _first(count, teacher.fit)
        ways[f"{count:,} rows, balanced"] = _first(count, partial(teacher.fit, balance=True))
        if tuned:
            ways[f"{count:,} rows, encoder tuned"] = _first(count, teacher.tune)
    many, some = FIRST + POOL, f"{FIRST} rows and of {POOL} more {CHOSEN}"
    ways[f"{some}, least sure"] = lambda rows, chance: teacher.fit(rows[:FIRST] + _least_sure(teacher, rows))
    ways[f"{some}, by chance"] = lambda rows, chance: teacher.fit(
        rows[:FIRST] + chance.sample(rows[FIRST:many], CHOSEN)
    )
    ways[f"all {many:,} rows"] = _first(many, teacher.fit)
    return ways


def _first(count: int, fit: Callable[[list[Example]], Student]) -> Fit:
    return lambda rows, chance: fit(rows[:count])


def _least_sure(teacher: Teacher, rows: list[Example]) -> list[Example]:
    pool = rows[FIRST : FIRST + POOL]
    sure = [p_agree for _, p_agree in teacher.fit(rows[:FIRST]).answer([row.input for row in pool])]
    return [pool[at] for at in np.argsort(sure, kind="stable")[:CHOSEN]]


def _measured(stream: Stream, seed: int, fit: Fit) -> dict[str, float]:
    """Agreement with the recorded answers: of all, of the half that the student is surest of, and per answer."""
    places = list(range(len(stream.rows)))
    random.Random(seed).shuffle(places)
    rows = [stream.rows[at] for at in places]
    unseen = rows[max(COUNTS) :][:UNSEEN]
    told = fit(rows[: max(COUNTS)], random.Random(seed)).answer([row.input for row in unseen])
    wanted = [row.output[ANSWER] for row in unseen]
    right = [answer.get(ANSWER) == given for (answer, _), given in zip(told, wanted, strict=True)]
    surest = np.argsort([-p_agree for _, p_agree in told], kind="stable")[: len(unseen) // 2]
    found = recalls(wanted, right)
    least, low, _, _ = spread(found)
    return {
        "agreement": fmean(right),
        "surest_half": fmean(right[at] for at in surest),
        "recall_mean": fmean(found),
        "recall_q1": low,
        "recall_min": least,
    }
