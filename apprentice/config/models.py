"""The whole configuration: every section beside ``tasks``, and what holds between them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from apprentice.config.local import LocalConfig
from apprentice.config.task import TaskConfig
from apprentice.config.types import (
    Count,
    Distance,
    Findings,
    Money,
    PositiveShare,
    Rate,
    Seconds,
    Section,
    Share,
    Temperature,
    Text,
    TimeZone,
    Url,
    Where,
)

ProviderName = Literal["anthropic", "openai", "google", "azure", "openrouter", "openai_compatible"]

KEY_VARIABLES: Mapping[str, str] = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "google": "GEMINI_API_KEY",
    "azure": "AZURE_OPENAI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}
"""The environment variable that holds a provider's key where the configuration names none."""
SERVICE_TIERS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("auto", "standard_only"),
    "openai": ("auto", "default", "flex", "priority", "fast", "ultrafast", "scale"),
    "azure": ("auto", "default", "priority"),
    "google": ("standard", "flex", "priority"),
}
"""What can be asked for as ``service_tier``; the other providers take any."""
_OWN_ADDRESS = ("azure", "openai_compatible")
"""Providers without an address that is the same for everybody."""


class PriceConfig(Section):
    """What a remote model costs, in US dollars per million tokens."""

    input: Rate = Field(description="Price of input tokens.")
    output: Rate = Field(description="Price of output tokens.")
    cache_read: Rate | None = Field(None, description="Price of input tokens read from the provider's cache.")
    cache_write: Rate | None = Field(None, description="Price of input tokens written to the provider's cache.")


