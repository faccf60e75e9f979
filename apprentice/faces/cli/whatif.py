"""``whatif``: what another configuration would have made of the requests in the log."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apprentice.config import Config, load
from apprentice.config.changes import Change, parse
from apprentice.errors import CallerError, UnknownTask
from apprentice.faces import beside
from apprentice.faces.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, LogOption, note, put_json, show
from apprentice.faces.look_whatif import whatif_panel
from apprentice.whatif.estimate import RUNS, Draw, WhatIf, what_if
from apprentice.whatif.recorded import Recorded
from apprentice.wiring import purse_settings, task_settings
from apprentice_events import replay


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Audit")(whatif)


def whatif(
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Only this task.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of the configuration as it should have been, such as "
            "tasks.classify_ticket.guarantee.agreement=0.95; may be repeated.",
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=2, max=10_000, metavar="N", help="Runs that the bounds are taken from.")
    ] = RUNS,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed draws what is not known in another way.")] = 0,
    config: ConfigOption = DEFAULT_CONFIG,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide the log's requests anew under another configuration, and show what that would have come to.

    Without `--set` it shows what the configuration file itself would have made of them: compare it with what happened.
    Nothing is written, nobody is asked and nothing is paid.
    """
    changes = [parse(text) for text in setting or ()]
    changed = load(config, changes)
    path = log if log is not None else beside.log_path(load(config))
    wanted = _wanted(changed, changes, task)
    folds = [Recorded(name) for name in wanted]
    replay.rebuild(beside.there(path), folds)
    found = [one for one in folds if _worthwhile(one, alone=len(folds) == 1)]
    if not found:
        raise CallerError("no task has comparisons in this log yet: there is no evidence to replay")
    with _progress(len(found) * runs) as step:
        told = [_estimate(one, changed, runs, seed, step) for one in found]
    if as_json:
        put_json(told[0] if task is not None else told)
        return
    for each in told:
        show(whatif_panel(each))


def _wanted(config: Config, changes: Sequence[Change], task: str | None) -> list[str]:
    """The named task; else those that the changes name; else all. Raises :class:`UnknownTask`."""
    names = [one.name for one in config.tasks]
    if task is not None:
        if task not in names:
            raise UnknownTask(f"there is no task {task!r}; the configuration has: {', '.join(names)}")
        return [task]
    named = [name for name in names if any(change.path.startswith(f"tasks.{name}.") for change in changes)]
    general = any(not change.path.startswith("tasks.") for change in changes)
    return names if general or not named else named


def _worthwhile(recorded: Recorded, *, alone: bool) -> bool:
    """Whether anything was compared. Where this is the only task, saying why not is an error."""
    if recorded.settings is not None and any(one.compared for one in recorded.asked):
        return True
    why = f"{recorded.task} has no comparisons in this log yet: there is no evidence to replay"
    if alone:
        raise CallerError(why)
    note(why)
    return False


def _estimate(recorded: Recorded, config: Config, runs: int, seed: int, step: Callable[[int], None]) -> WhatIf:
    configured = config.task(recorded.task)
    assert configured is not None
    purse = purse_settings(config)

    def chance(number: int) -> Draw:
        return random.Random(f"{seed}/{recorded.task}/{number}").random

    return what_if(
        recorded,
        task_settings(config, configured),
        chance,
        caps=purse.caps,
        zone=purse.zone,
        runs=runs,
        progress=step,
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal."""
    errors = Console(stderr=True)
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done: progress.advance(bar)
