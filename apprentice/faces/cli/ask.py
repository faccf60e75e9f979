"""Commands that open the runtime for writing: ``run``, ``correct``, ``feedback``, ``erase``."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.text import Text

from apprentice.config import Config, load
from apprentice.errors import ApprenticeError, CallerError
from apprentice.faces.cli.alone import alone
from apprentice.faces.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    complain,
    note,
    parse_object,
    put_json,
    show,
)
from apprentice.privacy.erasure import Erasure
from apprentice.results import Result
from apprentice.runtime import Runtime

CALLERS = 8

RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST_ID", help="As `run` printed it: req_….")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, correct, feedback, erase):
        app.command(rich_help_panel="Ask")(command)


# ---------------------------------------------------------------- run


def run(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task of the configuration.")],
    given: Annotated[
        str | None,
        typer.Argument(
            metavar="[JSON|-|@FILE]",
            help="The input as a JSON object, `@file.jsonl` for one per line, or `-` (the default) for standard input.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Idempotency key: the same key again gives the same answer. With lines of a file: KEY-LINE.",
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Answer one input, or every line of a file.

    Answers go to standard output, one JSON object per line and in the order of the inputs; with `--json` each comes
    with its request id. Lines that cannot be answered are reported, and make the exit code 1.
    """
    loaded = load(config)
    failed = asyncio.run(_run(loaded, task, list(_inputs(given)), key, as_json))
    if failed:
        raise typer.Exit(1)


class _Input(NamedTuple):
    """What is asked, and the line it stood on; None for an input that was given as it is."""

    line: int | None
    content: dict[str, Any]

    def key(self, key: str | None) -> str | None:
        return f"{key}-{self.line}" if key is not None and self.line is not None else key


def _inputs(given: str | None) -> Iterator[_Input]:
    if given is None and sys.stdin.isatty():
        raise typer.BadParameter("give the input as JSON, as @file.jsonl, or on standard input")
    if given not in (None, "-") and not given.startswith("@"):
        yield _Input(None, parse_object(given, "the input"))
        return
    name = "standard input" if given in (None, "-") else given[1:]
    text = sys.stdin.read() if given in (None, "-") else _file(Path(name))
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise CallerError(f"{name} is empty; write one JSON object per line")
    for number, line in lines:
        yield _Input(number, parse_object(line, f"line {number} of {name}"))


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError(f"{path} cannot be read: {error}; check the path behind the @") from None


async def _run(config: Config, task: str, inputs: list[_Input], key: str | None, as_json: bool) -> int:
    """Answer all; how many failed."""
    room = asyncio.Semaphore(CALLERS)
    failed = 0
    async with Runtime.open(config) as runtime:

        async def answer(given: _Input) -> Result | ApprenticeError:
            async with room:
                try:
                    return await runtime.submit(task, given.content, key=given.key(key))
                except ApprenticeError as error:
                    return error

        async with asyncio.TaskGroup() as group:
            answers = [(given.line, group.create_task(answer(given))) for given in inputs]
            for line, waiting in answers:
                failed += _put(await waiting, line, as_json)
        await runtime.settled()  # comparisons and a training that this request set off are finished, not thrown away
    return failed


def _put(answer: Result | ApprenticeError, line: int | None, as_json: bool) -> int:
    if isinstance(answer, Result):
        put_json(answer if as_json else answer.output, indent=False)
        if not as_json and line is None:
            note(f"request {answer.request_id}")
        sys.stdout.flush()
        return 0
    if as_json:
        put_json({"error": type(answer).__name__, "message": str(answer), "line": line}, indent=False)
    complain(f"line {line}: {answer}" if line is not None else str(answer))
    return 1


# ---------------------------------------------------------------- people


def correct(
    request: RequestArgument,
    output: Annotated[str, typer.Argument(metavar="JSON", help="The right answer, as a JSON object.")],
    author: Annotated[str | None, typer.Option(metavar="NAME", help="Who says so.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Say what the right answer to a past request is; the next version learns from it."""
    right = parse_object(output, "the right answer")

    async def tell() -> None:
        async with alone(load(config)) as runtime:
            await runtime.correct(request, right, author=author)

    asyncio.run(tell())
    show(Text(f"noted: the answer to {request} is corrected", "green"))


def feedback(
    request: RequestArgument,
    rating: Annotated[float, typer.Argument(metavar="RATING", help="From 0 (useless) to 1 (right).")],
    comment: Annotated[str | None, typer.Option(metavar="TEXT", help="In your own words.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Rate a past answer from 0 to 1."""

    async def tell() -> None:
        async with alone(load(config)) as runtime:
            await runtime.feedback(request, rating, comment=comment)

    asyncio.run(tell())
    show(Text(f"noted: {request} is rated {rating:g}", "green"))


def erase(
    request: RequestArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the log.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Delete what a request held: its input, answers, corrections and comments. It cannot be undone.

    The log stays whole and verifies. Versions that learned from the content are named: retire them if need be.
    """

    async def forget() -> Erasure:
        async with alone(load(config)) as runtime:
            return await runtime.erase(request, reason)

    gone = asyncio.run(forget())
    if as_json:
        put_json(gone)
        return
    show(Text(f"erased: {gone.bodies} bodies of {request}", "green"))
    if gone.versions:
        learned = ", ".join(gone.versions)
        show(Text(f"these versions learned from it: {learned}; roll back or retire them to be rid of it", "yellow"))
