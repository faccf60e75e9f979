"""What stands beside the tasks for as long as a runtime runs: the desks of student and trainer, and the watches."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from apprentice.config import Config, TaskConfig
from apprentice.training.dataset import LogDatasets
from apprentice.wiring import Parts, label_fields, make_evaluator, task_settings, validator
from apprentice_actors import commands as c
from apprentice_actors.actor import ActorRef
from apprentice_actors.herald import Announce
from apprentice_actors.local import LocalDesk, LocalMessage
from apprentice_actors.policy.triggers import due
from apprentice_actors.settings import TaskSettings
from apprentice_actors.supervision import RestartPolicy, Supervisor
from apprentice_actors.task import TaskPorts, TaskSupervisor
from apprentice_actors.teachers import Teachers
from apprentice_actors.trainer import Train, TrainerDesk, slots
from apprentice_actors.treasury import TreasuryMessage
from apprentice_actors.watching import remind, watch

LOCAL_WAITING_MAX = 100_000


class Desks(NamedTuple):
    """What all tasks share."""

    treasury: ActorRef[TreasuryMessage]
    teachers: Teachers
    local: ActorRef[LocalMessage]
    trainer: ActorRef[Train]
    herald: ActorRef[Announce]


def task_ports(config: Config, task: TaskConfig, parts: Parts, desks: Desks) -> TaskPorts:
    """Everything that one task talks to."""
    return TaskPorts(
        log=parts.log,
        clock=parts.clock,
        randomness=parts.randomness,
        treasury=desks.treasury,
        teachers=desks.teachers,
        local=desks.local,
        trainer=desks.trainer,
        datasets=LogDatasets(parts.log, parts.redact, {task.name: label_fields(task)}),
        evaluator=make_evaluator(config, task),
        validator=validator(task),
        herald=desks.herald,
    )


def start_local(scope: Supervisor, parts: Parts) -> ActorRef[LocalMessage]:
    """The desk of the local model."""
    return scope.start("local", lambda ref: LocalDesk(ref, model=parts.local), capacity=LOCAL_WAITING_MAX)


def start_trainer(scope: Supervisor, parts: Parts, config: Config) -> ActorRef[Train]:
    """The desk of the trainer, with a slot for each set of GPUs."""
    training = config.local.training
    shared_out = slots(training.gpus, training.gpus_per_job)
    return scope.start(
        "trainer",
        lambda ref: TrainerDesk(ref, trainer=parts.trainer, slots=shared_out),
        policy=RestartPolicy(shutdown_s=0.2),
    )


def start_watches(
    parts: Parts,
    config: Config,
    supervisors: Mapping[str, TaskSupervisor],
    tell_one: Callable[[str, c.WorldCommand], object],
    tell_all: Callable[[c.WorldCommand], None],
) -> list[asyncio.Task[None]]:
    """Those that the configuration has a use for; to be cancelled when the runtime closes."""
    watches: list[asyncio.Task[None]] = []
    if parts.notices:
        watches.append(asyncio.create_task(watch(parts.notices, tell_all, parts.clock)))
    triggers = config.local.triggers
    if triggers.cron is not None or triggers.max_wait_hours is not None or triggers.cooldown_minutes > 0:
        tasks = {
            task.name: partial(_training_due, supervisors, task.name, task_settings(config, task))
            for task in config.tasks
        }
        watches.append(asyncio.create_task(remind(tasks, tell_one, parts.clock)))
    return watches


def _training_due(supervisors: Mapping[str, TaskSupervisor], task: str, settings: TaskSettings, now_ns: int) -> bool:
    return due(supervisors[task].state, settings, now_ns) is not None
