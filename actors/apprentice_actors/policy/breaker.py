"""The circuit breaker of a provider: after failures in a row nothing is sent for a while, then one call probes. Pure.

One table says it all; a failure here is an outage, not a refusal or a wrong answer, which say nothing about health.
"""

from typing import Literal

import msgspec

type BreakerState = Literal["closed", "open", "probing"]

FAILURES_MAX = 5
"""Outages in a row that open the circuit."""
COOL_DOWN_S = 20.0
COOL_DOWN_MAX_S = 300.0


class Breaker(msgspec.Struct, kw_only=True):
    """What a provider's last calls allow. Times are monotonic seconds."""

    state: BreakerState = "closed"
    failures_in_a_row: int = 0
    cool_down_s: float = COOL_DOWN_S
    """How long it stays open; doubled by each failed probe."""
    reopens: float = 0.0

    def allows(self, now: float) -> bool:
        """Whether a call may be sent: always when closed, a single probe once it has cooled down."""
        return self.state == "closed" or (self.state == "open" and now >= self.reopens)

    def sent(self, now: float) -> None:
        """A call goes out; through an open circuit it is the probe, and no second one follows it."""
        if self.state == "open":
            self.state = "probing"

    def succeeded(self) -> None:
        """The provider answers."""
        self.state, self.failures_in_a_row, self.cool_down_s = "closed", 0, COOL_DOWN_S

    def failed(self, now: float) -> None:
        """An outage. A failed probe waits twice as long."""
        self.failures_in_a_row += 1
        if self.state == "probing":
            self.cool_down_s = min(2 * self.cool_down_s, COOL_DOWN_MAX_S)
            self.state, self.reopens = "open", now + self.cool_down_s
        elif self.state == "closed" and self.failures_in_a_row >= FAILURES_MAX:
            self.state, self.reopens = "open", now + self.cool_down_s
