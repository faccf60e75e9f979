"""The decisions about what a person asks for: train, promote, roll back, retire, let the remote answer again. Pure.

What makes no sense now is recorded with the reason and has no other consequence.
"""

from collections.abc import Callable

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState
from apprentice_events.versions_state import VersionsState

from . import commands as c
from .decision import Decision
from .epochs import restarted
from .lessons import trigger
from .settings import TaskSettings


def operator_asked(state: TaskState, settings: TaskSettings, command: c.OperatorAsked, now_ns: int) -> Decision:
    """A person intervenes."""
    version, refused = target(state, command), objection(state, command)
    acted = v.OperatorActed(action=command.action, detail=version or "", refused=refused or "")
    if refused is not None:
        return Decision((acted,))
    followed = _DEEDS[command.action](state, settings, version or "", command.reason)
    return Decision((acted, *followed.events), followed.effects)


def target(state: TaskState, command: c.OperatorAsked) -> str | None:
    """The version that is meant: the one that is named; else the challenger, or the champion before this one."""
    versions = state.versions
    if command.version is not None:
        return command.version
    if command.action == "promote" and versions.rival_role == "challenger":
        return versions.rival
    if command.action == "rollback":
        return _earlier_champion(versions)
    return None


def objection(state: TaskState, command: c.OperatorAsked) -> str | None:
    """Why nothing can follow from the command now, in words; None where something does."""
    if command.action == "train":
        return _no_training(state)
    if command.action == "reinforce":
        there = state.phase == "steady_state"
        return None if there else f"{state.task} is in {state.phase}: the remote model answers everything already"
    return _no_target(state.versions, command, target(state, command))


def _no_training(state: TaskState) -> str | None:
    versions = state.versions
    if versions.job is not None:
        return f"{versions.job.version} is being trained; wait until it is done"
    if versions.candidate is not None:
        return f"{versions.candidate} is being validated; wait until it is done"
    if state.examples == 0:
        return f"{state.task} has no examples to train on yet"
    return None


def _no_target(versions: VersionsState, command: c.OperatorAsked, version: str | None) -> str | None:
    if version is None:
        what = {"promote": "there is no challenger", "rollback": "no earlier champion is kept"}
        return f"{what.get(command.action, 'no version is named')}; {_kept_in_words(versions)}"
    if version not in versions.kept():
        known = versions.known.get(version)
        why = f"is not kept: it is {known.status}" if known is not None else "is not known"
        return f"{version} {why}; {_kept_in_words(versions)}"
    if version == versions.candidate:
        return f"{version} is being validated; wait until it is done"
    if version != versions.champion:
        return None if versions.champion is not None or command.action != "rollback" else "there is no champion yet"
    if command.action == "retire":
        return f"{version} is the champion; promote another version first"
    return f"{version} is the champion already"


def _kept_in_words(versions: VersionsState) -> str:
    return f"kept are: {', '.join(versions.kept()) or 'none'}"


def _earlier_champion(versions: VersionsState) -> str | None:
    """The newest one that served before the champion, is kept and was not rolled back itself."""
    usable = [name for name in versions.kept() if versions.known[name].status in ("standby", "rival")]
    return next((name for name in reversed(versions.history) if name in usable), None)


# ---------------------------------------------------------------- what follows


def _train(state: TaskState, settings: TaskSettings, version: str, reason: str) -> Decision:
    triggered, start = trigger(state, "manual")
    return Decision((triggered,), (start,))


def _promote(state: TaskState, settings: TaskSettings, version: str, reason: str) -> Decision:
    promoted = v.AdapterPromoted(version=version, before=state.versions.champion, reason=reason)
    return Decision((promoted,), (c.LoadVersion(version=version),))


def _roll_back(state: TaskState, settings: TaskSettings, version: str, reason: str) -> Decision:
    champion = state.versions.champion
    assert champion is not None, "objected to before"
    back = v.AdapterRolledBack(version=champion, to=version, reason=reason)
    return Decision((back,), (c.LoadVersion(version=version), c.DropVersion(version=champion)))


def _retire(state: TaskState, settings: TaskSettings, version: str, reason: str) -> Decision:
    retired = v.AdapterRetired(version=version, reason=reason)
    return Decision((retired,), (c.DropVersion(version=version, delete=True),))


def _reinforce(state: TaskState, settings: TaskSettings, version: str, reason: str) -> Decision:
    revoked = v.CertificateRevoked(gate=None, epoch=state.evidence.epoch, reason=reason)
    return Decision((revoked, restarted(state, settings, reason)))


_DEEDS: dict[str, Callable[[TaskState, TaskSettings, str, str], Decision]] = {
    "train": _train,
    "promote": _promote,
    "rollback": _roll_back,
    "retire": _retire,
    "reinforce": _reinforce,
}
