"""Every event the system can record: facts in the past tense, frozen, with tags that outlive module paths.

Money is integer nano-dollars (``*_nd``), durations are milliseconds (``*_ms``), probabilities and scores lie in
[0, 1]. Bodies (inputs, outputs) never stand in an event: a field named ``input`` or ``output`` holds the hex digest
under which :mod:`apprentice_events.bodies` keeps the content, so content can be erased and the chain still verifies.

Schema evolution: a new field gets a default; a changed meaning raises ``SCHEMA[tag]`` and adds an upcaster to
:mod:`apprentice_events.codec`.
"""

from typing import ClassVar, Literal

import msgspec

type Phase = Literal["cold_start", "reinforcement", "steady_state"]
type Digest = str
type Route = Literal["remote", "remote_with_shadow", "local_first"]
type Server = Literal["remote", "local"]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A fact. ``TAG`` is its stable name in the log, ``SCHEMA`` the version of its meaning."""

    TAG: ClassVar[str] = ""
    SCHEMA: ClassVar[int] = 1


EVENTS: dict[str, type[Event]] = {}


def recorded[E: type[Event]](cls: E) -> E:
    """Register an event class under its ``TAG``; a tag can be taken once."""
    assert cls.TAG, f"{cls.__name__} has no TAG"
    assert cls.TAG not in EVENTS, f"the tag {cls.TAG!r} is taken by {EVENTS[cls.TAG].__name__}"
    EVENTS[cls.TAG] = cls
    return cls


# ---------------------------------------------------------------- request


@recorded
class RequestReceived(Event, frozen=True, kw_only=True):
    """A caller asked for an answer; the input passed the task's schema."""

    TAG = "request_received"
    request: str
    input: Digest
    key: str | None = None
    tags: tuple[str, ...] = ()
    holdout: bool = False
    """Whether the hash of the normalised input puts this request into the held-out split (never trained on)."""


@recorded
class RequestRouted(Event, frozen=True, kw_only=True):
    """Which way the request went and why.

    ``turn`` numbers the requests that a local version is asked about (0: none is), in the order of the log; the
    coin was drawn when the request came in, before any answer existed.
    """

    TAG = "request_routed"
    request: str
    route: Route
    phase: Phase
    reason: str
    turn: int
    audit_probability: float = 1.0
    """The audit rate in force when the coin was tossed."""
    audit: bool = True
    """Whether both models' answers shall be compared: the coin said so, or the remote is asked anyway."""
    version: str | None = None
    """The local version that is asked, if one is."""
    gate: float | None = None
    """The gate step in force (answers with ``p_agree`` at or above it may be served), if one is certified."""
    inline: bool = False
    """Whether the caller waits for the audit: the local answer clears the gate, the remote's is given if it comes."""


@recorded
class ResponseServed(Event, frozen=True, kw_only=True):
    """The caller has the answer."""

    TAG = "response_served"
    request: str
    by: Server
    output: Digest
    latency_ms: float
    degraded: str | None = None
    """Why the answer is of less than the promised quality, in words; None for an ordinary answer."""
    saved_nd: int = 0
    """For a local answer: what the remote would have charged (the task's mean price of a remote answer so far)."""


@recorded
class RequestFailed(Event, frozen=True, kw_only=True):
    """The caller got an error; the same key may be submitted again."""

    TAG = "request_failed"
    request: str
    error: str
    reason: str


@recorded
class RequestRecovered(Event, frozen=True, kw_only=True):
    """After a crash a dangling request was closed as unknown; its reservation was charged in full."""

    TAG = "request_recovered"
    request: str
    charged_nd: int
    reason: str


# ---------------------------------------------------------------- remote


