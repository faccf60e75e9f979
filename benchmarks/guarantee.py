"""Whether the promise is kept: simulated tasks of known truth played through the real decisions, beside other methods.

What counts as false, innocent or late is said in :mod:`benchmarks.guarantee_truth`, what the tasks are like in
:mod:`benchmarks.guarantee_worlds`.
"""

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

import msgspec

from benchmarks.guarantee_rivals import CERTIFIERS, monitors
from benchmarks.guarantee_truth import Delay, Finding, judge
from benchmarks.guarantee_worlds import ALPHA, FALSE_ALARM_EVERY, FAMILIES, WORST
from benchmarks.measuring import Row

OURS = "apprentice"
NOISE = 0.014
"""What chance may add to a share of 0.05 over 1,000 tasks: two standard errors."""
DELAY_FACTOR = 1.5
"""By how much the median delay may exceed the formula's."""
AT_IT = ("steady at it", "oscillating")
"""Families whose mean agreement is the guarantee from the first request on."""


def run_guarantee(*, quick: bool = False, workers: int = 2) -> dict[str, Any]:
    """All tasks, or a tenth of each family; ``workers`` 1 stays in this process."""
    start, worked = perf_counter(), _processor_s()
    tasks = [(family, number) for family, (count, _) in FAMILIES.items() for number in range(_tenth(count, quick))]
    families, numbers = zip(*tasks, strict=True)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            findings = list(pool.map(judge, families, numbers, chunksize=5))
    else:
        findings = list(map(judge, families, numbers))
    took = {"seconds": perf_counter() - start, "processor_seconds": _processor_s() - worked, "workers": workers}
    return summarise(findings) | {name: round(value, 1) for name, value in took.items()}


def _processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _tenth(count: int, quick: bool) -> int:
    return math.ceil(count / 10) if quick else count


