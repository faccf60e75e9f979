"""Commands around the configuration: ``init`` writes one, ``config`` explains and checks one."""

import shlex
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from apprentice.config import Config, KeyDoc, describe, load
from apprentice.demo_folder import example_config
from apprentice.errors import CallerError
from apprentice.faces.cli.common import DEFAULT_CONFIG, JsonOption, put_json, show, show_commands
from apprentice.faces.look import facts
from apprentice.wiring import check_providers


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel="Begin")(init)
    app.command(rich_help_panel="Begin")(config)


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder to write it into.")] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file that is there.")] = False,
) -> None:
    """Write a commented apprentice.yaml to start from."""
    file = folder / DEFAULT_CONFIG
    if file.exists() and not force:
        raise CallerError(f"{file} is there already; --force overwrites it, another folder keeps it")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(example_config(), encoding="utf-8")
    option = "" if folder == Path(".") else f" --config {shlex.quote(str(file))}"
    given = """'{"text": "I was charged twice", "metadata": {}}'"""
    show(Text.assemble("wrote ", (str(file), "bold"), "; describe your own tasks in it. Then:"))
    commands = [
        ("the whole loop on made-up tickets: no key, no network", f"apprentice demo{option}"),
        ("a first real answer: needs ANTHROPIC_API_KEY", f"apprentice run classify_ticket {given}{option}"),
    ]
    show_commands(commands)


def config(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A key or the end of its path, such as `budget.daily`.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="FILE", help="Check this file and name all its problems.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain the keys of the configuration, or check a file."""
    if check is not None:
        _check(check, as_json)
        return
    keys = [one for one in describe() if key is None or _meant(one.path, key)]
    if not keys:
        raise CallerError(f"there is no key {key!r}; `apprentice config` lists them all")
    if as_json:
        put_json([one._asdict() for one in keys])
    elif len(keys) == 1:
        show(_one_key(keys[0]))
    else:
        show(_many_keys(keys))


def _meant(path: str, key: str) -> bool:
    plain = path.replace("[]", "")
    wanted = key.replace("[]", "")
    return plain == wanted or plain.endswith(f".{wanted}") or f".{plain}.".find(f".{wanted}.") >= 0


def _one_key(key: KeyDoc) -> Table:
    return facts(
        [
            ("key", key.path),
            ("takes", key.type.replace("`", "")),
            ("default", _default(key)),
            ("meaning", key.description),
        ]
    )


def _many_keys(keys: list[KeyDoc]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    table.add_column("key", no_wrap=True, style="bold")
    for name in ("takes", "default", "meaning"):
        table.add_column(name, overflow="fold", ratio=3 if name == "meaning" else 2 if name == "takes" else 1)
    for key in keys:
        table.add_row(Text(key.path), Text(key.type.replace("`", ""), "cyan"), _default(key), Text(key.description))
    return table


def _default(key: KeyDoc) -> Text:
    return Text("required", "red") if key.default is None else Text(key.default or "–", "green")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a right file configures."""

    file: str
    tasks: tuple[str, ...]
    remote: str
    local: str
    log: str


def _check(file: Path, as_json: bool) -> None:
    loaded: Config = load(file)
    check_providers(loaded)
    found = Checked(
        file=str(file),
        tasks=tuple(task.name for task in loaded.tasks),
        remote=f"{loaded.remote.provider}/{loaded.remote.model}",
        local=loaded.local.backend,
        log=str(loaded.storage.path),
    )
    if as_json:
        put_json(found)
        return
    rows = [("tasks", ", ".join(found.tasks)), ("remote", found.remote), ("local", found.local), ("log in", found.log)]
    show(Text(f"{file} has no problems", "bold green"))
    show(facts(rows))
