"""The commands of teaching by hand: ``distill collect|train|eval|apply|rollback``."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from apprentice.config import Config, load
from apprentice.errors import CallerError, UnknownTask
from apprentice.faces import beside
from apprentice.faces.cli.alone import alone
from apprentice.faces.cli.common import DEFAULT_CONFIG, ConfigOption, JsonOption, complain, note, place, put_json, show
from apprentice.faces.cli.versions import ASKED, ReasonOption, intervene, lineage_of
from apprentice.faces.file_records import FileRecords
from apprentice.faces.look import facts
from apprentice.faces.look_versions import comparison_view, statistics_facts, version_view
from apprentice.operating import Comparison
from apprentice.privacy.build import redactors
from apprentice.privacy.models import redact_rows
from apprentice.results import Status
from apprentice.runtime import Runtime
from apprentice.training.curves import read_curves
from apprentice.training.dataset import Export, LogDatasets
from apprentice.training.versions import version_folder
from apprentice.wiring import label_fields
from apprentice_actors.ports import TrainingFailure
from apprentice_events.vocabulary import AdapterTrained, TrainingProgressed, TrainingStarted

DATASET = Path("distill_dataset.jsonl")
POLL_S = 0.1
_STAGES = (TrainingStarted.TAG, TrainingProgressed.TAG, AdapterTrained.TAG)

TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="A task of the configuration.")]

group = typer.Typer(no_args_is_help=True, help="Teach the local model by hand, step by step.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (
        ("collect", collect),
        ("train", train),
        ("eval", evaluate),
        ("apply", apply),
        ("rollback", rollback),
    ):
        group.command(name)(command)
    app.add_typer(group, name="distill", rich_help_panel="Teach")


# ---------------------------------------------------------------- collect


def collect(
    task: TaskArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")] = DATASET,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write what there is to learn from into a file, one JSON object per line, and say what it is made of.

    Corrections come first, secrets and redacted data are out, `split` keeps the held-out rows apart. Read from the log
    alone, also while another process is at work on it. The file holds what people wrote.
    """
    loaded = load(config)
    written = asyncio.run(_export(loaded, task, out))
    if as_json:
        put_json(written)
        return
    show(Text(f"{written.path}: {written.rows_train:,} rows to train on, {written.rows_holdout:,} held out", "green"))
    told = written.statistics
    show(facts([("new", f"{told.fresh:,}"), *statistics_facts(told), ("sha256", Text(written.sha256, "dim"))]))


async def _export(config: Config, task: str, out: Path) -> Export:
    configured = config.task(task)
    if configured is None:
        known = ", ".join(one.name for one in config.tasks)
        raise UnknownTask(f"there is no task {task!r}; the configuration has: {known}")
    log = beside.log_path(config)
    state = beside.fold(log, config).tasks.get(task)
    learned = state.versions.trained_examples if state is not None else 0
    datasets = LogDatasets(FileRecords(log), redact_rows(redactors(config)), {task: label_fields(configured)})
    try:
        return await datasets.export(task, out, fresh_after=learned)
    except TrainingFailure as error:
        raise CallerError(str(error)) from error


# ---------------------------------------------------------------- train


def train(task: TaskArgument, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Train a version now on everything that was collected, and wait for the verdict on the held-out rows.

    Ends with 1 where no version came of it. A version that was rejected was made and is not used.
    """
    loaded = load(config)
    version = asyncio.run(_trained(loaded, task))
    one = lineage_of(place(config, None), version)
    if as_json:
        put_json(one)
    elif one.failure is None:
        show(version_view(one, read_curves(version_folder(loaded.local.model_dir, version))))
    if one.failure is not None:
        complain(f"{version} was not made: {one.failure}")
        raise typer.Exit(1)


async def _trained(config: Config, task: str) -> str:
    """Have it trained; the version's name."""
    async with alone(config, taught=True) as runtime:
        before = beside.last_position(beside.log_path(config)) or 0
        if _under_way(runtime.status(task)) is None:
            await runtime.operate(task, "train")
        version = _under_way(runtime.status(task))
        if version is None:  # a failure as fast as that
            return runtime.status(task).versions[-1].name
        await _watched(runtime, config, task, version, before)
        return version


def _under_way(status: Status) -> str | None:
    return next((one.name for one in status.versions if one.status in ("training", "trained")), None)


async def _watched(runtime: Runtime, config: Config, task: str, version: str, before: int) -> None:
    """A bar on a terminal, lines elsewhere, until the version has its verdict."""
    console = Console(stderr=True)
    columns = (TextColumn(version), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=1.0, stage="the dataset is built")
        while _under_way(runtime.status(task)) == version:
            for record in beside.records(beside.log_path(config), after=before, task=task, tags=_STAGES):
                before, (done, stage) = record.position, _stage(record.event())
                progress.update(bar, completed=done, stage=stage)
                if not console.is_terminal:
                    note(f"{version} {done:.0%} {stage}")
            await asyncio.sleep(POLL_S)


def _stage(event: object) -> tuple[float, str]:
    if isinstance(event, TrainingStarted):
        return 0.0, f"{event.rows_train:,} rows, {event.rows_holdout:,} held out"
    if isinstance(event, TrainingProgressed):
        return event.fraction, event.message
    return 1.0, "the held-out rows are answered"


# ---------------------------------------------------------------- evaluate, apply, go back


def evaluate(
    task: TaskArgument,
    version: Annotated[
        str | None, typer.Argument(metavar="[TASK@vN]", help="This version, not the challenger or champion.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="TASK@vN|base", help="Compare with this one, not with the champion; `base`: untrained."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let a version and its rival answer the held-out rows now, and judge them by the rules of promotion.

    Nothing is recorded and nothing changes.
    """
    loaded = load(config)

    async def compare() -> Comparison:
        async with alone(loaded, taught=True) as runtime:
            return await runtime.compare(task, version, against)

    found = asyncio.run(compare())
    if as_json:
        put_json(found)
    else:
        show(comparison_view(found))


def apply(
    task: TaskArgument,
    version: Annotated[
        str | None, typer.Argument(metavar="[TASK@vN]", help="Any version that is kept, not the challenger.")
    ] = None,
    reason: ReasonOption = ASKED,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make the challenger the champion without waiting for the live comparison."""
    intervene(config, task, "promote", version, reason, as_json=as_json)


def rollback(
    task: TaskArgument,
    version: Annotated[
        str | None, typer.Argument(metavar="[TASK@vN]", help="Go back to this one, not to the champion before.")
    ] = None,
    reason: ReasonOption = ASKED,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Go back to the champion before."""
    intervene(config, task, "rollback", version, reason, as_json=as_json)
