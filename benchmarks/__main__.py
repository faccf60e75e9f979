"""``python -m benchmarks``: everything in one run, or one part of it by name. ``--quick`` trades precision for time."""

import asyncio
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import guarantee as promise
from benchmarks.gateway_bench import run_gateway, stay_on_this_machine
from benchmarks.guarantee_picture import draw
from benchmarks.idle_bench import run_idle
from benchmarks.latency_bench import run_latency
from benchmarks.log_bench import run_appends
from benchmarks.measuring import RESULTS, keep, show
from benchmarks.replay_bench import run_replay
from benchmarks.streams import ENCODER, FEATURES, KINDS, QUICK, Grid
from benchmarks.streams_data import KNOWN, SHARED, Source
from benchmarks.streams_picture import draw as draw_stream
from benchmarks.streams_told import watch
from benchmarks.students_bench import BATCH, run_encoders, run_students
from benchmarks.teaching_bench import run_teaching

app = typer.Typer(help=__doc__, add_completion=False)

Quick = Annotated[bool, typer.Option("--quick", help="A tenth of the work: minutes become seconds.")]
Folder = Annotated[
    Path,
    typer.Option("--folder", exists=True, file_okay=False, help="Where the files lie whose disk is measured."),
]
HERE = RESULTS / "tmp"


@app.callback(invoke_without_command=True)
def everything(context: typer.Context, quick: Quick = False, folder: Folder = HERE) -> None:
    """Run all parts that need nothing but this machine: latency, log, replay, idle."""
    if context.invoked_subcommand is None:
        for part in (log, replay, idle, latency):
            part(quick, folder)


@app.command()
def latency(quick: Quick = False, folder: Folder = HERE) -> None:
    """What a submit adds to the bare call, and what it takes without one."""
    found = asyncio.run(run_latency(quick=quick, folder=folder))
    show("Latency of a request", found["rows"], f"fdatasync of the disk: {found['fdatasync_us']} µs")
    keep("latency", found, quick=quick)


@app.command()
def gateway(quick: Quick = False, folder: Folder = HERE) -> None:
    """What a call costs through the runtime, beside LiteLLM's Router (extra ``bench``) and the bare client."""
    stay_on_this_machine()
    found = asyncio.run(run_gateway(quick=quick, folder=folder))
    show("Gateways before one frontier", found["rows"], f"fdatasync of the disk: {found['fdatasync_us']} µs")
    keep("gateway", found, quick=quick)


@app.command()
def guarantee(
    quick: Quick = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the tasks.")] = 2,
) -> None:
    """Whether the promise holds on simulated tasks of known truth, beside other methods (extra ``bench``)."""
    found = promise.run_guarantee(quick=quick, workers=workers)
    for part, title, note in promise.TABLES:
        show(title, promise.printable(found[part]), note)
    path = keep("guarantee", found, quick=quick).with_suffix(".png")
    print(f"{found['seconds']} s; {path if draw(found, path) else 'no picture: matplotlib is not installed'}")
    if found["left_out"]:
        print(f"left out, for river is not installed: {', '.join(found['left_out'])}")


@app.command()
def log(quick: Quick = False, folder: Folder = HERE) -> None:
    """Durable appends, beside a raw writer and beside the eventsourcing package."""
    events, rounds = (2_560, 1) if quick else (25_600, 5)
    _whole("Durable appends", "log", quick, lambda: run_appends(events, rounds, folder))


@app.command()
def replay(quick: Quick = False, folder: Folder = HERE) -> None:
    """Verifying a log and folding it again: speed and memory."""
    _whole("Replay", "replay", quick, lambda: run_replay(quick=quick, folder=folder))


@app.command()
def idle(quick: Quick = False, folder: Folder = HERE) -> None:
    """A thousand idle tasks beside an active one."""
    found = run_idle(quick=quick, folder=folder)
    show("One active task among idle ones", found["rows"], f"fdatasync of the disk: {found['fdatasync_us']} µs")
    keep("idle", found, quick=quick)


@app.command()
def students(
    stream: Annotated[Path, typer.Argument(help="Recorded inputs and answers, one JSON object a line.", exists=True)],
    input_field: Annotated[str, typer.Option("--input", help="The field that holds the input.")] = "text",
    answer_field: Annotated[str, typer.Option("--answer", help="The field that holds the answer.")] = "teacher",
    encoder: Annotated[str | None, typer.Option(help="A sentence encoder instead of n-grams.")] = None,
    quick: Quick = False,
) -> None:
    """How good the embedded model becomes on recorded answers, by the number of examples."""
    found = run_students(stream, input_field=input_field, answer_field=answer_field, encoder=encoder, quick=quick)
    show(f"Students of {found['stream']} ({found['encoder']})", found["rows"])
    keep("students", found, quick=quick)


@app.command()
def encoders(
    stream: Annotated[Path, typer.Argument(help="Recorded inputs, one JSON object a line.", exists=True)],
    encoder: Annotated[list[str], typer.Option(help="A package, a folder or an .onnx file; may be repeated.")],
    input_field: Annotated[str, typer.Option("--input", help="The field that holds the text.")] = "text",
    quick: Quick = False,
) -> None:
    """What sentence encoders take for a text, side by side."""
    found = run_encoders(stream, encoder, input_field=input_field, quick=quick)
    show(f"Encoders on {found['stream']}, one text and {BATCH} together", found["rows"])
    keep("encoders", found, quick=quick)


