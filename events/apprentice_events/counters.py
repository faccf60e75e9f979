"""How often what happened: the totals of a task, folded by ``task_state``. Pure."""

import msgspec

from . import vocabulary as v


class Counters(msgspec.Struct, kw_only=True):
    """Totals since the beginning of the log."""

    requests: int = 0
    served_remote: int = 0
    served_local: int = 0
    degraded: int = 0
    failed: int = 0
    recovered: int = 0
    remote_calls: int = 0
    remote_answers: int = 0
    remote_failures: int = 0
    shadow_attempted: int = 0
    shadow_ran: int = 0
    shadow_failed: int = 0
    shadow_silent: int = 0
    """Times in a row that the shadow was asked and has not answered."""
    local_rejected: int = 0
    local_failed: int = 0
    audits_missed: int = 0
    evaluator_failures: int = 0
    withheld: int = 0
    """Answers that may not be trained on."""
    corrections: int = 0
    feedback: int = 0
    feedback_sum: float = 0.0
    remote_cost_nd: int = 0
    """Cost of calls that answered, for the mean price of an answer."""
    saved_nd: int = 0

    def shadow_spoke(self) -> None:
        """The shadow that was asked has answered, within the schema or not."""
        self.shadow_ran += 1
        self.shadow_silent = 0

    def count(self, event: v.EvaluatorFailed | v.CorrectionReceived | v.FeedbackReceived) -> None:
        """Count what changes nothing else."""
        if isinstance(event, v.EvaluatorFailed):
            self.evaluator_failures += 1
        elif isinstance(event, v.CorrectionReceived):
            self.corrections += 1
        else:
            self.feedback += 1
            self.feedback_sum += event.rating
