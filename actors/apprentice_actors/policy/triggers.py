"""When a version is trained: by the number of new examples, by the calendar, by waiting, while coaching. Pure.

Every moment that counts follows from the log: when the last training was triggered, and when the first example came
that no version has learned from. A schedule that was missed, because nothing ran or something was under way, is made
up for once. The first training waits for its number of examples whatever the calendar says.
"""

from datetime import datetime
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from apprentice_events.task_state import TaskState
from apprentice_events.versions_state import VersionsState

from ..settings import TaskSettings

type Cause = Literal["first", "batch", "coaching", "schedule", "max_wait"]

STRIKES = 3
"""Failed trainings in a row after which nothing is trained until a person asks."""
COACHING_SHARE = 4
"""Coaching trains on this part of a batch."""

_FIELDS = 5
_EXPRESSION_CHARS_MAX = 200
_SECOND_NS = 10**9


def due(state: TaskState, settings: TaskSettings, now_ns: int) -> Cause | None:
    """What calls for a training at ``now_ns``; None where nothing does, or where it has to wait."""
    versions = state.versions
    busy = versions.job is not None or versions.candidate is not None
    undecided = versions.rival is not None and versions.rival_role == "challenger"
    if busy or undecided or versions.failures_in_a_row >= STRIKES or _cooling(versions, settings, now_ns):
        return None
    return _by_number(state, settings) or _by_time(state, settings, now_ns)


def _cooling(versions: VersionsState, settings: TaskSettings, now_ns: int) -> bool:
    since = versions.triggered_ns
    return since is not None and now_ns - since < settings.cooldown_s * _SECOND_NS


def _is_first(versions: VersionsState) -> bool:
    return versions.champion is None and versions.trained_examples == 0


def _by_number(state: TaskState, settings: TaskSettings) -> Cause | None:
    """After a failure a batch more than it had is waited for."""
    versions = state.versions
    first = _is_first(versions)
    fresh = state.collected - max(versions.trained_examples, versions.failed_at)
    if first:
        needed = settings.phase1_to_phase2 if versions.failed_at == 0 else settings.batch
        return "first" if fresh >= needed else None
    if state.coaching is not None and settings.quality_drop:
        return "coaching" if fresh >= max(1, settings.batch // COACHING_SHARE) else None
    return "batch" if fresh >= settings.batch else None


def _by_time(state: TaskState, settings: TaskSettings, now_ns: int) -> Cause | None:
    versions = state.versions
    too_early = _is_first(versions) and state.collected < settings.phase1_to_phase2
    if versions.fresh_since_ns is None or too_early:
        return None
    since = max(versions.fresh_since_ns, versions.triggered_ns or 0)  # a failed attempt is made again the next time
    if settings.cron is not None:
        at = next_run_ns(settings.cron, settings.zone, since)
        if at is not None and at <= now_ns:
            return "schedule"
    if settings.max_wait_s is not None and now_ns - since >= settings.max_wait_s * _SECOND_NS:
        return "max_wait"
    return None


@lru_cache(maxsize=256)
def next_run_ns(cron: str, zone: str, after_ns: int) -> int | None:
    """The first moment past ``after_ns`` (both UTC ns) that the expression names in ``zone``; None: none in 50 years.

    Where clocks change, as in Vixie's cron: an hour that is left out is made up for, one that comes twice counts once.
    """
    begin = datetime.fromtimestamp(after_ns // _SECOND_NS, tz=ZoneInfo(zone))
    at = next(CronSim(cron, begin), None)
    return int(at.timestamp()) * _SECOND_NS if at is not None else None


def cron_problem(cron: str) -> str | None:
    """What is wrong with a cron expression of five fields, in words; None for nothing."""
    if len(cron) > _EXPRESSION_CHARS_MAX:
        return f"is longer than {_EXPRESSION_CHARS_MAX} characters"
    fields = len(cron.split())
    if fields != _FIELDS:
        return f"has {fields} field{'s' if fields != 1 else ''}, not minute, hour, day of month, month and day of week"
    try:
        found = next(CronSim(cron, datetime(2026, 1, 1)), None)  # noqa: DTZ001  # any start will do, in any zone
    except CronSimError as error:
        return f"cannot be read: {str(error)[:1].lower()}{str(error)[1:]}"
    except (ValueError, TypeError, AssertionError):
        return "cannot be read"
    return None if found is not None else "names no date of the next fifty years"
