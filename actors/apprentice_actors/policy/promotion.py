"""Which version may take over: the held-out comparison before, the live one after. Pure.

Held-out rows are answered by candidate and incumbent through the same server; live rows are requests on which both were
asked because the remote answer was bought anyway. The live rule reads two betting processes (see
:class:`apprentice_events.versions_state.Paired`): each passes log(1/a) with probability at most a if both are equal.
"""

import math
from collections.abc import Sequence

import msgspec

from apprentice_events.versions_state import Paired

from ..commands import HeldOutRow

LIVE_ROWS_MIN = 30
"""Live pairs after which a challenger that is not behind by more than noise takes over: it passed the held-out rows."""
LIVE_ROWS_MAX = 200
"""Live pairs after which a challenger that is still behind by more than noise is sent away."""
LIVE_EVIDENCE = math.log(20)
"""Wealth, as a logarithm, at which the live comparison is decided early (error at most 1 in 20)."""
SLICE_ROWS_MIN = 30
SLICE_SHARE = 0.95


class HeldOutVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a candidate may be tried live, and why."""

    accepted: bool
    score: float
    incumbent_score: float | None
    reason: str


def judge_held_out(rows: Sequence[HeldOutRow], must_pass: Sequence[str]) -> HeldOutVerdict:
    """Compare on held-out rows: not worse with confidence, nothing lost on must-pass tags, 95% kept on every slice."""
    score = _mean([row.candidate for row in rows])
    pairs = [(row.candidate, row.incumbent, row.tags) for row in rows if row.incumbent is not None]
    if not pairs:
        reason = f"the first version, {score:.3f} on {len(rows)} held-out rows" if rows else "no held-out rows yet"
        return HeldOutVerdict(accepted=True, score=score, incumbent_score=None, reason=reason)
    incumbent = _mean([old for _, old, _ in pairs])
    differences = [new - old for new, old, _ in pairs]
    upper = _mean(differences) + 1.645 * _standard_error(differences)
    problem = None
    if upper < 0:
        problem = f"worse with confidence: {score:.3f} against {incumbent:.3f} on {len(pairs)} held-out rows"
    problem = problem or _lost_must_pass(pairs, must_pass) or _lost_slice(pairs)
    reason = problem or f"{score:.3f} against {incumbent:.3f} on {len(pairs)} held-out rows"
    return HeldOutVerdict(accepted=problem is None, score=score, incumbent_score=incumbent, reason=reason)


def judge_challenger(paired: Paired) -> tuple[bool, str] | None:
    """True: promote, False: send away, None: keep comparing; with the reason in words."""
    rows, lead = paired.rows, -paired.difference
    so_far = f"{lead:+.1f} agreements over {rows} live requests"
    if paired.log_behind >= LIVE_EVIDENCE:
        return False, f"worse than the champion on live requests ({so_far})"
    if paired.log_ahead >= LIVE_EVIDENCE:
        return True, f"better than the champion on live requests ({so_far})"
    if rows >= LIVE_ROWS_MIN and lead >= -math.sqrt(paired.squares):
        return True, f"no worse than the champion on live requests, within one standard error ({so_far})"
    if rows >= LIVE_ROWS_MAX:
        return False, f"not as good as the champion on live requests ({so_far})"
    return None


def judge_predecessor(paired: Paired) -> str | None:
    """The reason to go back to the predecessor, or None."""
    if paired.log_ahead < LIVE_EVIDENCE:
        return None
    return f"its predecessor agrees more often: {-paired.difference:+.1f} over {paired.rows} live requests"


type _Pair = tuple[float, float, tuple[str, ...]]


def _lost_must_pass(pairs: Sequence[_Pair], must_pass: Sequence[str]) -> str | None:
    for tag in must_pass:
        lost = sum(1 for new, old, tags in pairs if tag in tags and new < old)
        if lost:
            return f"loses {lost} held-out row{'s' if lost > 1 else ''} of the must-pass tag {tag!r}"
    return None


def _lost_slice(pairs: Sequence[_Pair]) -> str | None:
    for tag in sorted({tag for _, _, tags in pairs for tag in tags}):
        inside = [(new, old) for new, old, tags in pairs if tag in tags]
        new, old = _mean([n for n, _ in inside]), _mean([o for _, o in inside])
        if len(inside) >= SLICE_ROWS_MIN and new < SLICE_SHARE * old:
            return f"keeps only {new:.3f} of {old:.3f} on the slice {tag!r} ({len(inside)} held-out rows)"
    return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return math.inf
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