@app.command()
def swap(
    quick: Quick = False,
    backend: Annotated[list[str] | None, typer.Option(help="vllm or llama_cpp; both if left out.")] = None,
) -> None:
    """What callers notice when versions take over from each other, on servers that `make heavy` prepares."""
    from benchmarks.swap_bench import BACKENDS, CALLERS, run_swap

    chosen = [each for each in BACKENDS if backend is None or each in backend]
    found = asyncio.run(run_swap(chosen, quick=quick))
    show(f"Versions that take over, {CALLERS} callers", found["rows"])
    keep("swap", found, quick=quick)


@app.command()
def streams(
    only: Annotated[list[str] | None, typer.Option(help="banking77, isear or bfcl; all of them without.")] = None,
    stream: Annotated[
        list[Path] | None, typer.Option(exists=True, help="Other recorded answers, one JSON object a line.")
    ] = None,
    input_field: Annotated[str, typer.Option("--input", help="The field of --stream that holds the input.")] = "text",
    answer_field: Annotated[str, typer.Option("--answer", help="… the recorded answer.")] = "teacher",
    gold_field: Annotated[str | None, typer.Option("--gold", help="… the right answer, if known.")] = None,
    encoder: Annotated[str, typer.Option(help="A sentence encoder beside n-grams; an empty name for none.")] = ENCODER,
    features: Annotated[list[str] | None, typer.Option(help=f"Only these of {', '.join(FEATURES)}.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help=f"Only these of {', '.join(KINDS)}.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Shuffles (5; quick: 1).")] = None,
    guarantee: Annotated[list[float] | None, typer.Option(help="Certified plays at these instead.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Plays with these fixed thresholds instead.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the plays.")] = 2,
    minutes: Annotated[float, typer.Option(help="Per stream: no play begins later.")] = inf,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the plays of the last run.")] = False,
    quick: Quick = False,
) -> None:
    """Recorded remote models played over several shuffles: calls against quality, certified and not."""
    grid = QUICK if quick else Grid()
    grid = grid._replace(
        seeds=seeds or grid.seeds,
        guarantees=guarantee or grid.guarantees,
        thresholds=threshold or grid.thresholds,
        features=(features or grid.features) if encoder else ("n-grams",),
        kinds=kind or grid.kinds,
    )
    named = list(only or ()) if stream or only else list(KNOWN)
    others = [
        Source(name=path.stem, path=str(path), input=input_field, answer=answer_field, gold=gold_field)
        for path in stream or ()
    ]
    for source in [*map(Source.known, named), *others]:
        kept = HERE / f"plays_{source.name}{'_quick' if quick else ''}.jsonl"
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            kept.unlink(missing_ok=True)
        found = watch(source, grid, encoder=encoder, workers=workers, kept=kept, limit_s=60 * minutes)
        if found is None:
            print(f"{source.name}: left out, for {SHARED / KNOWN[source.name][0]} is not there")
            continue
        path = keep(f"streams_{source.name}", found, quick=quick).with_suffix(".png")
        print(
            f"{found['seconds']} s; {path if draw_stream(found, path) else 'no picture: matplotlib is not installed'}"
        )


@app.command()
def teaching(
    only: Annotated[list[str] | None, typer.Option(help="banking77 or isear; both of them without.")] = None,
    encoder: Annotated[str, typer.Option(help="The sentence encoder.")] = ENCODER,
    tuned: Annotated[bool, typer.Option("--tuned", help="Fine-tune it too: minutes a shuffle.")] = False,
    quick: Quick = False,
) -> None:
    """Ways to teach the embedded model side by side: balanced rows, chosen rows, a fine-tuned encoder."""
    for name in only or ("banking77", "isear"):
        found = run_teaching(Source.known(name), encoder=encoder, tuned=tuned, quick=quick)
        if found is None:
            print(f"{name}: left out, for {SHARED / KNOWN[name][0]} is not there")
            continue
        show(f"Teaching on {name} ({found['shuffles']} shuffles)", found["rows"])
        keep(f"teaching_{name}", found, quick=quick)


@app.command()
def training(
    quick: Quick = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="On the first GPU: Qwen's shapes with random weights.")] = False,
) -> None:
    """Training of adapters beside TRL's SFTTrainer (extra ``heavy``), and whether merged weights mean the same."""
    from benchmarks.training_bench import run_on_gpu, run_training

    found = run_on_gpu(quick=quick) if gpu else run_training(quick=quick)
    show("Training of adapters", found["rows"], ", ".join(f"{key}: {found[key]}" for key in found if key != "rows"))
    if not gpu or found["gpu"] is not None:
        keep("training_gpu" if gpu else "training", found, quick=quick)


def _whole(title: str, name: str, quick: bool, run: Callable[[], dict[str, Any]]) -> None:
    found = run()
    show(title, [{"what": what, "found": value} for what, value in found.items()])
    keep(name, found, quick=quick)


if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    app()
