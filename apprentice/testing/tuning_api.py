"""The provider's side of fine-tuning: uploaded files and the jobs that train on them, as OpenAI's API has them.

A job passes through its statuses as the frontier's clock goes on: files are validated during the first tenth of
``seconds``, the job waits during the second, and takes its steps during the rest. Nothing is learned: a fine-tuned
model answers as the frontier answers everything.
"""

import hashlib
import re
from collections import deque
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from apprentice.testing import openai_service as service
from apprentice.testing.dialect import Wrong, demand_number, read_object
from apprentice.testing.http_server import Request
from apprentice.testing.tuning_jobs import ENDED, Status, StoredFile, TuningJob
from apprentice_actors.ports import Clock, JsonObject

ROWS_MIN = 10
"""The vendor trains on no fewer examples."""
SECONDS = 2.0
"""How long a job takes unless told otherwise."""

_PATH = re.compile(r"/v1/(files|fine_tuning/jobs)(?:/([^/]+))?(?:/(events|cancel|content))?")
_FIELDS = frozenset(
    {"model", "training_file", "validation_file", "hyperparameters", "method", "seed", "suffix", "metadata",
     "integrations"}
)  # fmt: skip
_HYPERPARAMETERS = {"n_epochs": (1, 50), "batch_size": (1, 256), "learning_rate_multiplier": (0.0, 10_000.0)}
_EPOCHS, _BYTES_PER_TOKEN, _PAGE_MAX = 3, 4, 10_000
_ROLES = ("system", "developer", "user", "assistant", "tool")


