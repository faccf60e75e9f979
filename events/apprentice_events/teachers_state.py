"""What the log knows of a task's remote models: folded by ``task_state``. Pure."""

import msgspec

from . import vocabulary as v
from .evidence import Tally


class TeacherState(msgspec.Struct, kw_only=True):
    """Totals of one teacher since the beginning of the log."""

    calls: int = 0
    answers: int = 0
    """Those that passed the validation gate."""
    failures: int = 0
    spent_nd: int = 0
    """What its calls were charged at, those included that a crash left without an end."""
    withheld: int = 0
    """Answers that may not be trained on."""
    reported: str | None = None
    """The model name that its answers carry, as the provider writes it."""
    notice: str = ""
    """What its provider announces about it; empty for nothing."""
    repeats: Tally = msgspec.field(default_factory=Tally)
    """How far it agrees with itself on questions that were asked twice, since it answers under its present name."""


class TeachersState(msgspec.Struct, kw_only=True):
    """All teachers of a task, by ``provider/model`` of the configuration."""

    known: dict[str, TeacherState] = msgspec.field(default_factory=dict)
    change: str | None = None
    """A teacher that became another one, or is about to end, since the evidence began; in words."""
    repeats_missed: int = 0
    """Questions that were to be asked twice and stayed without a second answer."""

    def of(self, name: str) -> TeacherState:
        """What is known of a teacher, made on first use."""
        found = self.known.get(name)
        if found is None:
            found = self.known[name] = TeacherState()
        return found

    def answered(self, name: str, model: str) -> None:
        """An answer of ``name``, given by what its provider calls ``model``."""
        teacher = self.of(name)
        teacher.answers += 1
        if teacher.reported not in (None, model):
            self.change = f"{name} answers as {model}, before as {teacher.reported}"
            teacher.repeats = Tally()
        teacher.reported = model

    def noticed(self, name: str, notice: str) -> None:
        """Its provider announces something about ``name``, or with an empty ``notice`` nothing any more."""
        self.of(name).notice = notice
        if notice:
            self.change = f"{name} {notice}"

    def repeated(self, event: v.SelfAgreementMeasured | v.SelfAgreementMissed) -> None:
        """A question was asked twice. Weighted by ``1 / q``, so that the mean speaks of requests, not of audits."""
        if isinstance(event, v.SelfAgreementMissed):
            self.repeats_missed += 1
        else:
            self.of(event.teacher).repeats.add(event.score, 1.0 / event.audit_probability)
