"""Which local model and which trainer a configuration means. Each is imported only where it is asked for."""

from typing import Any

from apprentice.config import Config, LocalConfig, TaskConfig
from apprentice_actors.ports import LocalModel, Trainer

_EMBEDDED = ("balance", "max_minutes", "weights")
"""The keys of ``local.training`` that the embedded backend honours."""


def make_local(local: LocalConfig) -> LocalModel:
    """The server of local versions. Raises :class:`MissingExtra` or :class:`InvalidConfig`."""
    match local.backend:
        case "embedded":
            from apprentice.local.embedded import EmbeddedModel

            return EmbeddedModel()
        case "vllm":
            from apprentice.local.vllm import VllmModel

            return VllmModel(local)
        case "ollama":
            from apprentice.local.ollama import OllamaModel

            return OllamaModel(local)
        case "llama_cpp":
            from apprentice.local.llama_cpp import LlamaCppModel

            return LlamaCppModel(local)
        case "transformers":
            from apprentice.local.in_process import TransformersModel

            return TransformersModel(local)
        case "openai":
            from apprentice.local.hosted import HostedModel

            return HostedModel(local)


def make_trainer(local: LocalConfig) -> Trainer:
    """What makes versions. Raises :class:`MissingExtra` or :class:`InvalidConfig`."""
    match local.fine_tune_backend:
        case "embedded":
            from apprentice.training.embedded import EmbeddedTrainer
            from apprentice.training.honoured import refuse_unhonoured

            refuse_unhonoured(local.training, "embedded", _EMBEDDED)
            return EmbeddedTrainer()
        case "lora":
            from apprentice.training.lora import LoraTrainer

            return LoraTrainer(local)
        case "unsloth" | "axolotl" | "huggingface" as backend:
            from apprentice.training.recipes import RecipeTrainer

            return RecipeTrainer(local, backend)
        case "openai":
            from apprentice.training.hosted import HostedTrainer

            return HostedTrainer(local)


def training_settings(config: Config, task: TaskConfig) -> dict[str, Any]:
    """What a trainer is told beyond the data."""
    local = config.local
    if local.backend != "embedded":
        training = local.training.model_dump(mode="json", exclude={"token_price"})  # a price is no setting
        return {"base_model": local.base_model, "dtype": local.dtype, **training}
    settings: dict[str, Any] = {
        "numeric_tolerance": task.numeric_tolerance,
        "encoder": local.encoder,
        "encoder_tuning": local.encoder_tuning if local.encoder_tuning != "none" else None,
        "balance": local.training.balance,
        "time_cap_s": 60.0 * local.training.max_minutes if "max_minutes" in local.training.model_fields_set else None,
        "source_weights": {source: weight for source, weight in local.training.weights.items() if weight != 1.0},
    }
    return {name: value for name, value in settings.items() if value}