class TuningApi:
    """Files and fine-tuning jobs of one account. ``seconds`` is how long a job takes on ``clock``."""

    def __init__(self, clock: Clock, *, seconds: float = SECONDS) -> None:
        self._clock = clock
        self._next: deque[tuple[str, str]] = deque()
        self.seconds = seconds
        self.files: dict[str, StoredFile] = {}
        """What was uploaded and not deleted, by id."""
        self.jobs: dict[str, TuningJob] = {}
        """Every job that was created, by id, in the order of creation."""

    def fail_next(self, message: str, code: str = "server_error") -> None:
        """Let the next job that is created fail in the middle, with the vendor's ``code`` and ``message``."""
        self._next.append((code, message))

    def status(self, job: str) -> Status:
        """Where a job stands now."""
        return self.jobs[job].status(self._clock.monotonic())

    @staticmethod
    def serves(request: Request) -> bool:
        """Whether the path belongs to this API."""
        return _PATH.fullmatch(request.path.partition("?")[0]) is not None

    def answer(self, request: Request, api_key: str | None) -> bytes:
        """The body of the response. Raises :class:`Wrong`."""
        service.demand_openai_key(request, api_key)
        parts = urlsplit(request.path)
        found = _PATH.fullmatch(parts.path)
        assert found is not None, "asked only for paths that it serves"
        kind, name, more = found.groups()
        now = self._clock.monotonic()
        match request.method, kind, name, more:
            case "POST", "files", None, None:
                return _json(self._upload(request))
            case "GET", "files", None, None:
                return _json(_page([file.shown() for file in reversed(self.files.values())], parts.query))
            case "GET", "files", str(), None:
                return _json(self._file(name).shown())
            case "GET", "files", str(), "content":
                return self._file(name).content
            case "DELETE", "files", str(), None:
                del self.files[self._file(name).id]
                return _json({"id": name, "object": "file", "deleted": True})
            case "POST", "fine_tuning/jobs", None, None:
                return _json(self._create(request).shown(now))
            case "GET", "fine_tuning/jobs", None, None:
                newest = [job.shown(now) for job in reversed(self.jobs.values())]
                return _json(_page(newest, parts.query))
            case "GET", "fine_tuning/jobs", str(), None:
                return _json(self._job(name).shown(now))
            case "GET", "fine_tuning/jobs", str(), "events":
                return _json(_page(self._job(name).events(now), parts.query))
            case "POST", "fine_tuning/jobs", str(), "cancel":
                return _json(self._cancel(self._job(name)).shown(now))
        raise Wrong(405, "Method Not Allowed")

    def _upload(self, request: Request) -> JsonObject:
        form = _form(request)
        purpose, file = form.get("purpose"), form.get("file")
        if purpose is None or purpose[1] != b"fine-tune":
            raise Wrong(400, "'purpose': the simulated provider takes files to fine-tune on")
        if file is None or not file[0]:
            raise Wrong(400, "'file' is a required property")
        for number, line in enumerate(file[1].splitlines(), 1):
            if not isinstance(_read(line), dict):
                message = "Expected file to have JSONL format, where every line is a valid JSON dictionary."
                raise Wrong(400, f"{message} Line {number} is not a dictionary.")
        stored = StoredFile(
            id=f"file-{_digest(len(self.files), file[1])}",
            name=file[0],
            content=file[1],
            created_at=self._clock.now_ns() // 10**9,
        )
        self.files[stored.id] = stored
        return stored.shown()

    def _create(self, request: Request) -> TuningJob:
        fields = read_object(request.body)
        if unknown := sorted(set(fields) - _FIELDS):
            raise Wrong(400, f"Unrecognized request argument supplied: {unknown[0]}")
        if not isinstance(fields.get("model"), str) or not fields["model"]:
            raise Wrong(400, "you must provide a model parameter")
        for name in ("training_file", "validation_file"):
            if fields.get(name) not in self.files and (name == "training_file" or fields.get(name) is not None):
                raise Wrong(400, f"invalid {name}: {fields.get(name)}")
        suffix = fields.get("suffix") or ""
        if not isinstance(suffix, str) or not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", suffix):
            raise Wrong(400, "Invalid value for 'suffix': at most 64 letters, digits, dots and dashes")
        content = self.files[fields["training_file"]].content
        given = _hyperparameters(fields)
        lines = content.splitlines()
        job = TuningJob(
            id=f"ftjob-{_digest(len(self.jobs), request.body)}",
            model=fields["model"],
            training_file=fields["training_file"],
            validation_file=fields.get("validation_file"),
            epochs=int(given.get("n_epochs", _EPOCHS)),
            batch=int(given.get("batch_size", 1)),
            multiplier=float(given.get("learning_rate_multiplier", 1.0)),
            seed=int(fields.get("seed") or 0),
            suffix=suffix,
            metadata=fields.get("metadata"),
            created_at=self._clock.now_ns() // 10**9,
            started=self._clock.monotonic(),
            seconds=self.seconds,
            rows=max(1, len(lines)),
            tokens=-(-len(content) // _BYTES_PER_TOKEN),
            fault=_unfit(lines) or (self._next.popleft() if self._next else None),
        )
        self.jobs[job.id] = job
        return job

    def _cancel(self, job: TuningJob) -> TuningJob:
        now = self._clock.monotonic()
        if job.status(now) in ENDED:
            raise Wrong(400, f"Job has already completed: {job.id}")
        job.cancelled = now
        return job

    def _file(self, name: str) -> StoredFile:
        if name not in self.files:
            raise Wrong(404, f"No such File object: {name}")
        return self.files[name]

    def _job(self, name: str) -> TuningJob:
        if name not in self.jobs:
            raise Wrong(404, f"Could not find fine tune: {name}")
        return self.jobs[name]


def _json(value: JsonObject) -> bytes:
    return msgspec.json.encode(value)


def _read(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _digest(number: int, content: bytes) -> str:
    """An identifier that is the same in every run."""
    return hashlib.sha256(b"%d:%s" % (number, content)).hexdigest()[:24]


def _page(items: list[JsonObject], query: str) -> JsonObject:
    """One page of a list: ``limit`` items behind the one named ``after``."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    try:
        limit = min(_PAGE_MAX, int(asked.get("limit", "20")))
    except ValueError:
        raise Wrong(400, "Invalid value for 'limit'") from None
    ids = [item["id"] for item in items]
    start = ids.index(asked["after"]) + 1 if asked.get("after") in ids else 0
    return {"object": "list", "data": items[start : start + limit], "has_more": len(items) > start + limit}


def _hyperparameters(fields: JsonObject) -> dict[str, float]:
    """What is not left to the vendor. Raises :class:`Wrong`."""
    method = fields.get("method")
    given = fields.get("hyperparameters") or {}
    if method is not None:
        if not isinstance(method, dict) or method.get("type") != "supervised":
            raise Wrong(400, "Invalid value for 'method.type': the simulated provider knows 'supervised'")
        given = (method.get("supervised") or {}).get("hyperparameters") or {}
    if unknown := sorted(set(given) - set(_HYPERPARAMETERS)):
        raise Wrong(400, f"Unrecognized request argument supplied: {unknown[0]}")
    chosen = {name: value for name, value in given.items() if value is not None and value != "auto"}
    for name, value in chosen.items():
        demand_number(value, name, *_HYPERPARAMETERS[name])
    return chosen


def _unfit(lines: list[bytes]) -> tuple[str, str] | None:
    """Why nothing can be trained on these lines, as code and message."""
    for number, line in enumerate(lines, 1):
        messages = _read(line).get("messages")
        fit = isinstance(messages, list) and messages and all(_said(message) for message in messages)
        if not fit or messages[-1]["role"] != "assistant":
            return "invalid_training_file", f"Line {number}: messages that end with the assistant's are required"
    if len(lines) < ROWS_MIN:
        message = f"Training file has {len(lines)} example(s), but must have at least {ROWS_MIN} examples"
        return "invalid_n_examples", message
    return None


def _said(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in _ROLES and isinstance(message.get("content"), str)


def _form(request: Request) -> dict[str, tuple[str, bytes]]:
    """The fields of a multipart body: name to file name and content. Raises :class:`Wrong`."""
    kind = re.fullmatch(r'multipart/form-data;\s*boundary="?([^";]+)"?', request.headers.get("content-type", ""))
    if kind is None:
        raise Wrong(400, "Could not parse multipart form")
    form: dict[str, tuple[str, bytes]] = {}
    for part in (b"\r\n" + request.body).split(b"\r\n--" + kind[1].encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        told = head.decode("utf-8", "replace")
        name = re.search(r'[; ]name="([^"]*)"', told)
        if name is None:
            raise Wrong(400, "Could not parse multipart form")
        file = re.search(r'filename="([^"]*)"', told)
        form[name[1]] = (file[1] if file else "", content)
    return form
