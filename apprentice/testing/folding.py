"""Every state of a runtime, folded anew from a log: for tests and audits that compare it with the live one."""

from collections.abc import Iterable

from apprentice_events.log import Record
from apprentice_events.spend import MONEY, SpendState
from apprentice_events.task_state import TaskState, evolve


def refold(records: Iterable[Record], zone: str = "UTC") -> tuple[dict[str, TaskState], SpendState]:
    """The state of every task by name, and the purse, after ``records``."""
    states: dict[str, TaskState] = {}
    spend = SpendState(zone=zone)
    for record in records:
        task = record.stream.removeprefix("task/")
        if task == record.stream:
            continue
        event = record.event()
        evolve(states.setdefault(task, TaskState(task=task)), event, record.time_ns)
        if isinstance(event, MONEY):
            spend.apply(task, event, record.time_ns)
    return states, spend
