"""The training slot: one job at a time, in the order of asking."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from .actor import Actor, ActorRef, Reply
from .ports import TrainedVersion, Trainer, TrainingFailure, TrainingJob

logger = logging.getLogger(__name__)


class Train(msgspec.Struct, frozen=True, kw_only=True):
    """Ask: train; ``progress`` is called with the finished fraction and a word. Fails with :class:`TrainingFailure`."""

    job: TrainingJob
    progress: Callable[[float, str], None]
    reply: Reply[TrainedVersion]


class TrainerDesk(Actor[Train]):
    """Holds the slot. Stopping it fails the job under way, whose data stay unused."""

    def __init__(self, ref: ActorRef[Train], *, trainer: Trainer) -> None:
        super().__init__(ref)
        self._trainer = trainer
        self._slot = asyncio.Lock()

    async def receive(self, batch: list[Train]) -> None:
        """Queue the jobs at the slot."""
        for message in batch:
            self.spawn(self._train(message))

    async def _train(self, message: Train) -> None:
        async with self._slot:
            if message.reply.done:
                return
            try:
                message.reply.set(await self._trainer.train(message.job, message.progress))
            except TrainingFailure as failure:
                message.reply.fail(failure)
            except Exception as error:
                logger.exception("%s failed", message.job.job)
                message.reply.fail(TrainingFailure(f"the trainer failed: {error!r}"))
