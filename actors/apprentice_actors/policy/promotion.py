"""Which version may take over: the held-out comparison before, the live one after. Pure.

Held-out rows are answered by candidate and incumbent through the same server; for a first version the incumbent is the
untrained base model, where there is one. Live rows are requests on which both were
asked because the remote answer was bought anyway. The live rule reads two betting processes (see
:class:`apprentice_events.versions_state.Paired`): each passes log(1/a) with probability at most a if both are equal.
"""

import math
from collections.abc import Sequence

import msgspec

from apprentice_events.versions_state import Paired
from apprentice_events.vocabulary import SliceScore

from ..commands import HeldOutRow

LIVE_ROWS_MIN = 30
"""Live pairs after which a challenger that is not behind by more than noise takes over: it passed the held-out rows."""
LIVE_ROWS_MAX = 200
"""Live pairs after which a challenger that is still behind by more than noise is sent away."""
LIVE_EVIDENCE = math.log(20)
"""Wealth, as a logarithm, at which the live comparison is decided early (error at most 1 in 20)."""
SLICE_ROWS_MIN = 30
SLICE_SHARE = 0.95
LEAD_OVER_BASE = 0.05
"""By how much a first version has to beat the untrained base model on the held-out rows."""
FEW_ROWS = 20
"""Held-out rows under which the verdict says that it rests on few."""
SLICES_MAX = 50
"""Slices that are reported; judged are all of them."""


class HeldOutVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a candidate may be tried live, and why. ``incumbent_score`` may be the untrained base's."""

    accepted: bool
    score: float
    incumbent_score: float | None
    reason: str
    slices: tuple[SliceScore, ...] = ()


def judge_held_out(rows: Sequence[HeldOutRow], must_pass: Sequence[str], *, untrained: bool = False) -> HeldOutVerdict:
    """Compare on held-out rows: not worse with confidence, nothing lost on must-pass tags, 95% kept on every slice.

    ``untrained``: the incumbent is the base model as it was before any training, which a first version has to beat.
    """
    score = _mean([row.candidate for row in rows])
    pairs = [(row.candidate, row.incumbent, row.tags) for row in rows if row.incumbent is not None]
    if not pairs:
        reason = f"the first version, {score:.3f} on {_counted(rows)}" if rows else "no held-out rows yet"
        return HeldOutVerdict(
            accepted=True, score=score, incumbent_score=None, reason=reason, slices=_slices(rows, must_pass)
        )
    incumbent = _mean([old for _, old, _ in pairs])
    against = f"the untrained base's {incumbent:.3f}" if untrained else f"{incumbent:.3f}"
    compared = f"{score:.3f} against {against} on {_counted(pairs)}"
    problem = _behind_base(score, incumbent, compared) if untrained else _behind_incumbent(pairs, must_pass, compared)
    return HeldOutVerdict(
        accepted=problem is None,
        score=score,
        incumbent_score=incumbent,
        reason=problem or compared,
        slices=_slices(rows, must_pass),
    )


def _behind_base(score: float, base: float, compared: str) -> str | None:
    """A base that leaves less than twice the lead to gain has to be beaten by half of what it leaves."""
    lead = min(LEAD_OVER_BASE, (1.0 - base) / 2)
    if score >= base + lead - 1e-9:
        return None
    return f"no gain of {lead:.3f} over the untrained base: {compared}"


def _behind_incumbent(pairs: Sequence["_Pair"], must_pass: Sequence[str], compared: str) -> str | None:
    differences = [new - old for new, old, _ in pairs]
    if _mean(differences) + 1.645 * _standard_error(differences) < 0:
        return f"worse with confidence: {compared}"
    return _lost_must_pass(pairs, must_pass) or _lost_slice(pairs)


def _counted(rows: Sequence[object]) -> str:
    few = ", too few to say much" if len(rows) < FEW_ROWS else ""
    return f"{len(rows)} held-out row{'s' if len(rows) != 1 else ''}{few}"


def _slices(rows: Sequence[HeldOutRow], must_pass: Sequence[str]) -> tuple[SliceScore, ...]:
    """Must-pass tags first, then the largest slices."""
    tagged: dict[str, list[HeldOutRow]] = {}
    for row in rows:
        for tag in dict.fromkeys(row.tags):
            tagged.setdefault(tag, []).append(row)
    ranked = sorted(tagged, key=lambda tag: (tag not in must_pass, -len(tagged[tag]), tag))
    return tuple(_slice(tag, tagged[tag]) for tag in ranked[:SLICES_MAX])


def _slice(tag: str, rows: Sequence[HeldOutRow]) -> SliceScore:
    old = [row.incumbent for row in rows if row.incumbent is not None]
    return SliceScore(
        tag=tag,
        rows=len(rows),
        score=_mean([row.candidate for row in rows]),
        incumbent_score=_mean(old) if old else None,
    )


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
