"""Apprentice: recurring AI tasks answered through one call, ever more of them locally.

::

    from apprentice import Runtime

    async with Runtime.open("apprentice.yaml") as runtime:
        result = await runtime.submit("classify_ticket", {"text": "…", "metadata": {}})
"""

from apprentice.config import Config
from apprentice.errors import (
    ApprenticeError,
    BudgetExhausted,
    CallerError,
    DeadlineExceeded,
    Decided,
    Erased,
    InvalidConfig,
    InvalidInput,
    KeyConflict,
    LocalUnavailable,
    LogBusy,
    LogCorrupt,
    LogPoisoned,
    MissingExtra,
    MustNotHappen,
    Overloaded,
    RemoteRefused,
    RemoteUnavailable,
    TaskIsolated,
    UnknownRequest,
    UnknownTask,
    WorldError,
)
from apprentice.privacy.erasure import Erasure
from apprentice.results import Explanation, Report, Result, Status
from apprentice.runtime import Runtime
from apprentice.version import __version__
from apprentice.wiring import World

__all__ = [
    "ApprenticeError",
    "BudgetExhausted",
    "CallerError",
    "Config",
    "DeadlineExceeded",
    "Decided",
    "Erased",
    "Erasure",
    "Explanation",
    "InvalidConfig",
    "InvalidInput",
    "KeyConflict",
    "LocalUnavailable",
    "LogBusy",
    "LogCorrupt",
    "LogPoisoned",
    "MissingExtra",
    "MustNotHappen",
    "Overloaded",
    "RemoteRefused",
    "RemoteUnavailable",
    "Report",
    "Result",
    "Runtime",
    "Status",
    "TaskIsolated",
    "UnknownRequest",
    "UnknownTask",
    "World",
    "WorldError",
    "__version__",
]
