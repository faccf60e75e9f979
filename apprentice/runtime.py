"""The runtime: one process, one log, all tasks. ``Runtime.open`` is where an application begins."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec

from apprentice import errors, operating, reading, settling
from apprentice.config import Config, TaskConfig
from apprentice.config import load as load_config
from apprentice.journal import fold_spend, note, note_quietly
from apprentice.opening import Opening as Opening
from apprentice.privacy import erasure
from apprentice.public_errors import public_denial, public_log_error
from apprentice.purse import start_treasury
from apprentice.results import Explanation, Report, Result, Status
from apprentice.schema import ANY_OBJECT
from apprentice.standing import Desks, start_local, start_trainer, start_watches, task_ports
from apprentice.teaching import start_teachers
from apprentice.wiring import (
    Parts,
    World,
    assemble,
    purse_settings,
    runtime_started,
    task_settings,
    task_spec,
)
from apprentice_actors import commands as c
from apprentice_actors.actor import ActorRef, ActorStopped, Reply
from apprentice_actors.herald import Announce, Herald, announce
from apprentice_actors.live import RequestDenied, Served, SubmitRequest
from apprentice_actors.mailbox import MailboxClosed, MailboxFull
from apprentice_actors.policy.holdout import held_out
from apprentice_actors.ports import Evaluator, JsonObject
from apprentice_actors.supervision import RestartPolicy, Supervisor
from apprentice_actors.task import Person, TaskMessage, TaskPorts, TaskSupervisor
from apprentice_actors.teachers import Teachers
from apprentice_actors.treasury import TreasuryMessage
from apprentice_events import errors as log_errors
from apprentice_events import vocabulary as v
from apprentice_events.bodies import Body, encode_json, make_body
from apprentice_events.log import Record
from apprentice_events.spend import SpendState
from apprentice_events.task_state import TaskState

START_S = 3600.0
"""How long a task may take to fold its log."""
COMMIT_S = 30.0
"""How long a person's command is waited for; it takes one commit."""
POLL_S = 0.002
REPLY_GRACE_S = 10.0
"""How much longer than a request's deadline its answer is waited for: the supervisor answers for itself in time."""


