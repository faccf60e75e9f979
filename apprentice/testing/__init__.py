"""Tools for testing what uses this package: a simulated provider, recorded answers, scripted local models, faults and
virtual time.
"""

from apprentice.testing.clock import SeededRandomness, VirtualClock, VirtualTimeLoop, run_virtual, virtual_time
from apprentice.testing.dialect import Reply
from apprentice.testing.faults import Fault, FaultPlan
from apprentice.testing.frontier import Call, Frontier
from apprentice.testing.models import ScriptedLocalModel, ScriptedTrainer
from apprentice.testing.stream import RecordedStream

__all__ = [
    "Call",
    "Fault",
    "FaultPlan",
    "Frontier",
    "RecordedStream",
    "Reply",
    "ScriptedLocalModel",
    "ScriptedTrainer",
    "SeededRandomness",
    "VirtualClock",
    "VirtualTimeLoop",
    "run_virtual",
    "virtual_time",
]
