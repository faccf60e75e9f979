"""Reading a configuration: from a file or a text to a :class:`Config`, or to all of its problems at once."""

from collections.abc import Callable, Sequence
from pathlib import Path

from apprentice.config import changes, yaml_file
from apprentice.config.local import LocalConfig
from apprentice.config.mend import every_problem
from apprentice.config.models import Config, ProviderConfig
from apprentice.config.problems import found, line_of, located
from apprentice.errors import InvalidConfig

type KnownPrice = Callable[[str, str], bool]
"""(provider, model) → whether its price is known."""

_FOLDER = (".", "/", "~")
"""How a base model's name begins that is a path, and not the name of a model."""
_START = "start from the example: `apprentice init` writes one"


def load(path: Path | str, setting: Sequence[changes.Change] = ()) -> Config:
    """Read a file; relative paths in it become paths from its folder. Raises :class:`InvalidConfig`.

    ``setting`` is put in place of what the file says, before anything is checked; it may raise :class:`CallerError`.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidConfig([f"there is no such file; {_START}"], str(file)) from None
    except UnicodeDecodeError as error:
        raise InvalidConfig([f"not UTF-8 text (byte {error.start}); save it as UTF-8"], str(file)) from None
    except OSError as error:
        raise InvalidConfig([f"cannot be read: {error.strerror}; check the path and its rights"], str(file)) from None
    return _anchored(loads(text, str(file), setting), file.resolve().parent)


def loads(text: str, source: str = "the configuration", setting: Sequence[changes.Change] = ()) -> Config:
    """Read YAML text; ``source`` is its name in errors. Raises :class:`InvalidConfig` with every problem."""
    document = yaml_file.read(text)
    listed = list(document.problems)
    if document.content is None:
        raise InvalidConfig(listed or [f"is empty; {_START}"], source)
    if not isinstance(document.content, dict):
        raise InvalidConfig([f"expected keys such as `tasks:`, found {found(document.content)}; {_START}"], source)
    for change in setting:
        changes.put(document.content, change)
        source = f"{source} with {change.path} set"
    said = sorted(every_problem(document.content), key=lambda item: line_of(item[0], document.lines) or 0)
    listed += [located(where, text, document.lines) for where, text in said]
    if listed:
        raise InvalidConfig(listed, source)
    return Config.model_validate(document.content)


def check(config: Config, *, known_price: KnownPrice, source: str = "the configuration") -> None:
    """Refuse remote models without a known price: their spend has no bound. Raises :class:`InvalidConfig`."""
    listed = []
    for index, each in enumerate(config.remote.providers):
        if each.price is None and not known_price(each.provider, each.model):
            listed.append(_unpriced(each, index))
    if listed:
        raise InvalidConfig(listed, source)


def _unpriced(provider: ProviderConfig, index: int) -> str:
    where, lines = ("remote", ["remote:"])
    pad = "  "
    if index:
        where = f"remote.additional_providers[{index - 1}]"
        lines += ["  additional_providers:", f"    - provider: {provider.provider}"]
        pad = "      "
    lines += [f"{pad}model: {provider.model}", f"{pad}price:"]
    lines += [f"{pad}  input: 0.00   # replace", f"{pad}  output: 0.00  # replace"]
    return (
        f"{where}.price: missing: the price of `{provider.model}` at {provider.provider} is not known, and without it "
        "no budget could hold. Look it up and add it, in US dollars per million tokens:\n" + "\n".join(lines)
    )


def _anchored(config: Config, folder: Path) -> Config:
    """The same configuration with paths that hold in every working directory."""

    def with_key_file[P: ProviderConfig](provider: P) -> P:
        file = provider.api_key_file
        return provider.model_copy(update={"api_key_file": _below(folder, file)}) if file else provider

    others = tuple(with_key_file(each) for each in config.remote.additional_providers)
    remote = with_key_file(config.remote).model_copy(update={"additional_providers": others})
    local = _anchored_local(config.local, folder)
    storage = config.storage.model_copy(update={"path": _below(folder, config.storage.path)})
    return config.model_copy(update={"remote": remote, "local": local, "storage": storage})


def _anchored_local(local: LocalConfig, folder: Path) -> LocalConfig:
    found: dict[str, object] = {"model_dir": _below(folder, local.model_dir)}
    if local.encoder and ("/" in local.encoder or local.encoder.endswith(".onnx")):
        found["encoder"] = str(_below(folder, Path(local.encoder)))
    for key in ("base_model", "server_model"):
        name = getattr(local, key)
        if name and name.startswith(_FOLDER):  # `Qwen/Qwen3-0.6B` is a name
            found[key] = str(_below(folder, Path(name)))
    if local.server.lora_converter is not None:
        converter = _below(folder, local.server.lora_converter)
        found["server"] = local.server.model_copy(update={"lora_converter": converter})
    if local.training.accelerate_config is not None:
        file = _below(folder, local.training.accelerate_config)
        found["training"] = local.training.model_copy(update={"accelerate_config": file})
    return local.model_copy(update=found)


def _below(folder: Path, path: Path) -> Path:
    return folder / path.expanduser()
