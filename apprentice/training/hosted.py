"""The trainer behind OpenAI's fine-tuning API: upload, create, poll, take in. What is commissioned is paid once.

The vendor keeps the weights; a version is a folder with the model's name and its calibration. Where training is cut off
(the process ends, the trainer is closed or cancelled, the vendor cannot be reached), the vendor's job goes on: the same
data asked for again go on with it, and other data asked for in its stead cancel it first. A job that runs into
``max_minutes`` is cancelled. The training file is deleted at the vendor as soon as nothing needs it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import httpx
import msgspec

from apprentice.config import LocalConfig, TrainingConfig
from apprentice.errors import InvalidConfig
from apprentice.local.endpoint import Endpoint
from apprentice.local.hosted import KEY_VARIABLE
from apprentice.local.opened import require
from apprentice.remote.openai_api import BASE_URL
from apprentice.remote.retry import Backoff
from apprentice.remote.secrets import Secret
from apprentice.system import SystemClock
from apprentice.training import claims
from apprentice.training.honoured import refuse_unhonoured
from apprentice.training.tuned_version import Hosted, measured, write
from apprentice.training.tuning_client import Trouble, TuningClient, TuningJob
from apprentice.training.tuning_plan import BATCH_MAX, EPOCHS_MAX, Plan, make_plan, question_of
from apprentice.training.versions import VersionError
from apprentice_actors.ports import Clock, TrainedVersion, TrainingFailure, TrainingJob

logger = logging.getLogger(__name__)

_HONOURED = ("epochs", "batch_size", "max_minutes", "stuck_after_s", "continue_from_parent", "token_price")
_POLL_FIRST_S, _POLL_MAX_S, _POLL_GROWTH = 2.0, 30.0, 1.3
_CREATED, _RUNNING, _TRAINED, _MEASURED = 0.05, 0.1, 0.9, 0.99
"""Where the stages begin, as shares of the whole."""
_BACKOFF = Backoff(first_s=2.0, max_s=60.0)

type Progress = Callable[[float, str], None]


class HostedTrainer:
    """Trains versions at OpenAI. Implements :class:`apprentice_actors.ports.Trainer`.

    Jobs run side by side, as far as the vendor lets them.
    """

    def __init__(
        self, local: LocalConfig, *, clock: Clock | None = None, client: httpx.AsyncClient | None = None
    ) -> None:
        """``client`` stays the caller's to close. Raises :class:`InvalidConfig` and :class:`MissingExtra`."""
        require("openai", "servers", "numpy")
        refuse_unhonoured(local.training, "openai", _HONOURED)
        _refuse_unfit(local.training)
        self._local = local
        self._clock = clock or SystemClock()
        key = Secret.from_env(local.server.api_key_env or KEY_VARIABLE)
        self._vendor = TuningClient(local.server.url or BASE_URL, key, self._clock, client)
        self._endpoint = Endpoint("the vendor", self._vendor.url, cure="check local.server.url", key=key, client=client)
        self._held: set[Path] = set()
        self._under_way: set[asyncio.Task[TrainedVersion]] = set()
        self._closed = False

    async def train(self, job: TrainingJob, progress: Progress) -> TrainedVersion:
        """Train to the end. Cancelling it leaves the vendor's job to whoever asks for the same again."""
        if self._closed:
            raise TrainingFailure(f"{job.version} cannot be trained: the trainer is closed")
        work = asyncio.create_task(self._train(job, progress), name=f"fine-tuning of {job.version}")
        self._under_way.add(work)
        try:
            return await work
        except asyncio.CancelledError:
            if self._closed and work.cancelled():
                raise TrainingFailure(f"{job.version} was not waited for: the trainer was closed") from None
            raise
        finally:
            work.cancel()
            self._under_way.discard(work)

    async def aclose(self) -> None:
        """Wait for nothing any more; jobs at the vendor go on."""
        if self._closed:
            return
        self._closed = True
        for work in self._under_way:
            work.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._vendor.aclose()
        await self._endpoint.aclose()

    # ------------------------------------------------------------ one job

    async def _train(self, job: TrainingJob, progress: Progress) -> TrainedVersion:
        began, tell = self._clock.monotonic(), _rising(progress)
        plan = await asyncio.to_thread(make_plan, job, self._local)
        tell(0.0, f"{len(plan.rows)} examples for {plan.body['model']}")
        await asyncio.sleep(0)  # a cancellation that answers this word comes before anything is noted or sent
        path = claims.path_of(Path(job.folder))
        self._held.add(path)
        try:
            claim = await self._claimed(plan, path)
            tuned = await self._tuned(plan, claim, path, tell)
            version = await self._kept(plan, tuned, tell)
            await self._forget(claim, path)
        except Trouble as trouble:
            raise TrainingFailure(f"{job.version} could not be trained: {trouble}") from trouble
        except (VersionError, OSError) as error:
            raise TrainingFailure(f"{job.version} could not be kept: {error}") from error
        finally:
            self._held.discard(path)
        tell(1.0, "done")
        return msgspec.structs.replace(version, seconds=self._clock.monotonic() - began)

    async def _kept(self, plan: Plan, tuned: TuningJob, tell: Progress) -> TrainedVersion:
        """Measure what was trained and write its folder."""
        job = plan.job
        assert tuned.fine_tuned_model is not None, "the job has succeeded"
        questions = [(question_of(job, row), row) for row in plan.held_out]

        def tell_share(share: float, word: str) -> None:
            tell(_TRAINED + (_MEASURED - _TRAINED) * share, word)

        card, metrics = await measured(self._endpoint, job, tuned.fine_tuned_model, questions, tell_share)
        tokens = tuned.trained_tokens
        if tokens is None:  # what it cost is not said: no text has more tokens than bytes
            tokens = len(plan.content) * plan.settings.epochs
        metrics |= {"rows_train": float(len(plan.rows)), "trained_tokens": float(tokens)}
        settings = {**plan.body, "max_minutes": plan.settings.max_minutes}
        hosted = Hosted(model=tuned.fine_tuned_model, job=tuned.id)
        # Not in a thread: a thread would go on writing after a cancellation.
        manifest = write(job, plan.base_model, hosted, card, settings=settings, metrics=metrics, created=self._now())
        return TrainedVersion(manifest_sha256=manifest, seconds=0.0, metrics=metrics, cost_nd=self._cost_nd(tokens))

    async def _claimed(self, plan: Plan, path: Path) -> claims.Claim:
        """The claim of an earlier attempt at the same, else a new one. What else was left is given up at the vendor."""
        mine: claims.Claim | None = None
        for left, claim in claims.found_in(path.parent).items():
            if left in self._held and left != path:
                continue  # another job of this task, under way
            if mine is None and claim.asked == plan.asked:
                mine = claim
                left.replace(path)
            else:
                await self._give_up(claim, left)
        now_ns = self._clock.now_ns()
        name = f"{plan.body['suffix']}-{path.name.split('.')[1]}-{plan.asked[:12]}-{now_ns}.jsonl"
        return mine or claims.Claim(asked=plan.asked, begun_ns=now_ns, name=name)

    async def _tuned(self, plan: Plan, claim: claims.Claim, path: Path, tell: Progress) -> TuningJob:
        """Bring the vendor's job to its good end."""
        if claim.file is None:
            claims.save(claim, path)
            try:
                claim.file = await self._patiently(plan, lambda: self._vendor.upload(claim.name, plan.content))
            except Trouble as trouble:
                if trouble.status:  # a plain no: nothing lies there
                    claims.drop(path)
                raise
            claims.save(claim, path)
        if claim.job is None:
            try:
                claim.job = (await self._patiently(plan, lambda: self._created(plan, claim))).id
            except Trouble as trouble:
                if trouble.status:  # a plain no
                    await self._give_up(claim, path)
                raise
            claims.save(claim, path)
        else:
            tell(_CREATED, f"going on with the job {claim.job}")
        tuned = await self._watched(plan, claim, path, tell)
        if tuned.status == "succeeded" and tuned.fine_tuned_model is not None:
            return tuned
        await self._forget(claim, path)
        reason = str(tuned.error) if tuned.status == "failed" and tuned.error else f"it was {tuned.status} there"
        raise TrainingFailure(f"{plan.job.version} could not be trained: the vendor's job {tuned.id} ended: {reason}")

    async def _created(self, plan: Plan, claim: claims.Claim) -> TuningJob:
        """The job of the uploaded file: an attempt whose response was lost may have started it."""
        assert claim.file is not None
        begun = await self._vendor.find(claim.file)
        return begun or await self._vendor.create({**plan.body, "training_file": claim.file})

    async def _watched(self, plan: Plan, claim: claims.Claim, path: Path, tell: Progress) -> TuningJob:
        """Poll until the job has ended. Over the time cap it is cancelled."""
        job, pause_s = claim.job or "", _POLL_FIRST_S
        while True:
            try:
                tuned = await self._patiently(plan, lambda: self._vendor.look(job))
            except Trouble as trouble:
                if trouble.status == httpx.codes.NOT_FOUND:
                    await self._forget(claim, path)
                raise
            if tuned.status in ("succeeded", "failed", "cancelled"):
                return tuned
            if self._clock.now_ns() - claim.begun_ns > plan.settings.max_minutes * 60e9:
                await self._give_up(claim, path)
                cap = f"after {plan.settings.max_minutes:g} minutes and was cancelled; raise local.training.max_minutes"
                raise TrainingFailure(f"{plan.job.version} was not ready {cap}")
            await self._tell_of(tuned, tell)
            await self._clock.sleep(pause_s)
            pause_s = min(_POLL_MAX_S, pause_s * _POLL_GROWTH)

    async def _tell_of(self, tuned: TuningJob, tell: Progress) -> None:
        words = {"validating_files": "the vendor looks at the file", "queued": "waiting in the vendor's queue"}
        if tuned.status in words:
            tell(_CREATED, words[tuned.status])
            return
        try:
            step = await self._vendor.step(tuned.id)
        except Trouble:
            return  # it is no more than a word on the way
        if step is not None:
            loss = f", loss {step.loss:.3g}" if step.loss is not None else ""
            share = _RUNNING + (_TRAINED - _RUNNING) * min(1.0, step.number / step.steps)
            tell(share, f"step {step.number} of {step.steps}{loss}")

    async def _patiently[T](self, plan: Plan, call: Callable[[], Awaitable[T]]) -> T:
        """Try again what may succeed later, as long as ``stuck_after_s`` allows."""
        until, attempt = self._clock.monotonic() + plan.settings.stuck_after_s, 0
        while True:
            try:
                return await call()
            except Trouble as trouble:
                attempt += 1
                pause_s = _BACKOFF.pause_s(attempt, 1.0, trouble.after_s)
                if not trouble.retry or self._clock.monotonic() + pause_s > until:
                    raise
                await self._clock.sleep(pause_s)

    async def _give_up(self, claim: claims.Claim, path: Path) -> None:
        """Cancel what nobody waits for. Where the vendor cannot be told, the claim stays for the next attempt."""
        try:
            if claim.job is None and claim.file is not None:
                begun = await self._vendor.find(claim.file)
                claim.job = begun.id if begun is not None else None
            if claim.job is not None:
                await self._vendor.cancel(claim.job)
        except Trouble as trouble:
            logger.warning("the job %s could not be cancelled (%s); look at the vendor's page", claim.job, trouble)
            return
        await self._forget(claim, path)

    async def _forget(self, claim: claims.Claim, path: Path) -> None:
        """The file at the vendor holds what people wrote: it goes as soon as nothing needs it."""
        try:
            for file in await self._vendor.named(claim.name):
                await self._vendor.delete(file)
        except Trouble as trouble:
            logger.warning("the file %s could not be deleted at the vendor (%s); do it there", claim.name, trouble)
        claims.drop(path)

    def _cost_nd(self, tokens: int) -> int:
        """The bill: a dollar per million tokens is 1,000 nano-dollars per token."""
        price = self._local.training.token_price or Decimal(0)
        return int((price * 1000 * tokens).to_integral_value(ROUND_CEILING))

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock.now_ns() // 10**9, UTC).isoformat()


def _refuse_unfit(training: TrainingConfig) -> None:
    problems = []
    if training.token_price is None:
        wanted = "missing: what a million trained tokens cost in US dollars, so that the spend is counted"
        problems.append(f"local.training.token_price: {wanted}")
    for name, most in (("epochs", EPOCHS_MAX), ("batch_size", BATCH_MAX)):
        if getattr(training, name) > most:
            problems.append(f"local.training.{name}: the vendor takes at most {most}")
    if problems:
        raise InvalidConfig(problems)


def _rising(progress: Progress) -> Progress:
    """Progress that never goes back."""
    told = 0.0

    def tell(fraction: float, message: str) -> None:
        nonlocal told
        told = max(told, fraction)
        progress(told, message)

    return tell