def summarise(findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything that is told and kept of the findings."""
    mixed = [one for one in findings if one.family != WORST]
    worst = [one for one in findings if one.family == WORST]
    return {
        "tasks": len(findings),
        "requests": sum(one.requests for one in findings),
        "promises": _promises(mixed, worst),
        "families": [
            _family(name, [one for one in findings if one.family == name])
            for name in FAMILIES
            if any(one.family == name for one in findings)
        ],
        "drops": [*_drops(mixed), *_drops(mixed, "delayed teacher")],
        "methods": _methods(mixed, worst),
        "left_out": [name for name in ("ADWIN", "Page-Hinkley") if name not in monitors()],
        "delays": [
            {"family": one.family, **msgspec.to_builtins(one.delay)} for one in findings if one.delay is not None
        ],
    }


# ---------------------------------------------------------------- promises


def _promises(mixed: Sequence[Finding], worst: Sequence[Finding]) -> list[Row]:
    delays = [one.delay for one in mixed if one.delay is not None and one.family == "sudden drop"]
    audits = sum(one.innocent_audits for one in mixed)
    per_alarm = 1_000 / FALSE_ALARM_EVERY
    rows = [
        ("tasks with a false certificate, all kinds", share(_false(one) for one in mixed), ALPHA + NOISE),
        ("tasks with a false certificate, all steps at it", share(_false(one) for one in worst), ALPHA + NOISE),
        ("false demotions per 1,000 audits", _per_1000(sum(one.false_demotions for one in mixed), audits), per_alarm),
        ("false drift alarms per 1,000 audits", _per_1000(sum(one.false_drifts for one in mixed), audits), per_alarm),
        ("median delay in audits, of the formula's", _middle(map(in_audits, delays)), DELAY_FACTOR),
        ("median delay in answers, of the formula's", _middle(map(in_answers, delays)), DELAY_FACTOR),
    ]
    return [
        {"what": what, "found": _rounded(found), "at_most": round(most, 4), "kept": found <= most}
        for what, found, most in rows
    ]


def _false(one: Finding) -> bool:
    return one.false_certificates > 0


def in_audits(delay: Delay) -> float:
    """Audits to the alarm, as a multiple of the formula's; infinite where no alarm came."""
    return delay.audits / delay.expected_audits if delay.audits is not None else math.inf


def in_answers(delay: Delay) -> float:
    """Answers served locally to the alarm, as a multiple of the formula's at the audit rate of the change."""
    return delay.served / delay.expected_served if delay.served is not None else math.inf


# ---------------------------------------------------------------- tables


def _family(name: str, found: Sequence[Finding]) -> Row:
    local, audits = sum(one.local for one in found), sum(one.innocent_audits for one in found)
    return {
        "family": name,
        "tasks": len(found),
        "graduated": sum(one.graduated for one in found),
        "false_certificates": sum(map(_false, found)),
        "local_share": _rounded(local / sum(one.requests for one in found)),
        "agreement": _rounded(1.0 - sum(one.risk for one in found) / local) if local else None,
        "below": _rounded(sum(one.below for one in found) / local) if local else None,
        "innocent_audits": audits,
        "false_demotions": sum(one.false_demotions for one in found),
        "false_drifts": sum(one.false_drifts for one in found),
    }


def _drops(found: Sequence[Finding], family: str = "sudden drop") -> list[Row]:
    """Delays by the size of the drop at the gate in force."""
    rows: list[Row] = []
    for low, high in ((0.02, 0.075), (0.075, 0.15), (0.15, 0.3), (0.3, 0.9)):
        chosen = [one for one in found if one.family == family]
        chosen = [one for one in chosen if one.delay is not None and low <= one.delay.drop < high]
        delays = [one.delay for one in chosen if one.delay is not None]
        if not delays:
            continue
        rows.append(
            {
                "family": family,
                "drop": f"{low:g} to {high:g}",
                "tasks": len(delays),
                "without_alarm": sum(delay.served is None for delay in delays),
                "audits": _rounded(_middle(map(_audits, delays))),
                "formula": _rounded(median(delay.expected_audits for delay in delays)),
                "ratio": _rounded(_middle(map(in_audits, delays))),
                "rate_at_the_drop": _rounded(median(delay.rate for delay in delays)),
                "answers": _rounded(_middle(map(_answers, delays))),
                "answers_by_formula": _rounded(median(delay.expected_served for delay in delays)),
                "first_sign": _rounded(_middle(_or_never(one.noticed) for one in chosen)),
            }
        )
    return rows


def _methods(mixed: Sequence[Finding], worst: Sequence[Finding]) -> Sequence[Row]:
    at_it = [one for one in mixed if one.family in AT_IT]
    rows: list[dict[str, Any]] = [
        {
            "method": OURS,
            "false_certificates": _rounded(share(map(_false, mixed))),
            "of_those_at_it": _rounded(share(map(_false, at_it))),
            "all_steps_at_it": _rounded(share(map(_false, worst))),
            "false_alarms": _rounded(
                _per_1000(sum(one.false_demotions for one in mixed), sum(one.innocent_audits for one in mixed))
            ),
        }
    ]
    for name in monitors():
        rivals = [one.rivals[name] for one in mixed]
        certifies = name in CERTIFIERS

        def wrong(one: Finding, name: str = name) -> bool:
            return one.rivals[name].false_certificate

        rows.append(
            {
                "method": name,
                "false_certificates": _rounded(share(map(wrong, mixed))) if certifies else None,
                "of_those_at_it": _rounded(share(map(wrong, at_it))) if certifies else None,
                "all_steps_at_it": _rounded(share(map(wrong, worst))) if certifies else None,
                "false_alarms": _rounded(
                    _per_1000(
                        sum(rival.false_alarms for rival in rivals), sum(rival.innocent_audits for rival in rivals)
                    )
                ),
            }
        )
    for row in rows:
        for family, key in (("sudden drop", "drop"), ("slow decay", "decay")):
            served = _until_alarm(row["method"], [one for one in mixed if one.family == family])
            row[f"served_after_{key}"] = _rounded(_middle(served))
            row[f"{key}_missed"] = _rounded(1.0 - share(map(math.isfinite, served)))
    return rows


def _until_alarm(method: str, found: Sequence[Finding]) -> list[float]:
    """Per task that served after the change, how many answers it served until the method's alarm; infinite: none."""
    if method == OURS:
        return [_or_never(one.until_alarm) for one in found if one.until_alarm != 0]
    return [_or_never(one.rivals[method].served) for one in found if one.rivals[method].watched]


TABLES = (
    ("promises", "What is promised, and what was found", ""),
    (
        "families",
        "Simulated tasks by kind",
        "tasks with a false certificate · share served locally, true mean agreement of that, and how much of it while "
        "the mean at the gate was below the guarantee · false demotions and false alarms of the slow detector",
    ),
    (
        "drops",
        "Sudden drops by their size",
        "medians, from the drop to the demotion; first sign: or coaching before it",
    ),
    (
        "methods",
        "Others on the same audits",
        "share of tasks with a false certificate: all, those whose mean is the guarantee, those of which every step is "
        "there · false alarms per 1,000 audits · answers served from the drop, or from passing the guarantee, to the "
        "alarm: median, and share of tasks where none came",
    ),
)
"""Part of what is found, title and caption."""


SHARES = frozenset(
    {"local_share", "agreement", "below", "of_those_at_it", "all_steps_at_it", "drop_missed", "decay_missed"}
)
COUNTS = frozenset({"audits", "formula", "answers", "answers_by_formula", "first_sign"})
COUNTS |= {"served_after_drop", "served_after_decay"}


def printable(rows: Iterable[Row]) -> list[Row]:
    """Rows as a reader wants them: shares in percent, counts without fractions, words for what is no number."""
    return [{name: _told(name, value) for name, value in row.items()} for row in rows]


def _told(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if name in SHARES or (name == "false_certificates" and isinstance(value, float)):
        return f"{value:.1%}"
    if name in COUNTS:
        return f"{value:,.0f}"
    return f"{value:.3f}" if name in ("found", "at_most") else value


# ---------------------------------------------------------------- arithmetic


def share(flags: Iterable[bool]) -> float:
    """Share of true ones; 0 of none."""
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 0.0


def _middle(values: Iterable[float]) -> float:
    listed = list(values)
    return median(listed) if listed else math.nan


def _per_1000(count: int, audits: int) -> float:
    return 1_000 * count / audits if audits else 0.0


def _audits(delay: Delay) -> float:
    return _or_never(delay.audits)


def _answers(delay: Delay) -> float:
    return _or_never(delay.served)


def _or_never(value: int | None) -> float:
    return value if value is not None else math.inf


def _rounded(value: float) -> float | None:
    """None for what JSON cannot hold: never, or nothing to take a median of."""
    return round(value, 4) if math.isfinite(value) else None
