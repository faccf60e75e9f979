"""One simulated task judged against its truth: what was promised, what was noticed, what others would have said.

*False certificate*: one issued while the true mean risk over the evidence so far is epsilon or more. The mean is that
of the step's answers since the evidence began, each request weighted by the audit rate at its coin, as the promise
reads. *Innocent* audits are those of a stretch of serving in which the risk of what was served never passed epsilon;
an alarm there is false. *Delay* counts the answers served locally from the change to the alarm, and the audits among
them.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import msgspec

from apprentice_events import vocabulary as v
from benchmarks.guarantee_rivals import CERTIFIERS, monitors
from benchmarks.guarantee_worlds import EPSILON, TaskWorld, expected_audits, make_task
from benchmarks.policy_sim import play
from benchmarks.policy_world import Note, Played, Told

TOLERANCE = 1e-9
"""Rounding of sums of floats; a mean risk within it of epsilon counts as epsilon."""
DROP_MIN = 0.02
"""The least drop under the guarantee, at the gate in force, that the delay is measured for."""


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """From a change for the worse to the alarm. Counts are of answers served locally; None: no alarm came."""

    drop: float
    """How far what is served lies under the guarantee after the change."""
    rate: float
    """The audit rate at the change."""
    served: int | None
    audits: int | None
    expected_audits: float

    @property
    def expected_served(self) -> float:
        """What the formula gives at the rate of the change."""
        return self.expected_audits / self.rate


class Rival(msgspec.Struct, kw_only=True):
    """What another method made of the same task."""

    false_certificate: bool = False
    certified: bool = False
    innocent_audits: int = 0
    false_alarms: int = 0
    served: int | None = None
    """Answers served locally from the change to its alarm; None: none came."""
    watched: int = 0
    """Answers that it could have seen after the change."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One task."""

    family: str
    number: int
    requests: int
    certificates: int
    false_certificates: int
    graduated: bool
    local: int
    """Answers served locally."""
    risk: float
    """Sum of their true risks."""
    below: int
    """How many of them were served while the mean risk at the gate was over epsilon."""
    audits: int
    """Compared pairs of answers served locally."""
    innocent_audits: int
    false_demotions: int
    false_drifts: int
    """False alarms of the slow detector, which start coaching."""
    delay: Delay | None
    until_alarm: int | None
    """Answers served locally from the change to the demotion; None: none came. 0 where nothing was served then."""
    noticed: int | None
    """The same to the first sign: coaching, drift or demotion."""
    rivals: dict[str, Rival]


class Served(NamedTuple):
    """An answer served locally, as a monitor would meet it: its request, and the true mean risk at the gate."""

    at: int
    audited: bool
    loss: float
    risk: float


def judge(family: str, number: int) -> Finding:
    """Play one task and judge it."""
    world = make_task(family, number)
    change = world.course.change

    def enough(note: Note) -> bool:
        return change is not None and note.at >= change and isinstance(note.event, v.CertificateRevoked)

    played = play(world.settings(), world, len(world.course.levels), enough=enough)
    served = [_served(world, index, told) for index, told in enumerate(played.told) if told.served == "local"]
    innocent, demotions, drifts = _false_alarms(played, served)
    issued = list(_certificates(world, played))
    return Finding(
        family=family,
        number=number,
        requests=len(played.told),
        certificates=len(issued),
        false_certificates=sum(issued),
        graduated=bool(served),
        local=len(served),
        risk=sum(one.risk for one in served),
        below=sum(one.risk > EPSILON + TOLERANCE for one in served),
        audits=sum(one.audited for one in served),
        innocent_audits=innocent,
        false_demotions=demotions,
        false_drifts=drifts,
        delay=_delay(world, played, served),
        until_alarm=_served_until(world, played, served, (v.CertificateRevoked,)),
        noticed=_served_until(world, played, served, (v.CertificateRevoked, v.DriftDetected, v.CoachingStarted)),
        rivals=_rivals(world, played, served),
    )


def _served(world: TaskWorld, index: int, told: Told) -> Served:
    assert told.version is not None
    assert told.score is not None
    risk = world.risk(index, told.gate or 0.0, told.version)
    return Served(index, told.compared, 1.0 - told.score, risk)


# ---------------------------------------------------------------- certificates


def _certificates(world: TaskWorld, played: Played) -> Iterator[bool]:
    """For each certificate whether it is false."""
    asked = sorted((told.turn, index) for index, told in enumerate(played.told) if told.turn)
    begun = 0
    for note in played.notes:
        if isinstance(note.event, v.EvidenceRestarted):
            begun = note.turn
        elif isinstance(note.event, v.CertificateIssued):
            turns = [index for turn, index in asked if begun < turn <= note.turn]
            yield mean_risk(world, played, turns, note.event.gate) >= EPSILON - TOLERANCE


