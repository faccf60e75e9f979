"""Tools for testing what uses this package: a simulated provider, recorded answers, faults, virtual time."""

from apprentice.testing.clock import SeededRandomness, VirtualClock, VirtualTimeLoop, run_virtual
from apprentice.testing.faults import Fault, FaultPlan
from apprentice.testing.frontier import Call, Frontier
from apprentice.testing.messages_api import Reply
from apprentice.testing.stream import RecordedStream

__all__ = [
    "Call",
    "Fault",
    "FaultPlan",
    "Frontier",
    "RecordedStream",
    "Reply",
    "SeededRandomness",
    "VirtualClock",
    "VirtualTimeLoop",
    "run_virtual",
]
