"""Commands about versions of the local model: ``versions list|show|promote|rollback|retire``."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from apprentice.config import Config, load
from apprentice.errors import CallerError, UnknownTask
from apprentice.faces import beside
from apprentice.faces.cli.alone import alone
from apprentice.faces.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    LogOption,
    Place,
    note,
    place,
    put_json,
    show,
)
from apprentice.faces.look_versions import version_view, versions_list
from apprentice.faces.picture import draw
from apprentice.lineage import TAGS, Lineage, lineages
from apprentice.training.curves import Curve, read_curves
from apprentice.training.versions import VersionError, parse_version, version_folder

VersionArgument = Annotated[str, typer.Argument(metavar="TASK@vN", help="A version, such as classify_ticket@v3.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")]
ASKED = "the operator asked"

group = typer.Typer(
    no_args_is_help=True,
    help="Versions of the local model: what there is, how each came about, which one serves.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (
        ("list", list_versions),
        ("show", show_version),
        ("promote", promote),
        ("rollback", rollback),
        ("retire", retire),
    ):
        group.command(name)(command)
    app.add_typer(group, name="versions", rich_help_panel="Teach")


# ---------------------------------------------------------------- looking


def list_versions(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Only this task.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions of each task: what they were trained on, how they did, what became of them.

    Read from the log alone, also while another process is at work on it.
    """
    found = all_lineages(place(config, log), task)
    if as_json:
        put_json(found)
    elif found:
        show(versions_list(found))
    else:
        show(Text("no version has been trained yet", "dim"))


def show_version(
    version: VersionArgument,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it into this file too (.png, .svg or .pdf).")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one version: data, training, verdict on the held-out rows slice by slice, and its life since.

    Read from the log; the loss curve comes from the version's folder, where that is still there.
    """
    where = place(config, log)
    one = lineage_of(where, version)
    curves = _curves(where.config, version)
    if picture is not None:
        draw(one, curves, picture)
    if as_json:
        put_json({"version": one, "curves": curves})
        return
    show(version_view(one, curves))
    if picture is not None:
        note(f"drawn in {picture}")


def all_lineages(where: Place, task: str | None) -> list[Lineage]:
    """The versions in the log, task by task. Raises :class:`UnknownTask`."""
    states = beside.fold(where.log, where.config).tasks
    if task is not None and task not in states:
        raise UnknownTask(f"the log has no task {task!r}; it has: {', '.join(states) or 'none yet'}")
    found: list[Lineage] = []
    for name, state in states.items():
        if task in (None, name):
            found += lineages(state, beside.records(where.log, task=name, tags=TAGS))
    return found


def lineage_of(where: Place, version: str) -> Lineage:
    """One version in the log. Raises :class:`CallerError` where there is none of this name."""
    found = all_lineages(where, task_of(version))
    for one in found:
        if one.version == version:
            return one
    known = ", ".join(one.version for one in found) or "none yet"
    raise CallerError(f"the log has no version {version}; it has: {known}")


def task_of(version: str) -> str:
    """The task of a version's name. Raises :class:`CallerError`."""
    try:
        return parse_version(version)[0]
    except VersionError as error:
        raise CallerError(str(error)) from None


def _curves(config: Config | None, version: str) -> dict[str, Curve]:
    return read_curves(version_folder(config.local.model_dir, version)) if config is not None else {}


# ---------------------------------------------------------------- intervening


def promote(
    version: VersionArgument,
    reason: ReasonOption = ASKED,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a version that is kept the champion. The one before is watched beside it and comes back if it is better."""
    intervene(config, task_of(version), "promote", version, reason, as_json=as_json)


def rollback(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the configuration.")],
    version: Annotated[
        str | None, typer.Argument(metavar="[TASK@vN]", help="Go back to this one, not to the champion before.")
    ] = None,
    reason: ReasonOption = ASKED,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take the champion out of service and go back to an earlier version. Its files stay while there is room."""
    intervene(config, task, "rollback", version, reason, as_json=as_json)


def retire(
    version: VersionArgument,
    reason: ReasonOption = ASKED,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Delete the files of a version that does not serve. What the log knows of it stays."""
    intervene(config, task_of(version), "retire", version, reason, as_json=as_json)


def intervene(config: Path, task: str, action: str, version: str | None, reason: str, *, as_json: bool) -> None:
    """Do it, and say which version serves now."""
    loaded = load(config)

    async def ask() -> str | None:
        async with alone(loaded) as runtime:
            await runtime.operate(task, action, version, reason=reason)
            return runtime.status(task).champion

    champion = asyncio.run(ask())
    if as_json:
        put_json(all_lineages(place(config, None), task))
        return
    done = f"{version} is retired; " if action == "retire" else ""
    show(Text(f"{done}{champion or 'no version'} is the champion of {task}", "green"))
