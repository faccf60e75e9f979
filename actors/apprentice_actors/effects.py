"""How effects are carried out: each is a coroutine that ends in the command which reports its outcome."""

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from apprentice_events import vocabulary as v
from apprentice_events.bodies import encode_json, make_body

from . import commands as c
from .actor import ActorStopped, AskTimeout
from .comparing import compare, compare_repeat
from .lessons_effects import drop_version, load_version, sweep_versions, train, validate
from .live import Live
from .local import Answer
from .mailbox import MailboxClosed, MailboxFull
from .ports import LocalAnswer, LocalFailure, RemoteAnswer, RemoteFailure
from .remote import Call
from .teachers import Teacher, Teachers
from .treasury import Denied, Refusal, ReserveFor

if TYPE_CHECKING:
    from .task import TaskSupervisor

logger = logging.getLogger(__name__)

UNREACHABLE = (AskTimeout, MailboxFull, MailboxClosed, ActorStopped)
SALT_BYTES = 16
GRACE_S = 5.0
"""How much longer than the remote's own deadline its desk is waited for: it answers for itself in time."""

LOCAL_SHARE = 0.5
"""Share of the time left that a local answer may take: a local model that hangs leaves the remote time to answer."""
WORD_S = 5.0
"""How long the treasury is waited for to say why it let a call wait in vain."""

type Outcome = Coroutine[Any, Any, c.Command | None]


