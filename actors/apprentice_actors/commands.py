"""What a task's supervisor is told (commands) and what it sets going (effects): frozen values, no behaviour.

A command says what happened outside since the last decision; an effect says what shall happen next. Everything that
decisions need comes in with the command: the coin is in :class:`Request`, the time is an argument.
"""

from typing import Literal

import msgspec

from apprentice_events.vocabulary import AdapterTrained, BudgetReserved, DatasetStatistics, Digest, TokenUsage

type Role = Literal["champion", "rival"]
type Purpose = Literal["serve", "audit", "repeat"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as decisions see it. ``coin`` was drawn uniformly from [0, 1) on arrival."""

    id: str
    input: Digest
    coin: float
    draw: float = 0.0
    """Uniform from [0, 1) as well: which of several weighted teachers is asked first."""
    key: str | None = None
    tags: tuple[str, ...] = ()
    holdout: bool = False
    received_ns: int = 0


class LocalOk(msgspec.Struct, frozen=True, kw_only=True):
    """A local answer that passed the validation gate."""

    output: Digest
    p_agree: float
    latency_ms: float
    cost_nd: int = 0
    novelty: float | None = None


class LocalBad(msgspec.Struct, frozen=True, kw_only=True):
    """No usable local answer: the model failed, or the gate turned its answer down."""

    kind: Literal["failed", "rejected"]
    reason: str


class RemoteOk(msgspec.Struct, frozen=True, kw_only=True):
    """A remote answer that passed the validation gate."""

    output: Digest
    model: str
    cost_nd: int
    usage: TokenUsage
    latency_ms: float
    teachable: bool = True
    """Whether the provider's terms, as configured, let it become an example."""


class RemoteBad(msgspec.Struct, frozen=True, kw_only=True):
    """A remote call without a usable answer; ``cost_nd`` is what it is charged at."""

    kind: str
    reason: str
    cost_nd: int


# ---------------------------------------------------------------- commands


class Submit(msgspec.Struct, frozen=True, kw_only=True):
    """A new request."""

    request: Request


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """The treasury set the money aside; ``local`` is the answer in hand, if one is."""

    request: Request
    reservation: BudgetReserved
    provider: str
    model: str
    purpose: Purpose
    hedge: bool = False
    local: LocalOk | LocalBad | None = None
    version: str | None = None


class ReservationRefused(msgspec.Struct, frozen=True, kw_only=True):
    """No money: why, in words, and when the cap's window reopens (ISO 8601; empty where no cap is to blame)."""

    request: Request
    attempt: int
    purpose: Purpose
    reason: str
    reopens: str
    error: Literal["BudgetExhausted", "RemoteUnavailable", "TaskIsolated"] = "BudgetExhausted"
    local: LocalOk | LocalBad | None = None
    version: str | None = None


class LocalReturned(msgspec.Struct, frozen=True, kw_only=True):
    """A local version is done with a request."""

    request: Request
    version: str
    role: Role
    outcome: LocalOk | LocalBad
    shadow: bool = False


class RemoteReturned(msgspec.Struct, frozen=True, kw_only=True):
    """The remote model is done with a request. ``expired``: its deadline leaves no time for another attempt."""

    request: Request
    attempt: int
    outcome: RemoteOk | RemoteBad
    teacher: str = ""
    alternatives: int = 0
    """Other teachers that could be asked now."""
    expired: bool = False


class HedgeDue(msgspec.Struct, frozen=True, kw_only=True):
    """The call has been out for longer than a second one is waited with."""

    request: Request
    attempt: int


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluator compared the answers."""

    request: Request
    score: float
    chance: float
    rival_score: float | None = None


class ScoringFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluator raised."""

    request: Request
    reason: str


class RepeatScored(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluator compared a teacher's two answers. ``score`` None: it raised, and ``reason`` says what."""

    request: Request
    score: float | None
    reason: str = ""


class TrainingBegan(msgspec.Struct, frozen=True, kw_only=True):
    """The dataset is written and the trainer works."""

    job: str
    rows_train: int
    rows_holdout: int
    dataset: str
    statistics: DatasetStatistics = DatasetStatistics()


class TrainingMoved(msgspec.Struct, frozen=True, kw_only=True):
    """The trainer reports progress."""

    job: str
    fraction: float
    message: str


class TrainingDone(msgspec.Struct, frozen=True, kw_only=True):
    """A version was made."""

    trained: AdapterTrained


class TrainingBroke(msgspec.Struct, frozen=True, kw_only=True):
    """No version was made. ``interrupted``: the runtime stopped, the training did nothing wrong."""

    job: str
    version: str
    reason: str
    interrupted: bool = False


class HeldOutRow(msgspec.Struct, frozen=True, kw_only=True):
    """Scores on one held-out row: of the candidate, and of the incumbent or the untrained base, if there is one."""

    candidate: float
    incumbent: float | None
    tags: tuple[str, ...] = ()


class ValidationDone(msgspec.Struct, frozen=True, kw_only=True):
    """Candidate and incumbent answered the held-out rows through the same server.

    ``base`` names the untrained base model, where that stood in for the incumbent that a first version does not have.
    """

    version: str
    incumbent: str | None
    base: str | None = None
    rows: tuple[HeldOutRow, ...]


class ValidationBroke(msgspec.Struct, frozen=True, kw_only=True):
    """The candidate could not be loaded or asked."""

    version: str
    reason: str


class CorrectionGiven(msgspec.Struct, frozen=True, kw_only=True):
    """A person gave the right answer for a past request."""

    request: str
    input: Digest
    output: Digest
    author: str | None
    holdout: bool
    tags: tuple[str, ...]


class FeedbackGiven(msgspec.Struct, frozen=True, kw_only=True):
    """A person rated a past answer."""

    request: str
    rating: float
    comment: Digest | None


class OperatorAsked(msgspec.Struct, frozen=True, kw_only=True):
    """A person wants something done; ``version`` None: the challenger to promote, the champion before to go back to."""

    action: Literal["train", "promote", "rollback", "retire", "reinforce"]
    version: str | None = None
    reason: str = "the operator asked"


class EraseAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``bodies`` shall go; ``versions`` were trained, or are being trained, on it."""

    request: str
    bodies: tuple[Digest, ...]
    versions: tuple[str, ...]
    reason: str


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """Look at the standing rules again (sent at start and after a changed configuration)."""


class TimePassed(msgspec.Struct, frozen=True, kw_only=True):
    """The clock moved on, and by it something may have become due."""


class TeacherNoticed(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's model list was read: what it announces about a teacher, None for nothing."""

    teacher: str
    notice: str | None


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """The purse asks for another speed of audits: ``factor`` in [0, 1] on what lies above the floor, and why."""

    factor: float
    reason: str


type ScoreCommand = Scored | ScoringFailed | RepeatScored
type RequestCommand = Submit | HedgeDue | Reserved | ReservationRefused | LocalReturned | RemoteReturned | ScoreCommand
type TrainingCommand = TrainingBegan | TrainingMoved | TrainingDone | TrainingBroke | ValidationDone | ValidationBroke
type PersonCommand = CorrectionGiven | FeedbackGiven | OperatorAsked | EraseAsked | Review
type WorldCommand = TimePassed | TeacherNoticed | Paced
type Command = RequestCommand | TrainingCommand | PersonCommand | WorldCommand


# ---------------------------------------------------------------- effects


class Reserve(msgspec.Struct, frozen=True, kw_only=True):
    """Choose a teacher and ask the treasury for the highest possible price of the call."""

    request: Request
    attempt: int
    purpose: Purpose
    hedge: bool = False
    local: LocalOk | LocalBad | None = None
    version: str | None = None
    teacher: str | None = None
    """Who must be asked; None: whoever is next."""


class AskLocal(msgspec.Struct, frozen=True, kw_only=True):
    """Ask a local version; in the shadow where the remote answers the caller whatever it says."""

    request: Request
    version: str
    role: Role
    shadow: bool = False


class CallRemote(msgspec.Struct, frozen=True, kw_only=True):
    """Make the paid call that the log already announces."""

    request: Request
    attempt: int
    teacher: str
    repeat: bool = False


class Hedge(msgspec.Struct, frozen=True, kw_only=True):
    """Come back after ``after_s`` seconds and see whether the call has answered."""

    request: Request
    attempt: int
    after_s: float


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Have the evaluator compare what both models said."""

    request: Request


class ScoreRepeat(msgspec.Struct, frozen=True, kw_only=True):
    """Have the evaluator compare the teacher's two answers."""

    request: Request


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Give the caller the answer of ``by``."""

    request: str
    by: Literal["remote", "local"]


class ReplyError(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the caller that there is no answer. ``error`` names a class of the public error tree."""

    request: str
    error: str
    reason: str
    reopens: str = ""


class StartTraining(msgspec.Struct, frozen=True, kw_only=True):
    """Build the dataset from the log and train."""

    job: str
    version: str
    parent: str | None


class Validate(msgspec.Struct, frozen=True, kw_only=True):
    """Have candidate and incumbent answer the held-out rows."""

    version: str
    incumbent: str | None


class LoadVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Have the local server hold a version."""

    version: str


class DropVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Unload a version once its requests are done; ``delete`` removes its folder too."""

    version: str
    delete: bool = False


class SweepVersions(msgspec.Struct, frozen=True, kw_only=True):
    """Delete what is left on disk of versions that are not kept: a crash may have come before it."""

    versions: tuple[str, ...]


type Effect = (
    Reserve
    | AskLocal
    | CallRemote
    | Hedge
    | Score
    | ScoreRepeat
    | Reply
    | ReplyError
    | StartTraining
    | Validate
    | LoadVersion
    | DropVersion
    | SweepVersions
)
