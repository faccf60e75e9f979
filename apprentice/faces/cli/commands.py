"""All commands in one application, and what happens to errors: one clear message, exit code 1, no traceback."""

import sqlite3
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from apprentice.errors import ApprenticeError
from apprentice.faces.cli import ask, audit, demo, distill, look, rehearse, setup, versions, whatif
from apprentice.faces.cli.common import complain, set_log
from apprentice.version import __version__
from apprentice_events.errors import LogError


class Commands(TyperGroup):
    """The group of commands; errors that were foreseen end here."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a foreseen error becomes one message on standard error and exit code 1."""
        try:
            return super().invoke(ctx)
        except (ApprenticeError, LogError) as error:
            complain(str(error))
        except sqlite3.Error as error:
            complain(f"the log cannot be read: {error}; `apprentice verify` names the first damaged record")
        except BrokenPipeError:
            raise  # whoever read the output has gone; that is no error of ours
        except OSError as error:
            if error.filename is None:
                raise
            complain(f"{error.filename}: {error.strerror}; check the path and its rights")
        except ExceptionGroup as group:
            foreseen, unforeseen = group.split((ApprenticeError, LogError))
            if foreseen is None or unforeseen is not None:
                raise
            complain(str(_first(foreseen)))
        raise typer.Exit(1)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


app = typer.Typer(
    cls=Commands,
    name="apprentice",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with `apprentice demo`: it needs no key and no network, and takes half a minute.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"apprentice {__version__}")
        raise typer.Exit


@app.callback()
def apprentice(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the program's own log on standard error.")] = False,
) -> None:
    """Answer recurring AI tasks through one call: a remote model teaches a small local one, which takes over as far as
    the evidence allows. Every decision stands in a log that can be asked."""
    set_log(debug)


for module in (setup, demo, ask, look, audit, whatif, rehearse, versions, distill):
    module.register(app)


def main() -> None:
    """The console script."""
    app()
