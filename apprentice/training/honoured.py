"""Training settings that a backend cannot honour are refused when it is constructed, by name."""

from collections.abc import Iterable

from apprentice.config import TrainingConfig
from apprentice.errors import InvalidConfig
from apprentice_actors.ports import TrainingJob


def refuse_unhonoured(training: TrainingConfig, backend: str, honoured: Iterable[str]) -> None:
    """Raise :class:`InvalidConfig` for every setting that is not its default and that ``backend`` would ignore."""
    known = frozenset(honoured)
    assert known <= set(TrainingConfig.model_fields), "a backend honours settings that exist"
    problems = []
    for name, field in TrainingConfig.model_fields.items():
        if name not in known and getattr(training, name) != field.get_default(call_default_factory=True):
            problems.append(f"local.training.{name}: the backend {backend} has no such setting; remove it")
    if problems:
        raise InvalidConfig(problems)


def settings_of(training: TrainingConfig, job: TrainingJob) -> TrainingConfig:
    """What counts for a job: what it names itself, else what is configured. Raises ``ValueError``."""
    own = {name: value for name, value in job.settings.items() if name in TrainingConfig.model_fields}
    return TrainingConfig.model_validate({**training.model_dump(), **own})