@recorded
class RemoteCallIntended(Event, frozen=True, kw_only=True):
    """A paid call is about to be made; it stands in the log before the first byte is sent."""

    TAG = "remote_call_intended"
    request: str
    attempt: int
    provider: str
    model: str
    purpose: Literal["serve", "audit", "repeat"] = "serve"
    """``repeat``: the question was answered already, and is asked again to see whether the teacher repeats itself."""
    hedge: bool = False
    """Whether it runs beside an earlier call of the same request that is slow to answer."""
    rival: str | None = None
    """The version that is asked beside the champion, to be compared on the same request."""
    repeat: bool = False
    """Whether the same question is asked once more after this call has answered; the coin said so on arrival."""


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Tokens as counted by the provider, cache reads and writes apart from the uncached input."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    """Contained in ``output_tokens``; here for the report."""


@recorded
class RemoteAnswered(Event, frozen=True, kw_only=True):
    """The remote model's answer passed the validation gate."""

    TAG = "remote_answered"
    request: str
    attempt: int
    model: str
    """As the provider reports it."""
    output: Digest
    cost_nd: int
    provider: str = ""
    """The teacher that was asked, as ``provider/model`` of the configuration."""
    usage: TokenUsage
    latency_ms: float


@recorded
class RemoteFailed(Event, frozen=True, kw_only=True):
    """A remote call ended without a usable answer. ``cost_nd`` is what it is charged at."""

    TAG = "remote_failed"
    request: str
    attempt: int
    kind: str
    reason: str
    provider: str = ""
    cost_nd: int = 0
    counts_as_disagreement: bool = False
    """True for refusals and invalid answers; False for what says nothing about the student (network, 429, budget)."""
    final: bool = True
    """False where another attempt follows."""


@recorded
class TeacherNoticed(Event, frozen=True, kw_only=True):
    """A provider announces the end of a teacher, or takes the announcement back."""

    TAG = "teacher_noticed"
    teacher: str
    """``provider/model`` of the configuration."""
    notice: str
    """In words that follow the teacher's name; empty: nothing is announced any more."""


@recorded
class AuditMissed(Event, frozen=True, kw_only=True):
    """A comparison whose coin fell on audit did not come about (network, 429, budget, local failure)."""

    TAG = "audit_missed"
    request: str
    turn: int
    reason: str


# ---------------------------------------------------------------- local


@recorded
class LocalAnswered(Event, frozen=True, kw_only=True):
    """The local model's answer passed the validation gate."""

    TAG = "local_answered"
    request: str
    version: str
    output: Digest
    p_agree: float
    """The local model's calibrated probability that the remote would agree."""
    latency_ms: float
    challenger: bool = False
    shadow: bool = False
    cost_nd: int = 0
    """Local compute, where the configuration prices it."""
    novelty: float | None = None
    """Share of the training inputs that lie closer to another one than this input does to any of them: near 1 for an
    input unlike all of them. None where the local model does not say."""


@recorded
class LocalFailed(Event, frozen=True, kw_only=True):
    """The local model gave no answer."""

    TAG = "local_failed"
    request: str
    version: str
    reason: str
    challenger: bool = False
    shadow: bool = False


@recorded
class LocalRejected(Event, frozen=True, kw_only=True):
    """The validation gate turned the local answer down."""

    TAG = "local_rejected"
    request: str
    version: str
    reason: str
    challenger: bool = False
    shadow: bool = False


# ---------------------------------------------------------------- evidence


@recorded
class RemoteScored(Event, frozen=True, kw_only=True):
    """The evaluator compared the local answer with the remote one."""

    TAG = "remote_scored"
    request: str
    turn: int
    version: str
    score: float
    chance: float
    """Mean score of the local answer against the (up to four) previous remote answers: agreement by chance."""
    p_agree: float
    audit_probability: float
    """With which this very comparison was bound to happen: the audit rate if the local answer was served, else 1."""
    served: Server
    challenger_version: str | None = None
    challenger_score: float | None = None
    tags: tuple[str, ...] = ()
    inline: bool = False
    """The caller got the remote answer only because this audit made it wait: the local one cleared the gate."""


