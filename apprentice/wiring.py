"""From the configuration to the parts of a runtime: settings, models, ports. The one place that knows all of them."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from apprentice import evaluators
from apprentice.alerts import LogSink, WebhookSink
from apprentice.backends import make_local, make_trainer, training_settings
from apprentice.config import BudgetConfig, Config, ProviderConfig, TaskBudgetConfig, TaskConfig, ToolConfig, check
from apprentice.errors import InvalidConfig
from apprentice.privacy.build import redactors
from apprentice.privacy.models import RedactingLocalModel, RedactingModel, redact_rows
from apprentice.remote.pricing import PriceTable
from apprentice.remote.providers import PROVIDERS, model_list
from apprentice.schema import ANY_OBJECT
from apprentice.system import SystemClock, SystemRandomness
from apprentice.version import __version__
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.ports import (
    AlertSink,
    Clock,
    Evaluator,
    Example,
    LocalModel,
    ModelNotices,
    Randomness,
    RemoteModel,
    Trainer,
    Validator,
)
from apprentice_actors.settings import Cap, PurseSettings, TaskSettings
from apprentice_actors.task import TaskSpec
from apprentice_events.log import EventLog
from apprentice_events.sqlite import SqliteLog
from apprentice_events.vocabulary import RuntimeStarted

NANO = Decimal(10**9)
LOG_FILE = "log.db"


class World(msgspec.Struct, kw_only=True):
    """What a runtime takes from outside instead of making it: for tests, simulations and embedders. None: make it."""

    clock: Clock | None = None
    randomness: Randomness | None = None
    log: EventLog | None = None
    remote: RemoteModel | None = None
    additional_remotes: tuple[RemoteModel, ...] = ()
    """For the configuration's ``additional_providers``, in their order; looked at only where ``remote`` is given."""
    notices: tuple[ModelNotices | None, ...] = ()
    """What is announced about these models, in the same order; None: nobody says. Looked at as the models are."""
    local: LocalModel | None = None
    trainer: Trainer | None = None
    sinks: tuple[AlertSink, ...] = ()
    """Alert sinks beside those of the configuration."""


class Parts(msgspec.Struct, kw_only=True):
    """Everything a runtime is put together from."""

    clock: Clock
    randomness: Randomness
    log: EventLog
    remotes: tuple[tuple[ProviderConfig, RemoteModel], ...]
    """The teachers in fallback order."""
    notices: tuple[tuple[str, ModelNotices], ...]
    """The teachers whose providers announce what becomes of them, by name."""
    local: LocalModel
    trainer: Trainer
    sinks: tuple[AlertSink, ...]
    redact: Callable[[str, Example], Example]
    """A task's training row as a trainer may see it."""

    @property
    def models(self) -> tuple[RemoteModel | LocalModel, ...]:
        """All of them, to be closed."""
        return (*(model for _, model in self.remotes), self.local)


def nano(amount: Decimal) -> int:
    """US dollars as integer nano-dollars."""
    return int(amount * NANO)


def dollars(amount_nd: int) -> str:
    """Nano-dollars as exact decimal text, at least two places."""
    text = f"{Decimal(amount_nd) / NANO:f}"
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


# ---------------------------------------------------------------- settings


