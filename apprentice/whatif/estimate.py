"""From many replays to an estimate: what would have come of it, between which bounds, and what that cannot say.

Each run fills in what was not compared (:mod:`apprentice.whatif.filling`), draws the coins that the record leaves open,
and decides everything anew. The spread of the runs is the uncertainty that comes from not having both answers.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import msgspec

from apprentice.whatif.filling import Filling
from apprentice.whatif.recorded import Asked, Happened, Recorded
from apprentice.whatif.replaying import Replay, Replayed
from apprentice.wiring import dollars
from apprentice_actors.settings import Cap, TaskSettings
from apprentice_events.spend import window_start

type Draw = Callable[[], float]
"""Numbers uniform in [0, 1)."""

RUNS = 20
_TAIL = 0.05
"""Share of the runs beyond each bound."""
UNESTIMATED = frozenset(
    {
        *("phase1_to_phase2", "batch", "holdout_share", "must_pass", "keep_versions", "licences"),
        *("cron", "zone", "max_wait_s", "quality_drop", "cooldown_s"),
        *("hedge_after_s", "max_attempts", "missed_in_a_row", "pacing", "self_agreement_rate"),
    }
)
"""Settings whose change a log cannot tell the consequences of: how and when versions are trained, how calls go."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over the runs: its mean, and the bounds that 90% of them lie between."""

    mean: float
    low: float
    high: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came, or would have come, of the recorded requests. Shares and agreements lie in [0, 1]."""

    remote_calls: Range
    spent: Range
    """US dollars, training and local compute included."""
    local_share: Range
    """Of the answers that were served."""
    agreement: Range | None
    """*Overall*: of everything that was served; remote answers agree with themselves. None where nothing was."""
    agreement_local: Range | None
    """*Selective*: of what the local model served, over the runs in which it served anything. None: it did in none."""
    failed: Range
    graduated_after: Range | None
    """Requests until the local model could first serve. None: it never could, in no run."""
    graduated_s: Range | None
    """The same in seconds since the first request."""
    graduated_runs: float
    """Share of the runs in which it could."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """One task under its recorded settings and under others."""

    task: str
    requests: int
    compared: int
    """Requests of which the log has both answers."""
    changed: tuple[str, ...]
    """Settings that differ, such as ``guarantee: 0.9 → 0.95``."""
    happened: Outcome
    estimated: Outcome
    control_calls: int
    """Remote calls of a replay under the recorded settings: the nearer to what happened, the better the replay."""
    drawn: float
    """Comparisons that a run made in mean and the log does not have."""
    runs: int
    limits: tuple[str, ...]
    """What the estimate leaves out, in words."""


def what_if(
    recorded: Recorded,
    target: TaskSettings,
    chance: Callable[[int], Draw],
    *,
    caps: Sequence[Cap] = (),
    zone: str = "UTC",
    runs: int = RUNS,
    progress: Callable[[int], None] = lambda done: None,
) -> WhatIf:
    """Replay ``recorded`` with the settings in which ``target`` differs from those in force at its end.

    ``chance`` gives a fresh source of draws for each run. Raises ``ValueError`` where nothing was compared.
    """
    now, happened = recorded.settings, recorded.happened
    compared = sum(one.compared for one in recorded.asked)
    if now is None or not compared:
        raise ValueError(f"{recorded.task} has no comparisons in this log yet: there is no evidence to replay")
    names = [name for name in now.__struct_fields__ if name != "task" and getattr(target, name) != getattr(now, name)]
    differs = {name: getattr(target, name) for name in names}
    counted = {name: value for name, value in differs.items() if name not in UNESTIMATED}
    price_nd = _price(recorded)

    def changing(settings: TaskSettings) -> TaskSettings:
        return msgspec.structs.replace(settings, **counted)

    def run(number: int, change: Callable[[TaskSettings], TaskSettings]) -> tuple[Replayed, float]:
        draw = chance(number)
        filling = Filling(recorded.asked, target.gates, draw)
        found = Replay(recorded, change, filling, draw, price_nd=price_nd, zone=zone).run()
        return found, _agreed(recorded.asked, filling)

    control, _ = run(0, lambda settings: settings)
    replays: list[Replayed] = []
    agreed: list[float] = []
    for number in range(runs):
        found, agreement = run(number, changing)
        replays.append(found)
        agreed.append(agreement)
        progress(number + 1)
    shown = WhatIf(
        task=recorded.task,
        requests=happened.requests,
        compared=compared,
        changed=tuple(f"{name}: {_told(getattr(now, name))} → {_told(value)}" for name, value in differs.items()),
        happened=_outcome([happened] * runs, agreed),
        estimated=_outcome(replays, [one.agreed for one in replays]),
        control_calls=control.calls,
        drawn=sum(one.drawn for one in replays) / runs,
        runs=runs,
        limits=(),
    )
    unheard = [name for name in differs if name in UNESTIMATED]
    return msgspec.structs.replace(shown, limits=tuple(_limits(shown, recorded, unheard, counted, replays, caps)))


def _price(recorded: Recorded) -> int:
    """The mean cost of the calls that answered, in nano-dollars."""
    costs = [one.spent_nd for one in recorded.asked if one.remote_output is not None]
    return round(sum(costs) / len(costs)) if costs else 0


def _agreed(asked: Sequence[Asked], filling: Filling) -> float:
    """Sum of the scores of the answers that the local model served."""
    return sum(filling.pair(one).score for one in asked if one.served == "local")


# ---------------------------------------------------------------- summing up


def _outcome(totals: Sequence[Happened], agreed: Sequence[float]) -> Outcome:
    served = [one.served_local + one.served_remote for one in totals]
    pairs = list(zip(totals, agreed, served, strict=True))
    after = [one.graduated_after for one in totals if one.graduated_after is not None]
    return Outcome(
        remote_calls=_known_range([one.calls for one in totals]),
        spent=_known_range([one.spent_nd / 1e9 for one in totals]),
        local_share=_known_range([one.served_local / count if count else 0.0 for one, _, count in pairs]),
        agreement=_range([(one.served_remote + scores) / count for one, scores, count in pairs if count]),
        agreement_local=_range([scores / one.served_local for one, scores, _ in pairs if one.served_local]),
        failed=_known_range([one.failed for one in totals]),
        graduated_after=_range(after),
        graduated_s=_range([one.graduated_ns / 1e9 for one in totals if one.graduated_ns is not None]),
        graduated_runs=len(after) / len(totals),
    )


def _range(values: Sequence[float]) -> Range | None:
    return _known_range(values) if values else None


def _known_range(values: Sequence[float]) -> Range:
    ordered = sorted(values)
    return Range(mean=sum(ordered) / len(ordered), low=_quantile(ordered, _TAIL), high=_quantile(ordered, 1.0 - _TAIL))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _told(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- what it cannot say


def _limits(
    shown: WhatIf,
    recorded: Recorded,
    unheard: Sequence[str],
    counted: dict[str, Any],
    replays: Sequence[Replayed],
    caps: Sequence[Cap],
) -> list[str]:
    happened = recorded.happened
    unknown = sum(one.served == "local" and one.score is None for one in recorded.asked)
    found = [
        f"The log has both answers to {shown.compared:,} of {shown.requests:,} requests. How far the other "
        f"{unknown:,} local answers agree is drawn from comparisons of like confidence at about the same time; the "
        f"bounds hold 90% of {shown.runs} runs and speak of these requests, not of future ones."
    ]
    if shown.drawn >= 1:
        found.append(f"{shown.drawn:,.0f} of the comparisons that a run judges by are drawn so, not recorded.")
    found.append(
        "Versions of the local model are those of the record: with more remote answers it would have learned faster, "
        "with fewer more slowly."
    )
    off = shown.control_calls - happened.calls
    if off:
        found.append(
            f"Replayed unchanged, the log gives {off:+,} remote calls: so far off is the replay by itself, or this "
            "version of the program decides otherwise than the one that wrote the log."
        )
    if unheard:
        found.append(f"A log cannot tell what follows from {', '.join(unheard)}: that part is left as it was.")
    if not counted:
        found.append("Nothing that differs has a part in what is replayed: the estimate is what happened.")
    if shown.estimated.graduated_runs not in (0.0, 1.0):
        share = 1.0 - shown.estimated.graduated_runs
        found.append(f"In {share:.0%} of the runs the local model never served.")
    return [*found, *_over_caps(shown.task, replays, caps)]


def _over_caps(task: str, replays: Sequence[Replayed], caps: Sequence[Cap]) -> list[str]:
    """Caps are not enforced on a replay; where its spend passes one, that is said."""
    found = []
    for cap in caps:
        if cap.task not in (None, task):
            continue
        most = max(_most(replay, cap.window) for replay in replays)
        if most > cap.limit_nd:
            found.append(
                f"Caps are not applied. The cap {cap.name} of ${dollars(cap.limit_nd)} would have been passed (up to "
                f"${dollars(most)} by this task alone): requests beyond it would have been refused, or audits skipped."
            )
    return found


def _most(replay: Replayed, window: str) -> int:
    by_window = groupby(sorted(replay.days), key=lambda day: window_start(day, window))
    return max((sum(replay.days[day] for day in days) for _, days in by_window), default=0)
