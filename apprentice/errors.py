"""Everything a caller can be told, as one tree.

::

    ApprenticeError
    ├── CallerError                 what the caller did wrong
    │   ├── InvalidConfig           the file says something that cannot be meant (all problems at once)
    │   ├── MissingExtra            a package that the config needs is not installed
    │   ├── UnknownTask             no such task in the config
    │   ├── UnknownRequest          no such request in the log
    │   ├── InvalidInput            the input breaks the task's schema
    │   ├── KeyConflict             the same key came with another input
    │   └── Erased                  what the key or the request stood for was erased
    ├── WorldError                  what the world did
    │   ├── RemoteUnavailable       no provider could be reached in time
    │   ├── RemoteRefused           the remote model declined, was cut off or answered outside the schema
    │   ├── LocalUnavailable        the local model does not answer and nothing else may
    │   └── DeadlineExceeded        the request's deadline passed
    ├── Decided                     what was decided
    │   ├── BudgetExhausted         a cap stands in the way; says when the window reopens
    │   └── Overloaded              more requests in flight than the stated limit
    └── MustNotHappen               what must never happen
        ├── LogCorrupt              the chain does not verify
        ├── LogPoisoned             a commit failed: what is durable is not known
        ├── LogBusy                 another process writes this log
        └── TaskIsolated            the task failed repeatedly and was taken out of service
"""


class ApprenticeError(Exception):
    """Base of all errors that cross the public face."""


class CallerError(ApprenticeError):
    """The call or the configuration is wrong; the same call again fails again."""


class InvalidConfig(CallerError):
    """The configuration is wrong. ``problems`` lists every finding: path, what was expected, what to write."""

    def __init__(self, problems: list[str], source: str = "the configuration") -> None:
        self.problems = problems
        self.source = source
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{source} has {len(problems)} problem{'s' if len(problems) != 1 else ''}:\n{listed}")


class MissingExtra(CallerError):
    """A package is not installed; the message names the extra that brings it."""


class UnknownTask(CallerError):
    """No task of this name is configured."""


class UnknownRequest(CallerError):
    """No request of this id is in the log."""


class InvalidInput(CallerError):
    """The input breaks the task's schema; the message names the field."""


class KeyConflict(CallerError):
    """The idempotency key was used with another input."""


class Erased(CallerError):
    """The content was erased on request."""


class WorldError(ApprenticeError):
    """Something outside failed; the same call may succeed later."""


class RemoteUnavailable(WorldError):
    """No remote provider answered in time."""


class RemoteRefused(WorldError):
    """The remote model answered with something that is not an answer."""


class LocalUnavailable(WorldError):
    """The local model does not answer, and no remote may be asked."""


class DeadlineExceeded(WorldError):
    """The request's deadline passed."""


class Decided(ApprenticeError):
    """The runtime refused on purpose."""


class BudgetExhausted(Decided):
    """A cap stands in the way. ``reopens`` is the UTC time at which its window reopens, ISO 8601."""

    def __init__(self, message: str, reopens: str = "") -> None:
        super().__init__(message)
        self.reopens = reopens


class Overloaded(Decided):
    """Too many requests in flight; slow down and try again."""


class MustNotHappen(ApprenticeError):
    """An invariant is broken; the operator has to look."""


class LogCorrupt(MustNotHappen):
    """A record does not match its digest or the chain."""


class LogPoisoned(MustNotHappen):
    """A commit failed; nothing is written to this log any more."""


class LogBusy(MustNotHappen):
    """Another process writes this log."""


class TaskIsolated(MustNotHappen):
    """The task's supervisor failed repeatedly."""
