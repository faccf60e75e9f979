"""The training slots: as many jobs at once as there are sets of GPUs, each with its own, in the order of asking."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from .actor import Actor, ActorRef, Reply
from .ports import TrainedVersion, Trainer, TrainingFailure, TrainingJob

logger = logging.getLogger(__name__)

type Slot = tuple[int, ...]
"""The GPUs of one job; none: the CPU."""


class Train(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: train; ``progress`` is called with the finished fraction and a word. Fails with :class:`TrainingFailure`."""

    job: TrainingJob
    progress: Callable[[float, str], None]
    reply: Reply[TrainedVersion]


def slots(gpus: Sequence[int], per_job: int | None) -> tuple[Slot, ...]:
    """``gpus`` in sets of ``per_job`` (all in one set if None); a rest that fills no set is left alone.

    Without GPUs there is one slot: the CPU.
    """
    if not gpus:
        return ((),)
    size = len(gpus) if per_job is None else per_job
    assert 1 <= size <= len(gpus), "the configuration refuses jobs larger than there are GPUs"
    return tuple(tuple(gpus[at : at + size]) for at in range(0, len(gpus) - size + 1, size))


class TrainerDesk(Actor[Train]):
    """Holds the slots. Stopping it fails the jobs under way, whose data stay unused."""

    def __init__(self, ref: ActorRef[Train], *, trainer: Trainer, slots: Sequence[Slot] = ((),)) -> None:
        super().__init__(ref)
        self._trainer = trainer
        self._free: asyncio.Queue[Slot] = asyncio.Queue()
        for slot in slots:
            self._free.put_nowait(slot)

    async def receive(self, batch: list[Train]) -> None:
        """Queue the jobs at the slots."""
        for message in batch:
            self.spawn(self._train(message))

    async def _train(self, message: Train) -> None:
        slot = await self._free.get()  # whoever has waited longest is served first
        try:
            if not message.reply.done:
                await self._train_in(slot, message)
        finally:
            self._free.put_nowait(slot)

    async def _train_in(self, slot: Slot, message: Train) -> None:
        job = msgspec.structs.replace(message.job, devices=slot)
        try:
            message.reply.set(await self._trainer.train(job, message.progress))
        except TrainingFailure as failure:
            message.reply.fail(failure)
        except Exception as error:
            logger.exception("%s failed", job.job)
            message.reply.fail(TrainingFailure(f"the trainer failed: {error!r}"))
