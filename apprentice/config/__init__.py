"""The configuration: one YAML file, checked as a whole, every key described by its model."""

from apprentice.config.document import KeyDoc, describe, markdown
from apprentice.config.load import KnownPrice, check, load, loads
from apprentice.config.local import LocalConfig, ServerConfig, TrainingConfig, TriggersConfig
from apprentice.config.models import (
    KEY_VARIABLES,
    AlertsConfig,
    BudgetConfig,
    Config,
    DetectConfig,
    PriceConfig,
    ProviderConfig,
    RemoteConfig,
    SamplingConfig,
    StorageConfig,
)
from apprentice.config.task import GuaranteeConfig, TaskBudgetConfig, TaskConfig, ThresholdsConfig, ToolConfig

__all__ = [
    "KEY_VARIABLES",
    "AlertsConfig",
    "BudgetConfig",
    "Config",
    "DetectConfig",
    "GuaranteeConfig",
    "KeyDoc",
    "KnownPrice",
    "LocalConfig",
    "PriceConfig",
    "ProviderConfig",
    "RemoteConfig",
    "SamplingConfig",
    "ServerConfig",
    "StorageConfig",
    "TaskBudgetConfig",
    "TaskConfig",
    "ThresholdsConfig",
    "ToolConfig",
    "TrainingConfig",
    "TriggersConfig",
    "check",
    "describe",
    "load",
    "loads",
    "markdown",
]
