"""OpenAI's files and fine-tuning jobs over HTTP: one exchange at a time, and what a failed one means.

Whether an exchange is worth another attempt, and whether it may have been carried out although no answer came, is said
by the error; waiting and trying again is the caller's.
"""

import re
from typing import Any, Literal

import httpx
import msgspec

from apprentice.remote import openai_api as api
from apprentice.remote.clients import ClientPool
from apprentice.remote.retry import may_retry, retry_after_s
from apprentice.remote.secrets import Secret, detached, redact, redact_bytes
from apprentice_actors.ports import Clock, JsonObject

_TIMEOUT = httpx.Timeout(300.0, connect=10.0)
_LISTED_MAX, _FILES_MAX = 100, 10_000
_EVENTS = 20
_STEP = re.compile(r"Step (\d+)/(\d+)")

type Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class Trouble(Exception):
    """An exchange failed. ``status`` is 0 where no response came."""

    def __init__(self, message: str, *, status: int = 0, retry: bool = True, after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry = retry
        self.after_s = after_s


class Fault(msgspec.Struct, frozen=True):
    """Why a job failed, in the vendor's words."""

    code: str | None = None
    message: str | None = None
    param: str | None = None

    def __str__(self) -> str:
        return redact(" ".join(filter(None, (self.code, self.message)))) or "the vendor gave no reason"


class TuningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the vendor tells it."""

    id: str
    status: Status
    training_file: str = ""
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    error: Fault | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running job is."""

    number: int
    steps: int
    loss: float | None = None


class _Data(msgspec.Struct, frozen=True):
    step: int | None = None
    total_steps: int | None = None
    train_loss: float | None = None


class _Event(msgspec.Struct, frozen=True):
    message: str = ""
    data: _Data | None = None


class _Events(msgspec.Struct, frozen=True):
    data: list[_Event] = []


class _Jobs(msgspec.Struct, frozen=True):
    data: list[TuningJob] = []


class _File(msgspec.Struct, frozen=True):
    id: str
    filename: str = ""


class _Files(msgspec.Struct, frozen=True):
    data: list[_File] = []


class _Anything(msgspec.Struct, frozen=True):
    """An object whose content does not matter."""


class TuningClient:
    """Files and jobs of one account. Every method raises :class:`Trouble`.

    ``client`` stays the caller's to close if given.
    """

    def __init__(self, url: str, key: Secret, clock: Clock, client: httpx.AsyncClient | None = None) -> None:
        bare, login = detached(url)
        self.url = bare.rstrip("/")
        self._headers = {"authorization": f"Bearer {key.reveal()}"}
        self._auth = httpx.BasicAuth(*login) if login is not None else httpx.USE_CLIENT_DEFAULT
        self._clock = clock
        self._clients = ClientPool(client)

    async def upload(self, name: str, content: bytes) -> str:
        """Store a JSONL file to be trained on; returns its id."""
        form = {"files": {"file": (name, content, "application/jsonl")}, "data": {"purpose": "fine-tune"}}
        return (await self._ask("POST", "/files", _File, **form)).id

    async def named(self, name: str) -> list[str]:
        """The ids of the stored files of this name."""
        listed = await self._ask("GET", f"/files?purpose=fine-tune&limit={_FILES_MAX}", _Files)
        return [file.id for file in listed.data if file.filename == name]

    async def delete(self, file: str) -> None:
        """Remove a file; one that is gone already is no trouble."""
        try:
            await self._ask("DELETE", f"/files/{file}", _Anything)
        except Trouble as trouble:
            if trouble.status != httpx.codes.NOT_FOUND:
                raise

    async def create(self, body: JsonObject) -> TuningJob:
        """Start a job. Where no response came it may have been started all the same: :meth:`find` tells."""
        return await self._ask("POST", "/fine_tuning/jobs", TuningJob, json=body)

    async def find(self, file: str) -> TuningJob | None:
        """The newest job that trains on ``file``."""
        listed = await self._ask("GET", f"/fine_tuning/jobs?limit={_LISTED_MAX}", _Jobs)
        return next((job for job in listed.data if job.training_file == file), None)

    async def look(self, job: str) -> TuningJob:
        """Where a job stands."""
        return await self._ask("GET", f"/fine_tuning/jobs/{job}", TuningJob)

    async def step(self, job: str) -> Step | None:
        """The latest step that the job told of."""
        events = await self._ask("GET", f"/fine_tuning/jobs/{job}/events?limit={_EVENTS}", _Events)
        return next((step for step in map(_step, events.data) if step is not None), None)

    async def cancel(self, job: str) -> None:
        """Stop a job; one that has ended, or is gone, is no trouble."""
        try:
            await self._ask("POST", f"/fine_tuning/jobs/{job}/cancel", _Anything)
        except Trouble as trouble:
            if trouble.status not in (httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND):
                raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._clients.aclose()

    async def _ask[T](self, method: str, path: str, kind: type[T], **content: Any) -> T:
        try:
            with self._clients.lend() as client:
                response = await client.request(
                    method, self.url + path, headers=self._headers, auth=self._auth, timeout=_TIMEOUT, **content
                )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Trouble(f"{self.url} is no address ({error}); correct local.server.url", retry=False) from None
        except httpx.HTTPError as error:
            raise Trouble(f"{self.url} cannot be reached: {redact(str(error)) or type(error).__name__}") from error
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise self._refused(response)
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Trouble(f"{self.url}{path.partition('?')[0]} sent something unexpected: {error}") from None

    def _refused(self, response: httpx.Response) -> Trouble:
        rejection = api.reject(response.status_code, redact_bytes(response.content))
        may = may_retry(response.status_code, response.headers, rejection.retry)
        after_s = retry_after_s(response.headers, self._clock.now_ns())
        message = f"{self.url} answered with status {response.status_code}: {redact(rejection.message)}"
        retry = may and rejection.kind not in ("spend_limit", "refusal")
        return Trouble(message, status=response.status_code, retry=retry, after_s=after_s)


def _step(event: _Event) -> Step | None:
    """A step's numbers, from the event's data where they stand there, else from its words."""
    said = _STEP.search(event.message)
    data = event.data or _Data()
    number = data.step if data.step is not None else int(said[1]) if said else None
    steps = data.total_steps if data.total_steps is not None else int(said[2]) if said else None
    if number is None or not steps:
        return None
    return Step(number=number, steps=steps, loss=data.train_loss)