@recorded
class SelfAgreementMeasured(Event, frozen=True, kw_only=True):
    """A teacher answered the same question twice, and the evaluator compared the two answers.

    A refusal or an invalid answer the second time scores 0.
    """

    TAG = "self_agreement_measured"
    request: str
    teacher: str
    """``provider/model`` of the configuration."""
    score: float
    audit_probability: float
    """With which the first answer was bought: the audit rate for an audited local answer, else 1."""


@recorded
class SelfAgreementMissed(Event, frozen=True, kw_only=True):
    """A repeated question stayed without a second answer (network, 429, budget), or could not be scored."""

    TAG = "self_agreement_missed"
    request: str
    reason: str


@recorded
class EvaluatorFailed(Event, frozen=True, kw_only=True):
    """The evaluator raised; the pair counts as a missed audit."""

    TAG = "evaluator_failed"
    request: str
    turn: int
    reason: str


@recorded
class CorrectionReceived(Event, frozen=True, kw_only=True):
    """A person said what the right answer is."""

    TAG = "correction_received"
    request: str
    output: Digest
    author: str | None = None


@recorded
class FeedbackReceived(Event, frozen=True, kw_only=True):
    """A person rated an answer; ``rating`` in [0, 1]."""

    TAG = "feedback_received"
    request: str
    rating: float
    comment: Digest | None = None


@recorded
class ExampleCollected(Event, frozen=True, kw_only=True):
    """A pair of input and target became training material."""

    TAG = "example_collected"
    request: str
    input: Digest
    output: Digest
    source: Literal["remote", "correction", "import"]
    weight: float = 1.0
    holdout: bool = False
    tags: tuple[str, ...] = ()


@recorded
class ExampleWithheld(Event, frozen=True, kw_only=True):
    """An answer that may not be trained on: its provider's terms are configured as forbidding it."""

    TAG = "example_withheld"
    request: str
    provider: str


@recorded
class ExamplesImported(Event, frozen=True, kw_only=True):
    """Examples from outside were taken in."""

    TAG = "examples_imported"
    count: int
    origin: str


# ---------------------------------------------------------------- judgement


@recorded
class EvidenceRestarted(Event, frozen=True, kw_only=True):
    """The certification processes start afresh. ``epoch`` j gets the share 6 alpha / (pi^2 j^2) of the error budget."""

    TAG = "evidence_restarted"
    epoch: int
    reason: str
    guarantee: float
    alpha: float
    """The share of the error budget that this epoch may spend over all its gate steps."""
    gates: tuple[float, ...]
    """The fixed grid of ``p_agree`` steps, tightest first."""
    window_size: int
    false_alarm_every: int
    """A: the detector raises at most one false alarm per A audits on average."""


@recorded
class PhaseChanged(Event, frozen=True, kw_only=True):
    """The task moved to another phase."""

    TAG = "phase_changed"
    before: Phase
    after: Phase
    reason: str


@recorded
class SamplingRateChanged(Event, frozen=True, kw_only=True):
    """The applied audit rate moved towards its target."""

    TAG = "sampling_rate_changed"
    before: float
    after: float
    target: float
    correlation: float | None
    reason: str


@recorded
class GateChanged(Event, frozen=True, kw_only=True):
    """The gate opened by one step or closed; None means closed for everything."""

    TAG = "gate_changed"
    before: float | None
    after: float | None
    reason: str


@recorded
class CertificateIssued(Event, frozen=True, kw_only=True):
    """A gate step's process passed its share of 1/alpha: agreement at or above the guarantee is certified there."""

    TAG = "certificate_issued"
    gate: float
    epoch: int
    log_wealth: float
    """Natural logarithm of the process."""
    log_threshold: float
    """What it had to reach, given the steps certified before it."""
    comparisons: int


@recorded
class CertificateRevoked(Event, frozen=True, kw_only=True):
    """Certificates from ``gate`` on (None: all) hold no longer."""

    TAG = "certificate_revoked"
    gate: float | None
    epoch: int
    reason: str


