"""Writing the version: the adapter, its confidence card, the losses as JSON and as a picture, and the manifest.

The files are a function of data, settings and seed; what differs from run to run (seconds, tokens per second) stands in
the manifest.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from apprentice.local.confidence import Card
from apprentice.training.adapters.checkpoint import Point
from apprentice.training.adapters.plan import CONFIG, WEIGHTS, Done, Plan
from apprentice.training.versions import sha256_of, write_version
from apprentice.training.worker import Refused

METRICS = "metrics.json"
PICTURE = "loss.png"


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How a training went."""

    seed: int
    losses: list[Point] = msgspec.field(default_factory=list)
    evaluations: list[Point] = msgspec.field(default_factory=list)
    counts: dict[str, float] = msgspec.field(default_factory=dict)
    """Whatever is the same in every run."""
    speeds: dict[str, float] = msgspec.field(default_factory=dict)
    """Whatever is not: seconds and what is divided by them."""
    words: dict[str, str] = msgspec.field(default_factory=dict)
    """What has no number, such as why the training ended."""


def finish(plan: Plan, adapter: Path, card: Card, course: Course, measured: dict[str, float]) -> Done:
    """Write the version of ``plan`` from the adapter in a folder. Raises :class:`VersionError`."""
    configuration = _configuration(adapter, plan)
    counts = {**course.counts, **measured}
    metrics = {**counts, **course.speeds}
    if course.losses:
        metrics["loss"] = course.losses[-1].loss

    def fill(folder: Path) -> None:
        shutil.copyfile(adapter / WEIGHTS, folder / WEIGHTS)
        (folder / CONFIG).write_text(configuration, encoding="utf-8")
        card.save(folder)
        told = {"losses": course.losses, "evaluations": course.evaluations, "counts": counts, "words": course.words}
        (folder / METRICS).write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
        draw(course, folder / PICTURE, plan.job.task)

    job, settings = plan.job, plan.settings
    digest = write_version(
        Path(job.folder),
        fill,
        version=job.version,
        base=settings.base_model,
        parent=job.parent,
        dataset=sha256_of(Path(job.train_file)),
        calibration=sha256_of(Path(job.calibration_file)),
        settings={**msgspec.to_builtins(settings), "seed": course.seed, "match_fields": list(job.match_fields)},
        metrics=metrics,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Done(manifest_sha256=digest, metrics=metrics)


def _configuration(adapter: Path, plan: Plan) -> str:
    """The adapter's configuration, equal ones spelled alike. Raises :class:`Refused` where it cannot be served."""
    told = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    if told.get("modules_to_save"):
        raise Refused("the adapter has whole layers beside its LoRA matrices (modules_to_save), which servers refuse")
    told |= {"inference_mode": True, "base_model_name_or_path": plan.settings.base_model}
    if isinstance(told["target_modules"], list):
        told["target_modules"].sort()
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def draw(course: Course, path: Path, title: str) -> None:
    """The losses over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([point.step for point in course.losses], [point.loss for point in course.losses], label="training")
    if course.evaluations:
        steps, losses = zip(*((point.step, point.loss) for point in course.evaluations), strict=True)
        axes.plot(steps, losses, marker="o", label="slice kept apart")
    axes.set(title=title, xlabel="optimizer step", ylabel="loss per answer token", ylim=(0.0, None))
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
