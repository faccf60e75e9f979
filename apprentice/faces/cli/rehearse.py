"""The command ``rehearse``: what would have happened to a recorded stream."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from apprentice.config import Config, load
from apprentice.errors import CallerError
from apprentice.faces import beside
from apprentice.faces.cli.common import hide_log, note, show
from apprentice.faces.look_rehearsal import live_line, rehearsal_view
from apprentice.rehearsal import Plan, default_config, read_stream
from apprentice.rehearsal import rehearse as play
from apprentice.rehearsal_report import RehearsalReport
from apprentice.runtime import Runtime
from apprentice.wiring import LOG_FILE

FOLDER = Path(".apprentice/rehearsals")
INPUTS = ("text", "input", "prompt", "question", "query", "message")
ANSWERS = ("teacher", "answer", "output", "response", "label", "completion")
GOLDS = ("gold", "truth", "gold_label")
_LIVE_EVERY = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Begin")(rehearse)


def rehearse(
    stream: Annotated[Path, typer.Argument(metavar="STREAM.jsonl", help="One JSON object per recorded request.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="FIELD", help="A field of the input; may be repeated.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The field with the remote model's recorded answer.")
    ] = None,
    gold: Annotated[
        str | None, typer.Option(metavar="FIELD", help="The field with the right answer, if known.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Play a task of this configuration.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", metavar="NAME", help="Which task of --config.")] = None,
    shuffle: Annotated[int, typer.Option(metavar="SEED", help="Shuffle the rows by this seed.")] = 0,
    recorded_order: Annotated[bool, typer.Option("--recorded-order", help="Do not shuffle.")] = False,
    guarantee: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="SHARE", help="Agreement to certify (without --config).")
    ] = 0.9,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="A sentence encoder instead of n-grams (without --config).")
    ] = None,
    first: Annotated[
        int, typer.Option(min=1, metavar="N", help="Examples before the first version (without --config).")
    ] = 100,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="New examples per later version (without --config).")
    ] = 50,
    storage: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the log is kept; the same folder again resumes.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Requests under way at once.")] = 8,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Play recorded traffic through the whole runtime: what would have been saved, and at what agreement?

    Each line of STREAM.jsonl has an input and the answer that a remote model gave. Nothing is asked of a real remote
    model; the log, the training and the judgement are the real ones. An interrupted rehearsal goes on where it
    stopped.
    """
    hide_log()  # alerts are part of the figures
    chosen = load(config) if config is not None else None
    plan = _plan(stream, inputs, answer, gold, None if recorded_order else shuffle)
    plan = msgspec.structs.replace(plan, limit=limit, concurrency=concurrency, task=_task(chosen, task))
    if chosen is None:
        chosen = default_config(plan, guarantee=guarantee, encoder=encoder, first=first, batch=batch)
    plan = msgspec.structs.replace(plan, storage=storage or _own_folder(plan, chosen))
    rows = len(read_stream(plan))
    _announce(plan)
    report = asyncio.run(_played(plan, chosen, rows))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    show(rehearsal_view(report))
    note(f"look further: apprentice events --log {plan.storage / LOG_FILE} --tag phase_changed --tag gate_changed")


# ---------------------------------------------------------------- what is played


def _plan(stream: Path, inputs: list[str] | None, answer: str | None, gold: str | None, seed: int | None) -> Plan:
    """What is played, with what was not named guessed from the first line."""
    row = _first_row(stream)
    return Plan(
        stream=stream,
        storage=Path(),
        input_fields=tuple(inputs) if inputs else (_guess("input", row, INPUTS),),
        answer_field=answer or _guess("answer", row, ANSWERS),
        gold_field=gold or next((name for name in GOLDS if name in row), None),
        seed=seed,
    )


def _first_row(stream: Path) -> Mapping[str, Any]:
    try:
        with stream.open("rb") as lines:
            line = lines.readline()
        return msgspec.json.decode(line, type=dict[str, Any])
    except OSError as error:
        raise CallerError(f"{stream} cannot be read: {error.strerror}; check the path") from None
    except msgspec.DecodeError as error:
        raise CallerError(f"line 1 of {stream} is no JSON object: {error}; write one object per line") from None


def _guess(what: str, row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """A usual name, or a field whose name begins with one. Raises :class:`CallerError`."""
    found = next((name for name in names if name in row), None)
    found = found or next((field for name in names for field in row if field.startswith(name)), None)
    if found is None:
        raise CallerError(f"which field is the {what}? name it with --{what}; the first line has: {', '.join(row)}")
    return found


def _task(config: Config | None, name: str | None) -> str:
    """The task to play. Raises :class:`CallerError` where there are several and none is named."""
    if name is not None or config is None:
        return name or "rehearsal"
    if len(config.tasks) > 1:
        raise CallerError(f"which task? name it with --task: {', '.join(task.name for task in config.tasks)}")
    return config.tasks[0].name


def _own_folder(plan: Plan, config: Config) -> Path:
    """A folder that only a rehearsal of the same kind finds again: what it plays and how stands in its name."""
    stable = msgspec.structs.replace(plan, limit=None, concurrency=1)
    told = msgspec.json.encode((stable, config.model_dump(mode="json")), enc_hook=str)
    return FOLDER / f"{plan.stream.stem}-{hashlib.sha256(told).hexdigest()[:8]}"


def _announce(plan: Plan) -> None:
    gold = f", gold {plan.gold_field}" if plan.gold_field is not None else ""
    order = "as recorded" if plan.seed is None else f"shuffled by seed {plan.seed}"
    note(f"input {', '.join(plan.input_fields)}; recorded answer {plan.answer_field}{gold}; rows {order}")
    log = plan.storage / LOG_FILE
    if log.is_file():
        state = beside.fold(log).tasks.get(plan.task)
        done = state.counters.served_local + state.counters.served_remote if state is not None else 0
        note(f"resuming in {plan.storage}: {done:,} rows were answered before, and are not asked again")
    else:
        note(f"log in {plan.storage}")


async def _played(plan: Plan, config: Config, total: int) -> RehearsalReport:
    begun = time.monotonic()
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[live]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, live="")

        def tell(done: int, runtime: Runtime) -> None:
            progress.update(bar, completed=done)
            if done % _LIVE_EVERY == 0:
                now = runtime.status(plan.task)
                progress.update(bar, live=live_line(now.phase, now.local_share, now.agreement_local, now.money.spent))

        report = await play(plan, config, tell)
    note(f"{total:,} rows in {time.monotonic() - begun:.0f} s")
    return report