class Runtime:
    """All tasks of one configuration, answering.

    ::

        async with Runtime.open("apprentice.yaml") as runtime:
            result = await runtime.submit("classify_ticket", {"text": "…", "metadata": {}})
    """

    def __init__(self, config: Config, parts: Parts) -> None:
        """Use :meth:`open`."""
        self.config = config
        self._parts = parts
        self._scope = Supervisor(parts.clock, on_isolated=self._isolated)
        self._purse = purse_settings(config)
        self._spend = SpendState(zone=self._purse.zone)
        self._refs: dict[str, ActorRef[TaskMessage]] = {}
        self._supervisors: dict[str, TaskSupervisor] = {}
        self._down: dict[str, Exception] = {}
        self._herald: ActorRef[Announce] | None = None
        self._teachers: Teachers | None = None
        self._treasury: ActorRef[TreasuryMessage] | None = None
        self._watches: list[asyncio.Task[None]] = []
        self._closed = False

    @classmethod
    def open(cls, config: Config | str | Path = "apprentice.yaml", *, world: World | None = None) -> "Opening[Self]":
        """Open a runtime; to be awaited, or used with ``async with``, which also closes it.

        ``world`` brings parts from outside (a clock, a log, models) for tests and embedders.
        Raises :class:`InvalidConfig`, :class:`MissingExtra`, :class:`LogBusy`, :class:`LogCorrupt`.
        """
        return Opening(partial(cls._opened, config, world or World()))

    @classmethod
    async def _opened(cls, config: Config | str | Path, world: World) -> Self:
        known = config if isinstance(config, Config) else load_config(config)
        try:
            runtime = cls(known, assemble(known, world))
        except log_errors.LogError as error:
            raise public_log_error(error) from error
        try:
            await runtime._start()
        except BaseException as error:
            await asyncio.shield(runtime.close(f"could not be opened: {type(error).__name__}"))
            raise
        return runtime

    # ------------------------------------------------------------ asking

    async def submit(
        self,
        task: str,
        given: JsonObject,
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Result:
        """Answer one request of ``task``.

        ``key`` makes it idempotent: submitted again, also after a restart, the same key gives the same answer.
        ``tags`` name slices that are watched on their own. ``timeout_s`` overrides the task's deadline.
        Raises :class:`UnknownTask`, :class:`InvalidInput`, :class:`KeyConflict`, :class:`Erased`,
        :class:`RemoteUnavailable`, :class:`RemoteRefused`, :class:`DeadlineExceeded`, :class:`BudgetExhausted`,
        :class:`Overloaded`, :class:`LogPoisoned`, :class:`TaskIsolated`.
        """
        configured, ref = self._task(task)
        content = self._checked(configured, given)
        seconds = configured.deadline_s if timeout_s is None else timeout_s

        def envelope(reply: Reply[Served]) -> SubmitRequest:
            return SubmitRequest(
                input=given, content=content, key=key, tags=tuple(tags), timeout_s=seconds, reply=reply
            )

        served: Served = await self._ask(task, ref, envelope, seconds + REPLY_GRACE_S)
        return Result(output=served.output, request_id=served.request)

    async def correct(self, request_id: str, output: JsonObject, *, author: str | None = None) -> None:
        """Say what the right answer to a past request is; it becomes training material before the remote's answer.

        Raises :class:`UnknownRequest`, :class:`InvalidInput`, :class:`Erased`.
        """
        task, received = await self._request(request_id)
        configured, ref = self._task(task)
        schema = configured.output_schema
        problem = schema.check(output) if schema is not None else None
        if problem is not None:
            raise errors.InvalidInput(f"the correction of {request_id} does not fit the output of {task}: {problem}")
        try:
            given = msgspec.json.decode(await self._parts.log.get_body(received.input))
        except log_errors.ErasedBody as error:
            raise errors.Erased(f"the input of {request_id} was erased; a correction would teach nothing") from error
        input_body, output_body = self._body(given), self._body(output)
        command = c.CorrectionGiven(
            request=request_id,
            input=input_body.digest,
            output=output_body.digest,
            author=author,
            holdout=held_out(given, configured.holdout_share),
            tags=received.tags,
        )
        await self._tell_person(task, ref, command, (input_body, output_body))

    async def feedback(self, request_id: str, rating: float, *, comment: str | None = None) -> None:
        """Rate a past answer from 0 (useless) to 1 (right). Raises :class:`UnknownRequest`, :class:`InvalidInput`."""
        if not 0.0 <= rating <= 1.0:
            raise errors.InvalidInput(f"the rating of {request_id} is {rating}; give a number from 0 to 1")
        task, _ = await self._request(request_id)
        body = self._body({"comment": comment}) if comment is not None else None
        command = c.FeedbackGiven(request=request_id, rating=rating, comment=body.digest if body is not None else None)
        await self._tell_person(task, self._task(task)[1], command, (body,) if body is not None else ())

    async def operate(
        self, task: str, action: str, version: str | None = None, *, reason: str = "the operator asked"
    ) -> None:
        """Intervene: ``train``, ``promote``, ``rollback``, ``retire``, or ``reinforce`` (the remote answers for now).

        Without a ``version``, ``promote`` means the challenger and ``rollback`` the champion before. A version that
        takes over is loaded and warm before. Raises :class:`CallerError` where nothing follows, with the reason, which
        the log gets too; :class:`LocalUnavailable` where the version cannot be loaded.
        """
        _, ref = self._task(task)
        asked = {"action": action, "version": version, "reason": reason}
        command = msgspec.convert(asked, type=c.OperatorAsked)  # a wrong action is an error that lists the right ones
        refused = await operating.prepare(self._supervisors[task], command)
        await self._tell_person(task, ref, command, ())
        if refused is not None:
            raise errors.CallerError(refused)

    async def compare(self, task: str, version: str | None = None, against: str | None = None) -> operating.Comparison:
        """Let two versions answer the held-out rows now; ``against`` may be ``base``. It changes nothing.

        Raises :class:`CallerError`, :class:`LocalUnavailable`.
        """
        self._task(task)
        return await operating.compare(self._supervisors[task], version, against)

    async def erase(self, request_id: str, reason: str) -> erasure.Erasure:
        """Delete what a request held: input, answers, corrections, comments. Waits until the request is over.

        Versions that learned from it are named, and an alert stands until they are retired. Erasing again is fine.
        Raises :class:`UnknownRequest`, :class:`DeadlineExceeded`.
        """
        task, _ = await self._request(request_id)
        _, ref = self._task(task)
        under_way = partial(self._under_way, task, request_id)
        await erasure.landed(request_id, under_way, self._parts.clock, self._patience_s())
        found = await erasure.trace(self._parts.log, task, request_id)
        if found.fresh:
            command = c.EraseAsked(request=request_id, bodies=found.fresh, versions=found.versions, reason=reason)
            await self._tell_person(task, ref, command, ())
        gone = await erasure.erase_bodies(self._parts.log, found.bodies)
        return erasure.Erasure(request_id=request_id, bodies=gone, versions=found.versions)

    # ------------------------------------------------------------ looking

    def status(self, task: str) -> Status:
        """One task at this moment. Looking changes nothing. Raises :class:`UnknownTask`."""
        configured, _ = self._task(task)
        settings, now_ns = task_settings(self.config, configured), self._parts.clock.now_ns()
        return reading.status(self._state(task), settings, self._spend, now_ns, self._circuits())

    def report(self) -> Report:
        """All tasks and the money at this moment."""
        states = [(self._state(task.name), task_settings(self.config, task)) for task in self.config.tasks]
        return reading.report(states, self._spend, self._purse, self._parts.clock.now_ns(), self._circuits())

    def _circuits(self) -> dict[str, str]:
        return {one.name: one.breaker.state for one in self._teachers.all} if self._teachers is not None else {}

    async def explain(self, request_id: str) -> Explanation:
        """Why a request went where it went. Raises :class:`UnknownRequest`."""
        found = await reading.explain(self._parts.log, request_id)
        if found is None:
            raise errors.UnknownRequest(f"no request {request_id!r} in this log; see `apprentice events` for what is")
        return found

    def records(self, tags: Sequence[str] | None = None) -> AsyncIterator[Record]:
        """The log's records so far, in order; only those of ``tags`` if given."""
        return self._parts.log.read(tags=tags)

    def evaluator(self, task: str) -> Evaluator:
        """What scores this task's answers. Raises :class:`UnknownTask`."""
        self._task(task)
        return self._supervisors[task].ports.evaluator

    async def paced(self, in_flight: int) -> None:
        """Wait until no version is being trained and at most ``in_flight`` requests are under way, shadows included.

        For rehearsals and scripts that play requests faster than they ever came; an application has no use for it.
        """
        while any(one.learning or len(one.live) > in_flight for one in self._serving()):
            await self._parts.clock.sleep(POLL_S)

    async def settled(self) -> None:
        """Wait until nothing is in flight: all calls settled, all comparisons folded, no training on.

        Everything that was decided by then is in the log.
        """
        if self._treasury is not None:
            await settling.settled(self._refs, self._supervisors.__getitem__, self._treasury)

    # ------------------------------------------------------------ opening and closing

    async def _start(self) -> None:
        parts, scope = self._parts, self._scope
        await fold_spend(parts.log, self._spend)
        await erasure.finish(parts.log, [self.config.local.model_dir / task.name for task in self.config.tasks])
        await note(parts.log, parts.clock, runtime_started(parts.log))
        await scope.__aenter__()
        patient = RestartPolicy(shutdown_s=self._patience_s())
        herald: ActorRef[Announce] = scope.start("herald", lambda ref: Herald(ref, sinks=parts.sinks))
        self._herald = herald
        treasury = self._treasury = start_treasury(scope, parts, self._spend, self._purse, herald, self._tell_one)
        teachers = self._teachers = start_teachers(scope, parts)
        desks = Desks(treasury, teachers, start_local(scope, parts), start_trainer(scope, parts, self.config), herald)
        for task in self.config.tasks:
            ports = task_ports(self.config, task, parts, desks)
            make = partial(self._make_task, task, ports)
            self._refs[task.name] = scope.start(
                f"task/{task.name}", make, policy=patient, capacity=max(1024, 4 * task.max_in_flight)
            )
        for name, ref in self._refs.items():
            await self._started_task(name, ref)
        self._watches = start_watches(parts, self.config, self._supervisors, self._tell_one, self._tell_all)

    def _make_task(self, task: TaskConfig, ports: TaskPorts, ref: ActorRef[TaskMessage]) -> TaskSupervisor:
        made = TaskSupervisor(ref, spec=task_spec(self.config, task), ports=ports)
        self._supervisors[task.name] = made
        return made

    def _tell_all(self, command: c.WorldCommand) -> None:
        """A task too busy to take it hears it the next time."""
        for task in self._refs:
            self._tell_one(task, command)

    def _tell_one(self, task: str, command: c.WorldCommand) -> bool:
        return task in self._refs and self._refs[task].tell(command)

    async def _started_task(self, task: str, ref: ActorRef[TaskMessage]) -> None:
        """Wait until the task has folded its log: a review is answered after it, once it is durable."""
        await self._ask(task, ref, lambda reply: Person(command=c.Review(), bodies=(), reply=reply), START_S)

    def _patience_s(self) -> float:
        return max(task.deadline_s for task in self.config.tasks) + REPLY_GRACE_S

    async def close(self, reason: str = "closed in order") -> None:
        """Stop taking requests, let those in flight end, stop training, close everything. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        parts = self._parts
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(parts.log.close)
            stack.push_async_callback(note_quietly, parts.log, parts.clock, v.RuntimeStopped(reason=reason))
            for part in (*parts.models, parts.trainer):
                stack.push_async_callback(part.aclose)
            stack.push_async_callback(self._scope.shutdown)
            with contextlib.suppress(KeyError):
                await self._scope.stop("trainer")

    def _isolated(self, name: str, error: Exception) -> None:
        task = name.removeprefix("task/")
        self._down[task] = error
        message = f"{name} failed repeatedly and is out of service until the runtime is started again: {error}"
        announce(self._herald, task, v.AlertRaised(alert="isolated", severity="critical", message=message))

    # ------------------------------------------------------------ helpers

    def _task(self, name: str) -> tuple[TaskConfig, ActorRef[TaskMessage]]:
        configured = self.config.task(name)
        if configured is None:
            known = ", ".join(sorted(task.name for task in self.config.tasks))
            raise errors.UnknownTask(f"there is no task {name!r}; the configuration has: {known}")
        return configured, self._refs[name]

    def _checked(self, task: TaskConfig, given: Any) -> bytes:
        problem = (task.input_schema or ANY_OBJECT).check(given)
        if problem is None:
            return encode_json(given)
        raise errors.InvalidInput(f"the input of {task.name} is not accepted: {problem}")

    def _serving(self) -> list[TaskSupervisor]:
        return [one for name, one in self._supervisors.items() if name not in self._down]

    def _under_way(self, task: str, request_id: str) -> bool:
        return request_id in self._supervisors[task].live or request_id in self._state(task).flights

    def _state(self, task: str) -> TaskState:
        return self._supervisors[task].state

    def _body(self, value: JsonObject) -> Body:
        return make_body(encode_json(value), self._parts.randomness.token(16))

    async def _request(self, request_id: str) -> tuple[str, v.RequestReceived]:
        for record in await self._parts.log.by_correlation(request_id):
            event = record.event()
            if isinstance(event, v.RequestReceived):
                return record.stream.removeprefix("task/"), event
        raise errors.UnknownRequest(f"no request {request_id!r} in this log; request ids begin with req_")

    async def _tell_person(
        self, task: str, ref: ActorRef[TaskMessage], command: c.PersonCommand, bodies: tuple[Body, ...]
    ) -> None:
        await self._ask(task, ref, lambda reply: Person(command=command, bodies=bodies, reply=reply), COMMIT_S)

    async def _ask[R](
        self, task: str, ref: ActorRef[TaskMessage], envelope: Callable[[Reply[R]], TaskMessage], seconds: float
    ) -> R:
        try:
            return await ref.ask(envelope, seconds)
        except RequestDenied as denied:
            raise public_denial(denied) from None
        except MailboxFull as error:
            raise errors.Overloaded(f"{task}: {error}") from None
        except TimeoutError:
            raise errors.DeadlineExceeded(f"{task} gave no answer within {seconds:g} s") from None
        except (ActorStopped, MailboxClosed) as error:
            raise self._gone(task, error) from error

    def _gone(self, task: str, error: Exception) -> errors.ApprenticeError:
        if self._closed:
            return errors.Overloaded(f"the runtime is closed; {task} takes no requests any more")
        cause = self._down.get(task, error)
        if isinstance(cause, log_errors.LogPoisoned) or "LogPoisoned" in str(cause):
            return errors.LogPoisoned(f"{task}: {cause}")
        return errors.TaskIsolated(f"{task} failed and was restarted or taken out of service: {cause}")
