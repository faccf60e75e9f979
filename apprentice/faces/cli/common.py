"""What several commands share: options, consoles, output as JSON, finding the log."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.text import Text

from apprentice.config import Config, load
from apprentice.errors import CallerError
from apprentice.faces import beside

DEFAULT_CONFIG = Path("apprentice.yaml")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file.")]
LogOption = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="Read this log file instead of the one the configuration names."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else, for other programs.")]


class Place(msgspec.Struct, frozen=True):
    """Where a command looks: the log, and the configuration where there is one."""

    log: Path
    config: Config | None


def place(config: Path, log: Path | None) -> Place:
    """The log by its own name or by the configuration's. With ``--log`` the configuration may be missing."""
    if log is None:
        loaded = load(config)
        return Place(beside.log_path(loaded), loaded)
    return Place(log, load(config) if config.is_file() else None)


def console() -> Console:
    """Standard output, for people. Lines are as wide as the terminal, or as ``COLUMNS`` says."""
    return Console(highlight=False)


def set_log(debug: bool) -> None:
    """The program's own log goes to standard error: alerts, and with ``debug`` everything, tracebacks included."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("apprentice_actors", "apprentice"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.CRITICAL)
    logging.getLogger("apprentice.alerts").setLevel(logging.DEBUG if debug else logging.WARNING)


def hide_log() -> None:
    """No alerts on standard error, for commands that show them in their own way."""
    logging.getLogger("apprentice.alerts").setLevel(logging.CRITICAL + 1)


def show(what: RenderableType) -> None:
    """Print something for people."""
    console().print(what)


def show_commands(commands: Sequence[tuple[str, str]]) -> None:
    """What a command is for, and the command on a line of its own, unbroken and uncut, to be copied."""
    output = console()
    for purpose, command in commands:
        output.print(Text(f"# {purpose}", "dim"), soft_wrap=True)
        output.print(Text(command, "bold"), soft_wrap=True)


def complain(message: str) -> None:
    """An error, on standard error."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    errors.print(Text.assemble(("error: ", "bold red"), message))


def note(message: str) -> None:
    """A remark on standard error, which leaves standard output to the answer."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(message, style="dim"))


def put_json(value: Any, *, indent: bool = True) -> None:
    """A value as JSON on standard output."""
    text = msgspec.json.encode(value)
    sys.stdout.write((msgspec.json.format(text, indent=2) if indent else text).decode() + "\n")


def parse_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object given on the command line. Raises :class:`CallerError` saying what is wrong with it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        hint = 'write an object in single quotes, such as \'{"text": "Where is my parcel?"}\''
        raise CallerError(f"{what} is no JSON object: {error}; {hint}") from None
