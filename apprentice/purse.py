"""The treasury of a runtime."""

from collections.abc import Callable

from apprentice.wiring import Parts
from apprentice_actors import commands as c
from apprentice_actors.actor import ActorRef
from apprentice_actors.herald import Announce
from apprentice_actors.settings import PurseSettings
from apprentice_actors.supervision import Supervisor
from apprentice_actors.treasury import Treasury, TreasuryMessage
from apprentice_events.spend import SpendState

RESERVATIONS_WAITING_MAX = 100_000


def start_treasury(
    scope: Supervisor,
    parts: Parts,
    spend: SpendState,
    settings: PurseSettings,
    herald: ActorRef[Announce],
    tell: Callable[[str, c.Paced], bool],
) -> ActorRef[TreasuryMessage]:
    """Start the treasury over ``spend``, which it alone changes from here on; ``tell`` takes its word to a task."""

    def treasury(ref: ActorRef[TreasuryMessage]) -> Treasury:
        return Treasury(ref, log=parts.log, spend=spend, settings=settings, clock=parts.clock, herald=herald, tell=tell)

    return scope.start("treasury", treasury, capacity=RESERVATIONS_WAITING_MAX)
