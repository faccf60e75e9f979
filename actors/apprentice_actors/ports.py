"""The outside world as the actors see it: one protocol per kind of thing, and the values that cross.

Every implementation, fakes included, passes the contract suite of its port under ``tests/contracts``.
Times are UTC nanoseconds or monotonic seconds as named; money is integer nano-dollars (``*_nd``).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from apprentice_events.vocabulary import DatasetStatistics, TokenUsage

type JsonObject = dict[str, Any]

type RemoteFailureKind = Literal[
    "refusal",  # the model declined; a disagreement, not an outage
    "cut_off",  # the answer hit the output limit or the context window
    "invalid",  # an answer came, but it is not JSON or breaks the output schema
    "bad_request",  # the provider rejects what we sent (400, 404, 413 …)
    "auth",  # 401, 403
    "spend_limit",  # a 429 that no retry will cure
    "rate_limited",  # 429 until the deadline
    "unavailable",  # 5xx, 529, no connection, until the deadline
    "timeout",  # the deadline passed with the request sent
    "interrupted",  # the connection broke after the request was sent: perhaps billed
]


class Clock(Protocol):
    """Time. The virtual clock of tests passes the same contract as the system's."""

    def now_ns(self) -> int:
        """UTC, nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend for ``seconds``."""
        ...


class Randomness(Protocol):
    """Chance. Seeded under test, so that one seed gives one log."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...

    def token(self, size: int) -> bytes:
        """``size`` random bytes (identifiers, salts)."""
        ...


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a model sees it."""

    task: str
    input: JsonObject
    description: str = ""
    output_schema: JsonObject | None = None
    """JSON Schema of the answer; None where the task gives any object."""
    max_output_tokens: int = 1024
    """The longest answer to be paid for."""
    examples: tuple[tuple[JsonObject, JsonObject], ...] = ()
    """Retrieved (input, output) pairs for models that take them in the prompt."""
    image_fields: tuple[str, ...] = ()
    """Paths of the input's images, such as ``photo`` or ``pages[].scan``."""
    tools: tuple[JsonObject, ...] = ()
    """Tools on offer: ``name``, ``description``, ``parameters`` (a JSON Schema). The answer is then either
    ``{"tool_calls": [{"name": …, "arguments": {…}}]}`` or ``{"content": text}``."""


class RemoteAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A validated answer of the remote model and what it cost."""

    output: JsonObject
    model: str
    """The model name that the provider reports, which may differ from the one asked for."""
    usage: TokenUsage
    cost_nd: int
    latency_ms: float
    attempts: int = 1


class RemoteFailure(Exception):
    """A remote call without a usable answer.

    ``cost_nd`` is what it cost as far as known; where the provider may have billed without saying so
    (``interrupted``, ``timeout``), it is the highest possible price.
    """

    def __init__(
        self, kind: RemoteFailureKind, message: str, *, cost_nd: int = 0, usage: TokenUsage | None = None
    ) -> None:
        super().__init__(message)
        self.kind: RemoteFailureKind = kind
        self.message = message
        self.cost_nd = cost_nd
        self.usage = usage


class RemoteModel(Protocol):
    """A paid model behind an API."""

    @property
    def provider(self) -> str:
        """The provider's name as in the config, such as ``anthropic``."""
        ...

    @property
    def model(self) -> str:
        """The model name that is asked for."""
        ...

    def quote_nd(self, question: Question) -> int:
        """The highest possible price of answering: input bounded by its UTF-8 bytes, the full output limit."""
        ...

    async def answer(self, question: Question, *, timeout_s: float) -> RemoteAnswer:
        """Ask once, retrying only what was certainly not billed, within ``timeout_s``. May raise RemoteFailure."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class NoticeUnknown(Exception):
    """A model list could not be read, or does not tell; the message says which and why."""


class ModelNotices(Protocol):
    """What the provider of one remote model announces about it."""

    async def notice(self) -> str | None:
        """Its end, in words that follow its name, such as ``will be shut down on 2027-01-31``; None: it stays.

        Raises :class:`NoticeUnknown`.
        """
        ...


class LocalAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of a local version; not yet through the validation gate."""

    output: JsonObject
    p_agree: float
    """Calibrated probability, in [0, 1], that the remote would give an equivalent answer."""
    latency_ms: float
    novelty: float | None = None
    """Share of the training inputs that lie closer to another one than this input does to any; None: not known."""


class LocalFailure(Exception):
    """The local model could not answer or a version could not be loaded; the message says what and why."""


class LocalAbsent(LocalFailure):
    """This process has no local model, on purpose: its silence says nothing about any version."""


