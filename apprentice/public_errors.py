"""From what the inner floors raise to the public error tree."""

from apprentice import errors
from apprentice_actors.live import RequestDenied
from apprentice_events import errors as log_errors


def public_denial(denied: RequestDenied) -> errors.ApprenticeError:
    """The public error of a request that got no answer."""
    if denied.error == "BudgetExhausted":
        return errors.BudgetExhausted(denied.reason, denied.reopens)
    found: type[errors.ApprenticeError] = getattr(errors, denied.error)
    return found(denied.reason)


def public_log_error(error: log_errors.LogError) -> errors.ApprenticeError:
    """The log's error as one of the public tree."""
    for inner, public in (
        (log_errors.LogBusy, errors.LogBusy),
        (log_errors.LogCorrupt, errors.LogCorrupt),
    ):
        if isinstance(error, inner):
            return public(str(error))
    return errors.LogPoisoned(str(error))
