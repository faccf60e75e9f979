"""Bursts: whether to buy comparisons above the gate so that the next step opens sooner. Pure.

A step grows its evidence at the audit rate. Buying every comparison for a while costs the share of requests that is
served locally now; opening a step saves the share between it and the gate, from then on. How long "from then on" is
nobody knows; the guess is as long as the task has lasted (Lindy's rule). The rate depends on the past alone, so
certificates stay valid whatever this decides.
"""

from collections.abc import Sequence
from math import inf, log1p

import msgspec

from apprentice_events.evidence import Evidence

from .certificate import STAKES, log_thresholds, log_wealths
from .correlation import wilson

PAYBACK = 3.0
"""How many times over a burst must pay: estimates of steps that are tried again and again err on the hopeful side."""
RECENT = 200
"""Newest comparisons that the shares and the loss of a step are estimated from."""
SAFELY = 1.0 - 1e-9
"""Keeps a quotient below what it stands for, whatever rounding does."""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a step soon would cost, in remote calls, and would save per request that the task has had."""

    step: float
    price: float
    gain: float


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """A burst that pays: the step it opens, and both sides of the bargain in remote calls."""

    step: float
    price: float
    saving: float


def bursts(evidence: Evidence, held: list[float], gate: float, rate: float) -> list[Offer]:
    """What a burst would cost and bring, for each step that it could open.

    ``held`` are the certified steps, ``gate`` is the one in force, ``rate`` the audit rate without a burst.
    """
    recent = _recent(evidence)
    if not recent:
        return []
    served = _share(evidence, recent, gate)
    wealths = dict(zip(evidence.gates, log_wealths(evidence), strict=True))
    offers: list[Offer] = []
    for step, threshold in log_thresholds(evidence, held).items():
        if step >= gate:
            continue
        share = _share(evidence, recent, step)
        growth = _growth(evidence, recent, step)
        if growth <= 0.0 or share <= served:
            continue
        calls = max(threshold - wealths[step], 0.0) / growth / share
        offers.append(Offer(step=step, price=calls * served * (1.0 - rate), gain=(share - served) * (1.0 - rate)))
    return offers


def worthwhile(offers: Sequence[Offer], requests: int) -> Burst | None:
    """The best bargain for a task that has had so many ``requests``, None if none pays."""
    best: Burst | None = None
    for one in offers:
        saving = one.gain * requests
        if PAYBACK * one.price < saving and (best is None or saving - one.price > best.saving - best.price):
            best = Burst(step=one.step, price=one.price, saving=saving)
    return best


def pays_after(offers: Sequence[Offer]) -> float:
    """A number of requests up to which none of the offers pays, hardly below the last such; may be infinite."""
    return min((PAYBACK * one.price / one.gain * SAFELY for one in offers if one.gain > 0.0), default=inf)


type _Recent = list[tuple[int, float, float]]
"""Index of the band, weight ``1 / q``, score."""


def _recent(evidence: Evidence) -> _Recent:
    seen = [
        (one.ordinal, index, one.weight, one.score) for index, band in enumerate(evidence.bands) for one in band.window
    ]
    seen.sort()
    return [(index, weight, score) for _, index, weight, score in seen[-RECENT:]]


def _share(evidence: Evidence, recent: _Recent, step: float) -> float:
    """Share of requests whose answers clear ``step``."""
    bands = _bands(evidence, step)
    return sum(weight for index, weight, _ in recent if index < bands) / sum(weight for _, weight, _ in recent)


def _growth(evidence: Evidence, recent: _Recent, step: float) -> float:
    """Nats that one comparison at ``step`` adds in mean, with the stake that suits its loss best.

    The loss is taken at its upper Wilson bound: a step near the guarantee would otherwise look cheap again and again.
    """
    bands = _bands(evidence, step)
    weights = [weight for index, weight, _ in recent if index < bands]
    if not weights:
        return 0.0
    total = sum(weights)
    mean = sum(weight * (1.0 - score) for index, weight, score in recent if index < bands) / total
    loss = wilson(mean, total * total / sum(weight * weight for weight in weights))[1]
    epsilon = 1.0 - evidence.guarantee
    return max(loss * log1p(-stake) - log1p(-epsilon * stake) for stake in STAKES)


def _bands(evidence: Evidence, step: float) -> int:
    return sum(gate >= step for gate in evidence.gates)