class LocalModel(Protocol):
    """A server of trained versions. Names such as ``classify_ticket@v3`` are immutable."""

    @property
    def base(self) -> str | None:
        """The name under which the untrained base model is asked, without loading it; None where there is none.

        Its answers carry a ``p_agree`` of 0.5: nothing was measured.
        """
        ...

    async def load(self, version: str, folder: Path, manifest_sha256: str | None = None) -> None:
        """Check every file against the manifest, and it against ``manifest_sha256``; load and warm up.

        Loading a loaded name is a no-op. Raises :class:`LocalFailure`.
        """
        ...

    async def unload(self, version: str) -> None:
        """Forget a version; unknown names are ignored."""
        ...

    def loaded(self) -> frozenset[str]:
        """The versions that can be asked."""
        ...

    async def answer(self, question: Question, version: str) -> LocalAnswer:
        """Answer with one version. Raises :class:`LocalFailure`."""
        ...

    async def healthy(self) -> bool:
        """Whether the server responds."""
        ...

    async def aclose(self) -> None:
        """Stop and release everything."""
        ...


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a dataset."""

    request: str
    input: JsonObject
    output: JsonObject
    weight: float = 1.0
    source: Literal["remote", "correction", "import"] = "remote"
    tags: tuple[str, ...] = ()
    fresh: bool = True
    """False for rows that an earlier version was trained on already (replayed against forgetting)."""


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer is asked for."""

    job: str
    task: str
    version: str
    parent: str | None
    parent_folder: str | None
    folder: str
    """The folder to write the version into; it appears whole or not at all."""
    train_file: str
    """JSONL of :class:`Example`, never containing a held-out row."""
    calibration_file: str
    """JSONL of held-out :class:`Example`: for calibration and validation, never for fitting."""
    output_schema: JsonObject | None
    match_fields: tuple[str, ...]
    """Fields whose agreement counts; empty for all."""
    seed: int
    description: str = ""
    """What the models are told of the task, as in :class:`Question`."""
    tools: tuple[JsonObject, ...] = ()
    """Tools on offer, as in :class:`Question`."""
    devices: tuple[int, ...] = ()
    """The GPUs that the job has to itself; none: the CPU."""
    settings: Mapping[str, Any] = {}


class TrainedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a trainer made."""

    manifest_sha256: str
    seconds: float
    metrics: Mapping[str, float] = {}
    cost_nd: int = 0


class TrainingFailure(Exception):
    """The job ended without a version; the message has the reason and the tail of the worker's log."""


class Trainer(Protocol):
    """Makes versions from examples. Jobs whose ``devices`` have nothing in common may be asked for at once."""

    async def train(self, job: TrainingJob, progress: Callable[[float, str], None]) -> TrainedVersion:
        """Run to the end; cancelling stops the worker. Raises :class:`TrainingFailure`."""
        ...

    async def aclose(self) -> None:
        """Stop the worker."""
        ...


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset on disk, as built from the log for one job."""

    train_file: Path
    holdout_file: Path
    rows_train: int
    rows_holdout: int
    sha256: str
    """Digest over both files."""
    statistics: DatasetStatistics = DatasetStatistics()


class DatasetBuilder(Protocol):
    """Turns a task's log into datasets. Held-out rows never stand in a training file."""

    async def build(self, task: str, folder: Path, *, fresh_after: int, upto: int) -> Dataset:
        """Write the files for the first ``upto`` collected examples; the first ``fresh_after`` count as replay."""
        ...

    async def held_out(self, task: str, limit: int) -> list[Example]:
        """The newest held-out rows, at most ``limit``."""
        ...


class Evaluator(Protocol):
    """Scores a pair of answers in [0, 1]: 1 for equivalent. An unparsed or missing side scores 0."""

    @property
    def name(self) -> str:
        """As in the config and the report, such as ``structured_match``."""
        ...

    async def score(self, local: JsonObject | None, remote: JsonObject | None, question: Question) -> float:
        """How far ``local`` agrees with ``remote``. Errors of custom evaluators propagate; the caller contains them."""
        ...


class AlertSink(Protocol):
    """Somewhere alerts go: a log line, a webhook."""

    async def raised(self, task: str | None, alert: str, severity: str, message: str) -> None:
        """A condition began."""
        ...

    async def cleared(self, task: str | None, alert: str) -> None:
        """The condition ended."""
        ...


class Validator(Protocol):
    """The validation gate: what an answer must pass before anyone sees or scores it."""

    def __call__(self, output: JsonObject, /) -> str | None:
        """None if the output is acceptable, else the reason in words."""
        ...