@recorded
class DriftDetected(Event, frozen=True, kw_only=True):
    """Agreement decays slowly."""

    TAG = "drift_detected"
    statistic: float
    threshold: float
    reason: str


@recorded
class ShiftDetected(Event, frozen=True, kw_only=True):
    """Agreement of audited answers fell suddenly."""

    TAG = "shift_detected"
    statistic: float
    threshold: float
    reason: str


@recorded
class CoachingStarted(Event, frozen=True, kw_only=True):
    """Every request is compared and training is triggered until the student is back."""

    TAG = "coaching_started"
    reason: str
    correlation: float | None


@recorded
class CoachingEnded(Event, frozen=True, kw_only=True):
    """Coaching is over."""

    TAG = "coaching_ended"
    reason: str


# ---------------------------------------------------------------- training


@recorded
class TrainingTriggered(Event, frozen=True, kw_only=True):
    """A training job was decided on; its data are the examples collected up to this event."""

    TAG = "training_triggered"
    job: str
    version: str
    parent: str | None
    cause: Literal["first", "batch", "coaching", "schedule", "max_wait", "manual"]
    examples: int


class DatasetStatistics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a dataset is made of: counts of rows, held-out ones included."""

    sources: dict[str, int] = {}
    """Rows per source: ``remote``, ``correction``, ``import``."""
    tags: dict[str, int] = {}
    """Rows per tag; of many tags the most frequent."""
    labels: dict[str, dict[str, int]] = {}
    """Rows per value of each output field with listed values."""
    fresh: int = 0
    """Rows that no version has been trained on before."""
    left_out: dict[str, int] = {}
    """Collected or withheld examples that are no rows, by the reason in words."""


@recorded
class TrainingStarted(Event, frozen=True, kw_only=True):
    """The trainer has the job."""

    TAG = "training_started"
    job: str
    rows_train: int
    rows_holdout: int
    dataset: str
    """sha256 of the dataset file."""
    statistics: DatasetStatistics = DatasetStatistics()


@recorded
class TrainingProgressed(Event, frozen=True, kw_only=True):
    """The trainer reported how far it is."""

    TAG = "training_progressed"
    job: str
    fraction: float
    message: str = ""


@recorded
class TrainingFailed(Event, frozen=True, kw_only=True):
    """The job ended without a version; its examples stay unused."""

    TAG = "training_failed"
    job: str
    version: str
    reason: str
    interrupted: bool = False
    """The process ended, not the training: it is tried again at once and is no strike against it."""


@recorded
class AdapterTrained(Event, frozen=True, kw_only=True):
    """A version exists on disk."""

    TAG = "adapter_trained"
    job: str
    version: str
    parent: str | None
    manifest: str
    """sha256 of the manifest, which holds the sha256 of every file."""
    examples: int
    seconds: float
    cost_nd: int = 0
    metrics: dict[str, float] = {}
    """What the trainer measured, such as ``agreement_holdout``."""


class SliceScore(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Mean scores on the held-out rows that carry one tag."""

    tag: str
    rows: int
    score: float
    incumbent_score: float | None = None


@recorded
class AdapterValidated(Event, frozen=True, kw_only=True):
    """The candidate beat or matched the incumbent on the held-out rows.

    Where a first version was compared with the untrained base model, ``incumbent`` names that.
    """

    TAG = "adapter_validated"
    version: str
    score: float
    incumbent: str | None
    incumbent_score: float | None
    rows: int
    reason: str
    slices: tuple[SliceScore, ...] = ()


@recorded
class AdapterRejected(Event, frozen=True, kw_only=True):
    """The candidate is not good enough; the incumbent stays."""

    TAG = "adapter_rejected"
    version: str
    score: float | None
    incumbent: str | None
    incumbent_score: float | None
    rows: int
    reason: str
    slices: tuple[SliceScore, ...] = ()


