"""What decisions read of the configuration: plain frozen values, one struct per task and one for the purse."""

from typing import Literal

import msgspec


class TaskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one task. Shares, thresholds and agreements lie in [0, 1]."""

    task: str
    phase1_to_phase2: int = 50
    phase2_to_phase3: float = 0.85
    coaching_trigger: float = 0.70
    emergency_threshold: float = 0.50
    guarantee: float = 0.90
    alpha: float = 0.05
    gates: tuple[float, ...] = ()
    """Grid of ``p_agree`` steps, tightest first."""
    window_size: int = 100
    decay: Literal["exponential", "linear", "step"] = "exponential"
    min_floor: float = 0.02
    trend_sensitivity: float = 0.05
    detect_drop: float | None = None
    detect_within: int | None = None
    false_alarm_every: int = 1000
    classes: int | None = None
    """Number of classes where the compared output is one categorical field; None where it is not known."""
    batch: int = 100
    """New examples per later training."""
    cron: str | None = None
    """When to train on whatever is new, as a cron expression in ``zone``; None: by no calendar."""
    zone: str = "UTC"
    max_wait_s: float | None = None
    """The longest that a new example waits to be trained on; None: for its batch."""
    quality_drop: bool = True
    """Whether coaching trains on a part of a batch."""
    cooldown_s: float = 0.0
    """The least time between the triggers of two trainings; what a person asks for does not wait."""
    holdout_share: float = 0.2
    must_pass: tuple[str, ...] = ()
    """Tags on which a new version may lose nothing."""
    keep_versions: int = 3
    on_exhausted: Literal["reject", "local"] = "reject"
    on_remote_down: Literal["reject", "local"] = "reject"
    hedge_after_s: float | None = None
    """Seconds after which a second provider is asked beside a slow first one; None: never."""
    licences: tuple[tuple[str, str], ...] = ()
    """Per teacher whether its answers may be trained on: ``allowed``, ``disallowed`` or ``unknown``."""
    max_attempts: int = 2
    """Paid attempts per request: a call that broke after it was sent is charged in full and asked once more."""
    missed_in_a_row: int = 20
    audit: Literal["background", "inline"] = "background"
    """Whether an audit runs beside the local answer, or the caller waits for it and gets the remote's."""
    self_agreement_rate: float = 0.0
    """Share of remote answers that are asked for a second time."""
    pacing: bool = False
    """Whether audits above the floor slow down when a cap's money runs ahead of its time."""
    coaching_budget_nd: int | None = None
    """What one spell of coaching may spend; None for no limit of its own."""


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """A spending limit of a calendar window, over everything (``task`` None) or one task."""

    window: Literal["day", "week", "month"]
    limit_nd: int
    task: str | None = None

    @property
    def name(self) -> str:
        """Such as ``day`` or ``classify_ticket:month``."""
        return self.window if self.task is None else f"{self.task}:{self.window}"


class PurseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The caps, the zone whose calendar they follow, and the share of a cap at which a warning is due."""

    caps: tuple[Cap, ...] = ()
    zone: str = "UTC"
    warn_at: float = 0.8
    pacing: bool = False