def mean_risk(world: TaskWorld, played: Played, indices: list[int], gate: float) -> float:
    """True mean risk of a step over these requests, each weighted by the audit rate at its coin."""
    weight = total = 0.0
    for index in indices:
        told = played.told[index]
        if told.p_agree is not None and told.version is not None and told.p_agree >= gate:
            weight += told.rate
            total += told.rate * world.risk(index, gate, told.version)
    return total / weight if weight else 1.0


# ---------------------------------------------------------------- alarms


def _false_alarms(played: Played, served: list[Served]) -> tuple[int, int, int]:
    """Innocent audits, and the demotions and the alarms of the slow detector in innocent stretches."""
    innocent, audits, demotions, drifts = True, 0, 0, 0
    waiting = iter([*served, None])
    one = next(waiting)
    for note in [*played.notes, None]:
        while one is not None and (note is None or one.at <= note.at):
            innocent = innocent and one.risk <= EPSILON + TOLERANCE
            audits += innocent and one.audited
            one = next(waiting)
        match note.event if note is not None else None:
            case v.CertificateRevoked():
                demotions += innocent
            case v.DriftDetected():
                drifts += innocent
            case v.PhaseChanged(after="steady_state"):
                innocent = True
    return audits, demotions, drifts


def _delay(world: TaskWorld, played: Played, served: list[Served]) -> Delay | None:
    """The delay of the demotion after a change at once; None where nothing under the guarantee was served then."""
    change = world.course.change
    after = [one for one in served if change is not None and one.at >= change]
    if change is None or not after or after[0].at > change + 20 or after[0].risk - EPSILON < DROP_MIN:
        return None
    alarm = next((at for at, _ in played.events(v.CertificateRevoked) if at >= change), None)
    before = [one for one in after if alarm is not None and one.at <= alarm]
    drop = after[0].risk - EPSILON
    return Delay(
        drop=drop,
        rate=played.told[after[0].at].rate,
        served=len(before) if alarm is not None else None,
        audits=sum(one.audited for one in before) if alarm is not None else None,
        expected_audits=expected_audits(drop),
    )


def _served_until(
    world: TaskWorld, played: Played, served: list[Served], signs: tuple[type[v.Event], ...]
) -> int | None:
    """Answers served locally from the change to the first of these events."""
    change = world.course.change
    if change is None or not served or served[-1].at < change:
        return 0
    for note in played.notes:
        if note.at >= change and isinstance(note.event, signs):
            return sum(change <= one.at <= note.at for one in served)
    return None


# ---------------------------------------------------------------- rivals


def _rivals(world: TaskWorld, played: Played, served: list[Served]) -> dict[str, Rival]:
    found: dict[str, Rival] = {}
    _certify(world, played, found)
    trace = [*served, *_continued(world, played)]
    for name, make in monitors().items():
        rival, monitor, innocent = found.setdefault(name, Rival()), make(), True
        change = world.course.change
        for one in trace:
            innocent = innocent and one.risk <= EPSILON + TOLERANCE
            changed = change is not None and one.at >= change
            rival.watched += changed
            if not one.audited:
                continue
            rival.innocent_audits += innocent
            if monitor.update(one.loss):
                monitor = make()
                rival.false_alarms += innocent
                if changed:
                    rival.served = rival.watched
                    break
    return found


def _certify(world: TaskWorld, played: Played, found: dict[str, Rival]) -> None:
    """Certifiers see what was compared before graduation: all answers, at one step, so that none is tried twice."""
    asked = sorted(
        (told.turn, index) for index, told in enumerate(played.told) if told.turn and told.phase == "reinforcement"
    )
    indices = [index for _, index in asked if played.told[index].score is not None]
    risks = [world.risk(index, 0.0, played.told[index].version or "") for index in indices]
    sums = [0.0, *accumulate(risks)]
    for name, make in CERTIFIERS.items():
        rival, certifier = found.setdefault(name, Rival()), make()
        reach = 100 if name == "rolling mean" else len(indices)
        for place, index in enumerate(indices, 1):
            if certifier.update(1.0 - (played.told[index].score or 0.0)):
                first = max(0, place - reach)
                rival.certified = True
                if (sums[place] - sums[first]) / (place - first) >= EPSILON - TOLERANCE:
                    rival.false_certificate = True
                    break


def _continued(world: TaskWorld, played: Played) -> Iterator[Served]:
    """What would have been served after the alarm that ended the play, at the gate and the rate of its moment."""
    last = next((told for told in reversed(played.told) if told.served == "local"), None)
    if world.course.change is None or last is None or last.version is None:
        return
    gate = last.gate or 0.0
    for index in range(len(played.told), len(world.course.levels)):
        if world.confidences[index] >= gate:
            loss = 0.0 if world.agrees(index, last.version) else 1.0
            yield Served(index, world.coins[index] < last.rate, loss, world.risk(index, gate, last.version))