def task_settings(config: Config, task: TaskConfig) -> TaskSettings:
    """The rules of judgement of one task."""
    thresholds, sampling, triggers = task.confidence_thresholds, config.sampling, config.local.triggers
    return TaskSettings(
        task=task.name,
        phase1_to_phase2=thresholds.phase1_to_phase2,
        phase2_to_phase3=thresholds.phase2_to_phase3,
        coaching_trigger=thresholds.coaching_trigger,
        emergency_threshold=thresholds.emergency_threshold,
        guarantee=task.guarantee.agreement,
        alpha=task.guarantee.alpha,
        gates=DEFAULT_GATES,
        window_size=sampling.window_size,
        decay=sampling.decay_function,
        min_floor=sampling.min_floor,
        trend_sensitivity=sampling.trend_sensitivity,
        detect_drop=sampling.detect.drop if sampling.detect is not None else None,
        detect_within=sampling.detect.within if sampling.detect is not None else None,
        false_alarm_every=sampling.false_alarm_every,
        self_agreement_rate=sampling.self_agreement_rate,
        classes=_classes(task),
        batch=config.local.fine_tune_batch_size,
        cron=triggers.cron,
        zone=config.budget.timezone,
        max_wait_s=triggers.max_wait_hours * 3600 if triggers.max_wait_hours is not None else None,
        quality_drop=triggers.quality_drop,
        cooldown_s=triggers.cooldown_minutes * 60,
        holdout_share=task.holdout_share,
        must_pass=task.must_pass_tags,
        keep_versions=config.local.keep_versions,
        on_exhausted=task.on_exhausted,
        on_remote_down=task.on_remote_down,
        audit=task.audit,
        hedge_after_s=config.remote.hedge_after_s,
        licences=tuple((teacher_name(each), each.distillation) for each in config.remote.providers),
        pacing=config.budget.pacing,
        coaching_budget_nd=_coaching_budget(config),
    )


def _classes(task: TaskConfig) -> int | None:
    """How many classes the compared output has, where it is one field with listed values."""
    if task.output_schema is None:
        return None
    fields = task.match_fields or task.output_schema.fields
    if len(fields) != 1:
        return None
    values = (task.output_schema.find(fields[0]) or {}).get("enum")
    return len(values) if values is not None else None


def label_fields(task: TaskConfig) -> tuple[str, ...]:
    """The fields of the output whose values are listed."""
    schema = task.output_schema
    return tuple(name for name in schema.fields if "enum" in (schema.find(name) or {})) if schema is not None else ()


def _coaching_budget(config: Config) -> int | None:
    caps = [cap for cap in (config.budget.daily, config.budget.weekly, config.budget.monthly) if cap is not None]
    return nano(min(caps) * Decimal(str(config.budget.coaching_share))) if caps else None


def teacher_name(provider: ProviderConfig) -> str:
    """``provider/model``."""
    return f"{provider.provider}/{provider.model}"


def purse_settings(config: Config) -> PurseSettings:
    """The caps, global and per task."""
    caps = [*_caps(None, config.budget)]
    for task in config.tasks:
        caps += _caps(task.name, task.budget)
    budget = config.budget
    return PurseSettings(caps=tuple(caps), zone=budget.timezone, warn_at=budget.warn_at, pacing=budget.pacing)


def _caps(task: str | None, budget: BudgetConfig | TaskBudgetConfig) -> Iterator[Cap]:
    if budget.daily is not None:
        yield Cap(window="day", limit_nd=nano(budget.daily), task=task)
    if budget.weekly is not None:
        yield Cap(window="week", limit_nd=nano(budget.weekly), task=task)
    if budget.monthly is not None:
        yield Cap(window="month", limit_nd=nano(budget.monthly), task=task)


def task_spec(config: Config, task: TaskConfig) -> TaskSpec:
    """The task as its supervisor sees it."""
    return TaskSpec(
        name=task.name,
        settings=task_settings(config, task),
        description="\n\n".join(part for part in (task.description, task.instructions) if part),
        output_schema=task.output_schema.json_schema if task.output_schema is not None else None,
        match_fields=task.match_fields,
        deadline_s=task.deadline_s,
        max_in_flight=task.max_in_flight,
        max_output_tokens=task.max_output_tokens,
        image_fields=task.input_schema.images if task.input_schema is not None else (),
        tools=tuple(_tool(tool) for tool in task.tools),
        model_dir=config.local.model_dir,
        local_nd_per_ms=float(config.local.price_per_hour * NANO / 3_600_000),
        training=training_settings(config, task),
    )


def _tool(tool: ToolConfig) -> dict[str, Any]:
    parameters = tool.parameters.json_schema if tool.parameters is not None else {"type": "object", "properties": {}}
    return {"name": tool.name, "description": tool.description, "parameters": parameters}


