"""Keys of the ``local`` section that mean nothing to the chosen backend: they are refused, not ignored."""

from collections.abc import Iterator, Mapping

from apprentice.config import LocalConfig
from apprentice.errors import InvalidConfig

_LOADING = ("quantization", "dtype", "device_map", "batch_size")
"""How a model is loaded into this process."""
_PROCESS = ("server.command", "server.args", "server.environment", "server.start_timeout_s", "server.gpus")
"""How a server is started."""
_SPLIT = ("server.tensor_parallel",)
_UNREAD: Mapping[str, tuple[str, ...]] = {
    "vllm": ("device_map", "batch_size", "server.lora_converter"),
    "ollama": (*_LOADING, *_PROCESS, *_SPLIT, "server.model_dir"),
    "llama_cpp": (*_LOADING, "server.url", "server.model_dir"),
    "transformers": (
        *("server_model", "server.url", "server.model_dir", "server.adapter_slots", "server.api_key_env"),
        *(*_PROCESS, *_SPLIT, "server.lora_converter"),
    ),
    "openai": (
        *(*_LOADING, *_PROCESS, *_SPLIT, "server.model_dir", "server.adapter_slots", "server.context"),
        *("server.lora_converter", "server_model"),
    ),
}


def refuse_unread(local: LocalConfig) -> None:
    """Raise :class:`InvalidConfig` for keys that the file names and the backend does not read."""
    unread = _UNREAD[local.backend]
    found = [f"local.{key}: is not read by the backend {local.backend}; remove it" for key in _named(local, unread)]
    if found:
        raise InvalidConfig(found)


def _named(local: LocalConfig, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        section, _, name = key.rpartition(".")
        holder = local.server if section else local
        if name in holder.model_fields_set and (not section or section in local.model_fields_set):
            yield key
