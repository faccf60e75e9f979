"""What ``python -m benchmarks guarantee`` found, drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.guarantee_worlds import ALPHA, FALSE_ALARM_EVERY, expected_audits

OURS_COLOUR, OTHERS_COLOUR, LINE_COLOUR = "#0b6e4f", "#9aa5b1", "#c0392b"


def draw(found: Mapping[str, Any], path: Path) -> bool:
    """Write a PNG; False where matplotlib (extra ``bench``) is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (false, alarms), (delays, served) = figure.subplots(2, 2)
    _false_certificates(false, found["methods"])
    _false_alarms(alarms, found["methods"])
    _delays(delays, found["delays"])
    _served(served, found["methods"])
    figure.suptitle(f"The promise, on {found['tasks']:,} simulated tasks and {found['requests']:,} requests")
    figure.savefig(path, dpi=110)
    return True


def _false_certificates(axes: Any, methods: Sequence[Mapping[str, Any]]) -> None:
    certify = [row for row in methods if row["false_certificates"] is not None]
    kinds = (
        ("all kinds", "false_certificates"),
        ("mean at the guarantee", "of_those_at_it"),
        ("every step at it", "all_steps_at_it"),
    )
    for place, (kind, key) in enumerate(kinds):
        bars = axes.bar(
            [at + (place - 1) * 0.27 for at in range(len(certify))],
            [row[key] for row in certify],
            width=0.25,
            label=kind,
            color=("#0b6e4f", "#5aa58a", "#b5d8ca")[place],
        )
        axes.bar_label(bars, fmt=lambda value: f"{value:.1%}", fontsize=8)
    axes.axhline(ALPHA, color=LINE_COLOUR, linestyle="--", linewidth=1, label="promised: at most 5%")
    axes.set_xticks(range(len(certify)), [row["method"] for row in certify])
    axes.set_ylabel("tasks with a false certificate")
    axes.legend(fontsize=8)


def _false_alarms(axes: Any, methods: Sequence[Mapping[str, Any]]) -> None:
    _bars(axes, methods, "false_alarms", "{:.2f}")
    axes.axhline(1_000 / FALSE_ALARM_EVERY, color=LINE_COLOUR, linestyle="--", linewidth=1, label="promised: at most")
    axes.set_ylabel("false alarms per 1,000 audits")
    axes.legend(fontsize=8)


def _delays(axes: Any, delays: Sequence[Mapping[str, Any]]) -> None:
    came = [one for one in delays if one["audits"] is not None and one["family"] == "sudden drop"]
    axes.scatter(
        [one["drop"] for one in came],
        [max(one["audits"], 1) for one in came],
        s=14,
        alpha=0.5,
        color=OURS_COLOUR,
        label="a task",
    )
    drops = [0.02 + 0.01 * step for step in range(45)]
    axes.plot(drops, [expected_audits(drop) for drop in drops], color=LINE_COLOUR, label="log A / KL")
    axes.set_yscale("log")
    axes.set_xlabel("drop under the guarantee")
    axes.set_ylabel("audits from the drop to the demotion")
    axes.legend(fontsize=8)


def _served(axes: Any, methods: Sequence[Mapping[str, Any]]) -> None:
    _bars(axes, methods, "served_after_drop", "{:,.0f}")
    axes.set_ylabel("answers served from a sudden drop\nto the alarm (median; none: in under half)")


def _bars(axes: Any, methods: Sequence[Mapping[str, Any]], key: str, form: str) -> None:
    values = [row[key] for row in methods]
    colours = [OURS_COLOUR, *[OTHERS_COLOUR] * (len(methods) - 1)]
    bars = axes.bar([row["method"] for row in methods], [value or 0.0 for value in values], color=colours)
    axes.bar_label(bars, labels=[form.format(value) if value is not None else "none" for value in values], fontsize=8)
