"""The commands as a page: the text of docs/CLI.md, from the application itself.

``python -m apprentice.faces.cli.document > docs/CLI.md`` writes it anew.
"""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from apprentice.faces.cli.commands import app

_HEAD = """# The command line

`apprentice COMMAND --help` says the same in the terminal. Commands end with 0 if all went well, with 1 and one clear
message on standard error if not, and with 2 for a command line that cannot be meant. With `--json` nothing but the
answer is on standard output. `status`, `report`, `why`, `events`, `replay`, `verify`, `whatif`, `versions list`,
`versions show` and `distill collect` only read the log, also while another process is at work on it; `run`, `correct`,
`feedback` and the other commands about versions write it, which one process at a time can do.
`apprentice --debug COMMAND` shows the program's own log on standard error.
"""


def cli_markdown() -> str:
    """The whole page."""
    group: Any = typer.main.get_command(app)
    sections = ["\n".join(_any(name, command, 2)) for name, command in group.commands.items()]
    return "\n".join([_HEAD, *sections])


def _any(name: str, command: Any, level: int) -> Iterator[str]:
    """A command, or a group with its commands below it."""
    if not hasattr(command, "commands"):
        yield from _section(name, command, level)
        return
    yield from (f"{'#' * level} `{name}`", "", " ".join(_plain(command.help).split()), "")
    for inner, below in command.commands.items():
        yield from _section(f"{name} {inner}", below, level + 1)


def _section(name: str, command: Any, level: int) -> Iterator[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option" and param.name != "help"]
    usage = " ".join(["apprentice", name, *(_metavar(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    yield from (f"{'#' * level} `{name}`", "", f"    {usage}", "", " ".join(_plain(command.help).split()), "")
    yield from ("| | | default |", "|---|---|---|")
    for one in arguments:
        yield f"| `{_cell(_metavar(one))}` | {_cell(one.help)} | {_default(one)} |"
    for one in options:
        yield f"| {_flags(one)} | {_cell(one.help)} | {_default(one)} |"
    yield ""


def _plain(text: str | None) -> str:
    return text or ""


def _cell(text: str | None) -> str:
    return _plain(text).replace("|", "\\|")


def _metavar(param: Any) -> str:
    return str(param.metavar)


def _flags(param: Any) -> str:
    value = "" if param.is_flag else f" {_metavar(param)}"
    return _cell(f"`{', '.join(param.opts)}{value}`")


def _default(param: Any) -> str:
    if param.required:
        return "required"
    return "" if param.default is None or isinstance(param.default, bool) else f"`{param.default}`"


if __name__ == "__main__":
    sys.stdout.write(cli_markdown())