@recorded
class AdapterLoaded(Event, frozen=True, kw_only=True):
    """The local server holds the version, warmed up, as challenger or champion."""

    TAG = "adapter_loaded"
    version: str
    role: Literal["challenger", "champion"]


@recorded
class AdapterPromoted(Event, frozen=True, kw_only=True):
    """The version is the champion from here on."""

    TAG = "adapter_promoted"
    version: str
    before: str | None
    reason: str


@recorded
class AdapterRolledBack(Event, frozen=True, kw_only=True):
    """The champion was replaced by a predecessor."""

    TAG = "adapter_rolled_back"
    version: str
    to: str
    reason: str


@recorded
class AdapterRetired(Event, frozen=True, kw_only=True):
    """The version is no longer kept."""

    TAG = "adapter_retired"
    version: str
    reason: str


# ---------------------------------------------------------------- money


@recorded
class BudgetReserved(Event, frozen=True, kw_only=True):
    """The highest possible price of a call was set aside."""

    TAG = "budget_reserved"
    request: str
    attempt: int
    amount_nd: int


@recorded
class BudgetSettled(Event, frozen=True, kw_only=True):
    """The reservation was replaced by the actual cost."""

    TAG = "budget_settled"
    request: str
    attempt: int
    amount_nd: int
    reserved_nd: int


@recorded
class BudgetReleased(Event, frozen=True, kw_only=True):
    """The reservation was given back: nothing was spent."""

    TAG = "budget_released"
    request: str
    attempt: int
    reserved_nd: int
    reason: str


@recorded
class BudgetExhausted(Event, frozen=True, kw_only=True):
    """A cap stands in the way of further calls until the window reopens."""

    TAG = "budget_exhausted"
    cap: str
    limit_nd: int
    spent_nd: int
    reopens: str


@recorded
class BudgetRestored(Event, frozen=True, kw_only=True):
    """The cap lets calls through again."""

    TAG = "budget_restored"
    cap: str


@recorded
class SpendPaced(Event, frozen=True, kw_only=True):
    """Audits above the floor are bought faster or slower, so that a cap's money lasts as long as its window."""

    TAG = "spend_paced"
    factor: float
    """In [0, 1], on the distance of the audit rate from its floor."""
    reason: str


# ---------------------------------------------------------------- operation


@recorded
class ConfigApplied(Event, frozen=True, kw_only=True):
    """The configuration that holds from here on; ``settings`` are those that decisions read, as JSON text."""

    TAG = "config_applied"
    digest: str
    settings: str
    changed: tuple[str, ...] = ()


@recorded
class AlertRaised(Event, frozen=True, kw_only=True):
    """Something needs a person's attention. ``alert`` names the condition and stays until cleared."""

    TAG = "alert_raised"
    alert: str
    severity: Literal["info", "warning", "critical"]
    message: str


@recorded
class AlertCleared(Event, frozen=True, kw_only=True):
    """The condition is over."""

    TAG = "alert_cleared"
    alert: str


@recorded
class OperatorActed(Event, frozen=True, kw_only=True):
    """A person intervened."""

    TAG = "operator_acted"
    action: str
    detail: str = ""
    refused: str = ""
    """Why nothing followed, in words; empty where something did."""


@recorded
class BodyErased(Event, frozen=True, kw_only=True):
    """A body's content and salt were deleted; the digest in the events stays."""

    TAG = "body_erased"
    body: Digest
    reason: str
    request: str | None = None
    """The request that the body belonged to."""
    versions: tuple[str, ...] = ()
    """Versions whose training data held the content: trained before the erasure, or being trained at that time."""


@recorded
class RuntimeStarted(Event, frozen=True, kw_only=True):
    """A process opened the log."""

    TAG = "runtime_started"
    version: str
    sqlite: str
    epoch: int


@recorded
class RuntimeStopped(Event, frozen=True, kw_only=True):
    """The process closed the log in order."""

    TAG = "runtime_stopped"
    reason: str