class ProviderConfig(Section):
    """One remote model behind one provider."""

    compared: ClassVar = frozenset({"provider"})

    provider: ProviderName = Field(description="Who serves the model; decides the wire format.")
    model: Text = Field(description="The model's exact name at the provider.")
    api_key_env: Text | None = Field(
        None,
        description="The environment variable that holds the API key.",
        json_schema_extra={"default_text": "the provider's usual one, such as ANTHROPIC_API_KEY"},
    )
    api_key_file: Path | None = Field(None, description="A file that holds the API key, instead of the variable.")
    base_url: Url | None = Field(
        None,
        description="The address of the API; needed for azure and openai_compatible.",
        json_schema_extra={"default_text": "the provider's own"},
        repr=False,  # it may hold a password
    )
    max_concurrent: Count = Field(64, description="Calls to this provider under way at once.")
    requests_per_minute: Count | None = Field(
        None, description="Calls to this provider per minute; the limits it reports are kept in any case."
    )
    max_attempts: Count = Field(4, description="Attempts per call; only what was certainly not billed is repeated.")
    api: Literal["chat", "responses"] = Field(
        "chat", description="Which API of openai or azure is spoken: Chat Completions or Responses."
    )
    deployment: Text | None = Field(
        None, description="The name of the deployment at azure.", json_schema_extra={"default_text": "the model's name"}
    )
    api_version: Text | None = Field(
        None, description="For azure resources without the v1 endpoint: the `api-version` to ask for."
    )
    service_tier: Text | None = Field(
        None, description="The service tier to ask for; priced as answered. The provider decides if left out."
    )
    temperature: Temperature | None = Field(
        None, description="The sampling temperature; not sent if left out, as the newest models refuse it."
    )
    weight: Distance = Field(
        0.0,
        description="Share of requests that it is asked first, relative to the other weights; all zero: in order.",
    )
    distillation: Literal["allowed", "disallowed", "unknown"] = Field(
        "unknown", description="Whether the provider's terms let its answers train a model; unknown does, and warns."
    )
    price: PriceConfig | None = Field(
        None, description="Prices in the service tier that is asked for, for a model not in the built-in table."
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_key(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or data.get("api_key_env") or data.get("api_key_file"):
            return data
        usual = KEY_VARIABLES.get(str(data.get("provider")))
        return {**data, "api_key_env": usual} if usual else data

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        found: list[tuple[Where, str]] = []
        if self.api_key_env and self.api_key_file:
            found.append((("api_key_file",), "the key is named twice, also as api_key_env; keep one"))
        if self.provider in _OWN_ADDRESS and self.base_url is None:
            found.append((("base_url",), f"missing: {self.provider} has no common address; write where yours is"))
        found += self._unspoken()
        if found:
            raise Findings(found)
        return self

    def _unspoken(self) -> Iterator[tuple[Where, str]]:
        """Keys that the provider's API has no word for."""
        if self.api == "responses" and self.provider not in ("openai", "azure"):
            yield ("api",), f"`responses` is not spoken by {self.provider}; remove it"
        if self.api == "responses" and self.api_version is not None:
            yield ("api",), "`responses` needs the v1 endpoint; remove api_version or write `chat`"
        if self.provider != "azure":
            for key in ("deployment", "api_version"):
                if getattr(self, key) is not None:
                    yield (key,), f"is not read for {self.provider}; remove it"
        tiers = SERVICE_TIERS.get(self.provider)
        if self.service_tier is not None and tiers is not None and self.service_tier not in tiers:
            listed = ", ".join(tiers)
            yield ("service_tier",), f"`{self.service_tier}` is not known to {self.provider}; choose one of: {listed}"


class RemoteConfig(ProviderConfig):
    """The teacher: the remote model that is asked first, and others beside it."""

    additional_providers: tuple[ProviderConfig, ...] = Field(
        (), description="Further remote models: asked when the ones before are down, or by weight."
    )
    hedge_after_s: Seconds | None = Field(
        None, description="Seconds after which a second provider is asked beside a slow one; never if left out."
    )

    @property
    def providers(self) -> tuple[ProviderConfig, ...]:
        """All remote models, the main one first."""
        return (self, *self.additional_providers)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [(each.provider, each.model, each.base_url) for each in self.providers]
        text = "names the same provider and model as an earlier one; remove it"
        again = [index for index, name in enumerate(names) if name in names[:index]]
        if again:
            raise Findings([(("additional_providers", index - 1), text) for index in again])
        return self


class DetectConfig(Section):
    """The drop that audits must notice."""

    drop: PositiveShare = Field(description="The fall of agreement to be noticed, such as 0.2.")
    within: Count = Field(description="Requests within which it must be noticed.")


class SamplingConfig(Section):
    """How many local answers are checked against the remote model."""

    decay_function: Literal["exponential", "linear", "step"] = Field(
        "exponential", description="How the checked share falls as correlation rises."
    )
    min_floor: PositiveShare = Field(0.02, description="The checked share never falls under this.")
    window_size: Count = Field(100, description="Comparisons in the rolling window of the correlation.")
    trend_sensitivity: Share = Field(0.05, description="Change of the target share that is acted on.")
    detect: DetectConfig | None = Field(None, description="A drop to notice; raises the floor to what that takes.")
    false_alarm_every: Count = Field(1000, description="Audits per false alarm of the drift detectors, on average.")
    self_agreement_rate: Share = Field(
        0.0,
        description="Share of remote answers that are paid for a second time, to measure how far the remote model "
        "agrees with itself; 0.01 is enough for most.",
    )


class BudgetConfig(Section):
    """What may be spent on remote models."""

    daily: Money | None = Field(None, description="Most to spend in a day; no cap if left out.")
    weekly: Money | None = Field(None, description="Most to spend in a week (from Monday); no cap if left out.")
    monthly: Money | None = Field(None, description="Most to spend in a calendar month; no cap if left out.")
    currency: Literal["USD"] = Field("USD", description="The currency of all amounts; prices are in US dollars.")
    timezone: TimeZone = Field("UTC", description="Where days, weeks and months begin.")
    coaching_share: Share = Field(0.2, description="Share of each cap that coaching may use.")
    pacing: bool = Field(
        False, description="Whether audits above the floor slow down when a cap's money runs ahead of its time."
    )
    warn_at: PositiveShare = Field(0.8, description="Share of a cap at which a warning is raised.")


class StorageConfig(Section):
    """Where the event log is kept."""

    path: Path = Field(Path("./.apprentice/"), description="The folder of the event log, log.db.")


class AlertsConfig(Section):
    """Where alerts go, beside the program's own log."""

    webhook: Url | None = Field(
        None,
        description="An address that alerts are posted to as JSON.",
        repr=False,  # for many services, who knows it may post
    )


class Config(Section):
    """The configuration file. Relative paths are taken from the folder the file is in."""

    tasks: tuple[TaskConfig, ...] = Field(description="The tasks, at least one.")
    remote: RemoteConfig = Field(description="The remote model that teaches.")
    local: LocalConfig = Field(LocalConfig(), description="The local model that learns.")
    sampling: SamplingConfig = Field(SamplingConfig(), description="How local answers are spot-checked.")
    budget: BudgetConfig = Field(BudgetConfig(), description="Spending caps.")
    storage: StorageConfig = Field(StorageConfig(), description="Where things are kept.")
    alerts: AlertsConfig = Field(AlertsConfig(), description="Who is told.")

    def task(self, name: str) -> TaskConfig | None:
        """The task of this name, if there is one."""
        return next((task for task in self.tasks if task.name == name), None)

    @model_validator(mode="after")
    def _workable(self) -> Self:
        if found := list(self._findings()):
            raise Findings(found)
        return self

    def _findings(self) -> Iterator[tuple[Where, str]]:
        if not self.tasks:
            yield ("tasks",), "is empty; describe at least one task"
        names = [task.name for task in self.tasks]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("tasks", index, "name"), f"`{name}` is the name of tasks[{names.index(name)}] too; rename one"
