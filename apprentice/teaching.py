"""The teachers of a runtime, each behind a desk of its own."""

from apprentice.wiring import Parts, teacher_name
from apprentice_actors.actor import ActorRef
from apprentice_actors.policy.breaker import Breaker
from apprentice_actors.ports import RemoteModel
from apprentice_actors.remote import RemoteDesk, RemoteMessage
from apprentice_actors.supervision import Supervisor
from apprentice_actors.teachers import Teacher, Teachers

CALLS_WAITING_MAX = 100_000


def start_teachers(scope: Supervisor, parts: Parts) -> Teachers:
    """Start a desk per configured provider; the breaker is the desk's to change and everybody's to read."""
    teachers = []
    for provider, model in parts.remotes:
        name, breaker = teacher_name(provider), Breaker()

        def desk(ref: ActorRef[RemoteMessage], model: RemoteModel = model, breaker: Breaker = breaker) -> RemoteDesk:
            return RemoteDesk(ref, model=model, clock=parts.clock, breaker=breaker)

        teachers.append(
            Teacher(
                name=name,
                model=model,
                desk=scope.start(f"remote/{name}", desk, capacity=CALLS_WAITING_MAX),
                breaker=breaker,
                weight=float(provider.weight),
                distillation=provider.distillation,
            )
        )
    return Teachers(teachers, parts.clock)