class Effects:
    """The hands of one task supervisor."""

    def __init__(self, task: "TaskSupervisor") -> None:
        self._task = task
        self._table: dict[type[Any], Callable[[Any], Outcome]] = {
            c.Reserve: self._reserve,
            c.AskLocal: self._ask_local,
            c.CallRemote: self._call_remote,
            c.Hedge: self._hedge,
            c.Score: partial(compare, task),
            c.ScoreRepeat: partial(compare_repeat, task),
            c.StartTraining: partial(train, task),
            c.Validate: partial(validate, task),
            c.LoadVersion: partial(load_version, task),
            c.DropVersion: partial(drop_version, task),
            c.SweepVersions: partial(sweep_versions, task),
        }

    def start(self, effect: c.Effect) -> None:
        """Replies go out at once; everything else runs beside the supervisor and reports back."""
        if isinstance(effect, c.Reply):
            self._reply(effect)
            return
        if isinstance(effect, c.ReplyError):
            self._task.live[effect.request].deny(effect.error, effect.reason, effect.reopens)
            return
        if isinstance(effect, c.Reserve | c.AskLocal | c.CallRemote | c.Hedge | c.Score | c.ScoreRepeat):
            self._task.live[effect.request.id].pending += 1
        self._task.spawn(self._table[type(effect)](effect))

    def _reply(self, effect: c.Reply) -> None:
        live = self._task.live[effect.request]
        output = live.local if effect.by == "local" else live.remote
        assert output is not None, f"{effect.request}: a reply by {effect.by} without its output"
        live.answer(output)

    def _seconds_left(self, live: Live) -> float:
        """Until the caller's deadline; what nobody waits for any more has a deadline of its own."""
        if live.settled:
            return self._task.spec.deadline_s
        return max(live.deadline - self._task.ports.clock.monotonic(), 0.001)

    async def _reserve(self, effect: c.Reserve) -> c.Command:
        task, live = self._task, self._task.live[effect.request.id]
        teachers = task.ports.teachers
        named = effect.teacher
        teacher = teachers.choose(effect.request.draw, live.tried) if named is None else teachers.again(named)
        if teacher is None:
            return _refused(effect, _all_down(teachers, live))
        model = teacher.model
        amount_nd = model.quote_nd(live.question)
        try:
            granted: v.BudgetReserved | Denied = await task.ports.treasury.ask(
                lambda reply: ReserveFor(
                    task=task.spec.name,
                    request=effect.request.id,
                    attempt=effect.attempt,
                    amount_nd=amount_nd,
                    reply=reply,
                ),
                self._seconds_left(live),
            )
        except AskTimeout:
            granted = await self._why_not(amount_nd)
        except UNREACHABLE as error:
            granted = _no_purse(error)
        if isinstance(granted, Denied):
            return _refused(effect, granted)
        live.tried.add(teacher.name)
        return c.Reserved(
            request=effect.request,
            reservation=granted,
            provider=model.provider,
            model=model.model,
            purpose=effect.purpose,
            hedge=effect.hedge,
            local=effect.local,
            version=effect.version,
        )

    async def _hedge(self, effect: c.Hedge) -> c.Command:
        await self._task.ports.clock.sleep(effect.after_s)
        return c.HedgeDue(request=effect.request, attempt=effect.attempt)

    async def _why_not(self, amount_nd: int) -> Denied:
        """The deadline came before the money: the cap that was in the way."""
        task = self._task
        try:
            denied: Denied = await task.ports.treasury.ask(
                lambda reply: Refusal(task=task.spec.name, amount_nd=amount_nd, reply=reply), WORD_S
            )
        except UNREACHABLE as error:
            return _no_purse(error)
        return denied

    async def _ask_local(self, effect: c.AskLocal) -> c.Command:
        task, live = self._task, self._task.live[effect.request.id]
        outcome: c.LocalOk | c.LocalBad
        try:
            answer: LocalAnswer = await task.ports.local.ask(
                lambda reply: Answer(question=live.question, version=effect.version, reply=reply),
                self._seconds_left(live) * LOCAL_SHARE,
            )
            outcome = self._checked(live, effect.role, answer)
        except LocalFailure as failure:
            outcome = c.LocalBad(kind="failed", reason=str(failure))
        except UNREACHABLE as error:
            outcome = c.LocalBad(kind="failed", reason=str(error))
        return c.LocalReturned(
            request=effect.request, version=effect.version, role=effect.role, outcome=outcome, shadow=effect.shadow
        )

    def _checked(self, live: Live, role: c.Role, answer: LocalAnswer) -> c.LocalOk | c.LocalBad:
        reason = self._task.ports.validator(answer.output)
        if reason is not None:
            return c.LocalBad(kind="rejected", reason=reason)
        if not 0.0 <= answer.p_agree <= 1.0:
            return c.LocalBad(kind="failed", reason=f"its p_agree is {answer.p_agree!r}, which is no probability")
        if role == "champion":
            live.local = answer.output
        else:
            live.rival = answer.output
        return c.LocalOk(
            output=self._keep(answer.output),
            p_agree=answer.p_agree,
            latency_ms=answer.latency_ms,
            cost_nd=round(answer.latency_ms * self._task.spec.local_nd_per_ms),
            novelty=answer.novelty,
        )

    def _keep(self, output: dict[str, Any]) -> v.Digest:
        body = make_body(encode_json(output), self._task.ports.randomness.token(SALT_BYTES))
        return self._task.shelf.put(body)

    async def _call_remote(self, effect: c.CallRemote) -> c.Command:
        task, live = self._task, self._task.live[effect.request.id]
        ports, seconds = task.ports, self._seconds_left(live)
        teacher = ports.teachers.named(effect.teacher)
        deadline = ports.clock.monotonic() + task.spec.deadline_s if live.settled else live.deadline
        outcome: c.RemoteOk | c.RemoteBad
        try:
            answer: RemoteAnswer = await teacher.desk.ask(
                lambda reply: Call(question=live.question, deadline=deadline, reply=reply), seconds + GRACE_S
            )
            outcome = self._examined(live, teacher, answer, repeat=effect.repeat)
        except RemoteFailure as failure:
            outcome = c.RemoteBad(kind=failure.kind, reason=failure.message, cost_nd=failure.cost_nd)
        except UNREACHABLE as error:
            worst = teacher.model.quote_nd(live.question)
            outcome = c.RemoteBad(kind="timeout", reason=str(error), cost_nd=worst)
        expired = not live.settled and ports.clock.monotonic() >= live.deadline
        return c.RemoteReturned(
            request=effect.request,
            attempt=effect.attempt,
            outcome=outcome,
            teacher=teacher.name,
            alternatives=ports.teachers.others(live.tried),
            expired=expired,
        )

    def _examined(
        self, live: Live, teacher: Teacher, answer: RemoteAnswer, *, repeat: bool
    ) -> c.RemoteOk | c.RemoteBad:
        """The validation gate holds for the remote too; what it turns down was paid for all the same."""
        reason = self._task.ports.validator(answer.output)
        if reason is not None:
            return c.RemoteBad(
                kind="invalid", reason=f"the answer breaks the output schema: {reason}", cost_nd=answer.cost_nd
            )
        if repeat:
            live.repeat = answer.output
        else:
            self._task.recent.append((live.request.id, answer.output))
            if live.remote is None:  # of two hedged calls the first that answers is served
                live.remote = answer.output
        return c.RemoteOk(
            output=self._keep(answer.output),
            model=answer.model,
            cost_nd=answer.cost_nd,
            usage=answer.usage,
            latency_ms=answer.latency_ms,
            teachable=teacher.teaches,
        )


def _refused(effect: c.Reserve, denied: Denied) -> c.ReservationRefused:
    return c.ReservationRefused(
        request=effect.request,
        attempt=effect.attempt,
        purpose=effect.purpose,
        reason=denied.reason,
        reopens=denied.reopens,
        error=denied.error,
        local=effect.local,
        version=effect.version,
    )


def _all_down(teachers: Teachers, live: Live) -> Denied:
    tried = f"; tried for this request: {', '.join(sorted(live.tried))}" if live.tried else ""
    names = ", ".join(teacher.name for teacher in teachers.all)
    reason = f"no provider can be asked ({names}): after failures in a row each is left alone for a while{tried}"
    return Denied(reason=reason, reopens="", error="RemoteUnavailable")


def _no_purse(error: Exception) -> Denied:
    reason = f"the treasury does not answer ({error}); without it no paid call is made"
    return Denied(reason=reason, reopens="", error="TaskIsolated")
