"""The command ``demo``."""

import asyncio
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.rule import Rule

from apprentice.demo import DemoPlan, Ending, Frame, play
from apprentice.demo_folder import CONFIG_FILE, fitting
from apprentice.faces.cli.common import DEFAULT_CONFIG, JsonOption, console, hide_log, note, put_json, show_commands
from apprentice.faces.look_demo import ending_view, live_view, news_line, plain_line

FOLDER = Path(".apprentice/demo")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Begin")(demo)


def demo(
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed makes other tickets.")] = 1,
    requests: Annotated[int, typer.Option(min=1, max=20_000, metavar="N", help="How many requests are played.")] = 1500,
    keep: Annotated[
        Path, typer.Option(metavar="DIR", help="Where log and versions stay for a look; emptied by the next demo.")
    ] = FOLDER,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", help="Play with this file, not ./apprentice.yaml or the example."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Watch the whole loop in half a minute: no key, no GPU, no network.

    Support tickets are made up and a simulated remote model on this machine answers them. The log, the training, the
    judgement and the budget are the real ones. At first the remote model answers everything; at the end the local
    model answers most, and the last lines say how to ask why.
    """
    hide_log()  # alerts are shown as news
    if config is None and fitting(DEFAULT_CONFIG):
        config = DEFAULT_CONFIG
    plan = DemoPlan(folder=keep, seed=seed, requests=requests, config=config)
    note(f"playing {requests:,} requests with {config or 'the shipped example configuration'}, log in {keep}")
    begun = time.monotonic()
    if as_json:
        put_json(asyncio.run(play(plan, lambda frame: None)))
        return
    output = console()
    ending = _on_terminal(plan, output) if output.is_terminal else _plainly(plan)
    output.print(ending_view(ending), Rule("look further", align="left"))
    show_commands(further(keep / CONFIG_FILE, ending.example))
    note(f"{ending.frame.done:,} requests in {time.monotonic() - begun:.0f} s")


def _on_terminal(plan: DemoPlan, output: Console) -> Ending:
    with Live(console=output, auto_refresh=False) as live:
        return asyncio.run(play(plan, lambda frame: live.update(live_view(frame), refresh=True)))


def _plainly(plan: DemoPlan) -> Ending:
    """A line per hundred requests, and the news as it comes."""
    printed = told = 0

    def watch(frame: Frame) -> None:
        nonlocal printed, told
        for record in frame.story[told:]:
            sys.stdout.write(f"      {news_line(record).plain}\n")
        told = len(frame.story)
        if frame.done // 100 > printed:
            printed = frame.done // 100
            sys.stdout.write(plain_line(frame) + "\n")
        sys.stdout.flush()

    return asyncio.run(play(plan, watch))


def further(config: Path, example: str | None) -> list[tuple[str, str]]:
    """Commands to look further, whole, to be copied."""
    option = f"--config {shlex.quote(str(config))}"
    commands = [("why one request went where it went", f"apprentice why {example} {option}")] if example else []
    return [
        *commands,
        ("where both tasks stand", f"apprentice status {option}"),
        ("what was decided, and why", f"apprentice events --tag phase_changed --tag gate_changed {option}"),
        ("that no record was touched", f"apprentice verify {option}"),
        ("the state as it was at any moment", f"apprentice replay --until 2000 {option}"),
    ]
