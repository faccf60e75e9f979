"""What a person does with versions: make ready what an intervention needs, and compare versions on held-out rows."""

import msgspec

from apprentice.errors import CallerError, LocalUnavailable
from apprentice_actors import commands as c
from apprentice_actors.lessons_effects import LOAD_S, compare_held_out, load
from apprentice_actors.local import Drop, NameBase
from apprentice_actors.operating import objection, target
from apprentice_actors.policy.promotion import judge_held_out
from apprentice_actors.ports import LocalFailure
from apprentice_actors.task import TaskSupervisor
from apprentice_events.versions_state import VersionsState
from apprentice_events.vocabulary import SliceScore

BASE = "base"
"""The name by which a person means the untrained base model."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions on the same held-out rows; or one alone, where there is nothing to compare it with."""

    version: str
    against: str | None
    untrained: bool
    """Whether ``against`` is the base model as it was before any training."""
    rows: int
    score: float
    against_score: float | None
    accepted: bool
    """Whether the rules of promotion would let ``version`` challenge ``against``."""
    reason: str
    slices: tuple[SliceScore, ...]


async def prepare(supervisor: TaskSupervisor, command: c.OperatorAsked) -> str | None:
    """Why nothing can follow from the command; else None, with the version that is to serve loaded and warm.

    Raises :class:`LocalUnavailable` where it cannot be loaded.
    """
    refused = objection(supervisor.state, command)
    version = target(supervisor.state, command)
    if refused is None and version is not None and command.action in ("promote", "rollback"):
        await _loaded(supervisor, version)
    return refused


async def compare(supervisor: TaskSupervisor, version: str | None, against: str | None) -> Comparison:
    """Let both answer the held-out rows now. The log has nothing of it.

    ``version`` is the challenger or the champion unless it is named, ``against`` the champion, or for the champion
    itself the untrained base or the champion before. Raises :class:`CallerError`, :class:`LocalUnavailable`.
    """
    task, versions = supervisor.spec.name, supervisor.state.versions
    challenger = versions.rival if versions.rival_role == "challenger" else None
    version = version or challenger or versions.champion
    if version is None:
        raise CallerError(f"{task} has no version yet; `apprentice distill train {task}` makes one")
    base: str | None = await supervisor.ports.local.ask(lambda reply: NameBase(reply=reply), LOAD_S)
    if against == BASE and base is None:
        raise CallerError(f"the local model of {task} has no untrained base to compare with; name a version")
    other = base if against == BASE else against or _opponent(versions, version, base)
    asked = [name for name in (version, other) if name is not None and name != base]
    for name in asked:
        _check_kept(versions, name)
        await _loaded(supervisor, name)
    try:
        rows = await compare_held_out(supervisor, version, other)
    except LocalFailure as error:
        raise LocalUnavailable(f"{task}: {error}") from error
    finally:
        for name in asked:
            if name not in (versions.champion, versions.rival, versions.candidate):
                supervisor.ports.local.tell(Drop(version=name))
    verdict = judge_held_out(rows, supervisor.spec.settings.must_pass, untrained=other is not None and other == base)
    return Comparison(
        version=version,
        against=other,
        untrained=other is not None and other == base,
        rows=len(rows),
        score=verdict.score,
        against_score=verdict.incumbent_score,
        accepted=verdict.accepted,
        reason=verdict.reason,
        slices=verdict.slices,
    )


def _opponent(versions: VersionsState, version: str, base: str | None) -> str | None:
    if version != versions.champion:
        return versions.champion
    kept = versions.kept()
    before = next((name for name in reversed(versions.history) if name in kept and name != version), None)
    return base or before


def _check_kept(versions: VersionsState, version: str) -> None:
    if version not in versions.kept():
        kept = ", ".join(versions.kept()) or "none"
        raise CallerError(f"{version} is not among the versions that are kept ({kept})")


async def _loaded(supervisor: TaskSupervisor, version: str) -> None:
    try:
        await load(supervisor, version)
    except (LocalFailure, TimeoutError) as error:
        raise LocalUnavailable(f"{version} cannot take over: {error}") from error