def validator(task: TaskConfig) -> Validator:
    """The validation gate: the output schema, where there is one."""
    return (task.output_schema or ANY_OBJECT).check


# ---------------------------------------------------------------- models


def check_providers(config: Config) -> PriceTable:
    """Prices of all providers, the config's own first. Raises :class:`InvalidConfig` for what cannot be used."""
    overrides: dict[tuple[str, str], Mapping[str, Any]] = {
        (each.provider, each.model): each.price.model_dump()
        for each in config.remote.providers
        if each.price is not None
    }
    table = PriceTable.load().with_overrides(overrides, checked="the configuration")
    check(config, known_price=lambda provider, model: table.find(provider, model) is not None)
    return table


def make_remotes(config: Config, clock: Clock, randomness: Randomness) -> tuple[RemoteModel, ...]:
    """The teachers. Raises :class:`InvalidConfig` for every unpriced model, else for every missing key."""
    prices, made, problems = check_providers(config), [], []
    for each in config.remote.providers:
        price = prices.find(each.provider, each.model)
        assert price is not None, "check_providers found a price"
        try:
            made.append(PROVIDERS[each.provider](each, price, clock, randomness))
        except InvalidConfig as error:
            problems += error.problems
    if problems:
        raise InvalidConfig(problems)
    return tuple(made)


def make_notices(config: Config) -> tuple[ModelNotices | None, ...]:
    """The model lists of the teachers' providers, where there are such; checked by :func:`make_remotes` before."""
    prices = check_providers(config)
    found = [(each, prices.find(each.provider, each.model)) for each in config.remote.providers]
    return tuple(model_list(each, price) if price is not None else None for each, price in found)


def make_evaluator(config: Config, task: TaskConfig) -> Evaluator:
    """The task's evaluator; semantic similarity uses the configured sentence encoder."""
    encoder = None
    if task.evaluator == "semantic_similarity" and config.local.encoder is not None:
        from apprentice.local.encoder import open_encoder

        encoder = open_encoder(config.local.encoder)
    return evaluators.build(task, encoder)


def open_log(folder: Path) -> EventLog:
    """The log in its folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqliteLog.open(folder / LOG_FILE)


def runtime_started(log: EventLog) -> RuntimeStarted:
    """The first word of a process in ``log``."""
    if isinstance(log, SqliteLog):
        return RuntimeStarted(version=__version__, sqlite=log.sqlite_version, epoch=log.epoch)
    return RuntimeStarted(version=__version__, sqlite="none", epoch=0)


def make_sinks(config: Config) -> tuple[AlertSink, ...]:
    """Where alerts go: the program's own log, and the webhook if there is one."""
    if config.alerts.webhook is None:
        return (LogSink(),)
    return (LogSink(), WebhookSink(str(config.alerts.webhook)))


def assemble(config: Config, world: World) -> Parts:
    """Make what the world does not bring. What was made is closed again if a later part fails."""
    clock, randomness = world.clock or SystemClock(), world.randomness or SystemRandomness()
    screens = redactors(config)
    if world.remote is not None:
        remotes, notices = (world.remote, *world.additional_remotes), world.notices
    else:
        remotes, notices = make_remotes(config, clock, randomness), make_notices(config)
    if screens:
        remotes = tuple(RedactingModel(remote, screens) for remote in remotes)
    local = world.local or make_local(config.local)
    trainer = world.trainer or make_trainer(config.local)
    log = world.log or open_log(config.storage.path)
    return Parts(
        clock=clock,
        randomness=randomness,
        log=log,
        remotes=tuple(zip(config.remote.providers, remotes, strict=False)),
        notices=tuple(
            (teacher_name(each), notice)
            for each, notice in zip(config.remote.providers, notices, strict=False)
            if notice is not None
        ),
        local=RedactingLocalModel(local, screens) if screens else local,
        trainer=trainer,
        sinks=(*make_sinks(config), *world.sinks),
        redact=redact_rows(screens),
    )
