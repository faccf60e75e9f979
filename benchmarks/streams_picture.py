"""What ``python -m benchmarks streams`` found on one stream, drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.streams import PUBLISHED, curve

COLOURS = {"tuned": "#1c2833", "encoder": "#0b6e4f", "n-grams": "#2e6da4"}
LINES = {"certified": "-", "threshold": ":"}
OTHERS = ("#c0392b", "#8e44ad", "#d68910")


def draw(found: Mapping[str, Any], path: Path) -> bool:
    """Write a PNG; False where matplotlib (extra ``bench``) is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(figure)
    (gold, agreement), (served, recall) = figure.subplots(2, 2)
    _curves(gold, found, "gold", "accuracy on gold, all answers")
    _published(gold, found)
    _curves(agreement, found, "agreement", "agreement with the remote model, all answers")
    _curves(served, found, "selective", "agreement of the answers served locally")
    _curves(recall, found, "recall_q1", "recall per class: lower quartile and least (thin)")
    _curves(recall, found, "recall_min", "recall per class: lower quartile and least (thin)", width=0.7)
    shuffles = f"{found['shuffles']} shuffle{'s' if found['shuffles'] > 1 else ''}"
    about = f"{found['stream']}: {found['requests']:,} requests to {found['teacher']}"
    figure.suptitle(f"{about}, means of up to {shuffles}")
    figure.savefig(path, dpi=110)
    return True


def _curves(axes: Any, found: Mapping[str, Any], key: str, label: str, *, width: float = 1.6) -> None:
    for features, colour in COLOURS.items():
        for kind, line in LINES.items():
            points = curve(found["rows"], features, kind, key)
            if points:
                calls, values = zip(*points, strict=True)
                name = f"{features}, {kind}" if width > 1 else None
                axes.plot(calls, values, line, marker="o", markersize=3, color=colour, linewidth=width, label=name)
    axes.set_xlabel("remote calls per request")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _published(axes: Any, found: Mapping[str, Any]) -> None:
    for colour, one in zip(OTHERS, PUBLISHED.get(found["stream"], ()), strict=False):
        calls, values = zip(*one.points, strict=True)
        axes.plot(calls, values, "--", marker="*", markersize=9, color=colour, linewidth=0.8, label=one.system)
    if found["teacher_gold"] is not None:
        axes.axhline(found["teacher_gold"], color="#9aa5b1", linewidth=1, label=f"{found['teacher']} throughout")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
