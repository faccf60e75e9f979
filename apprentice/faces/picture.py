"""A version as a picture: how it did on the held-out rows, slice by slice, and how its loss fell. Needs matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apprentice.errors import CallerError, MissingExtra
from apprentice.lineage import Lineage, Verdict
from apprentice.training.curves import Curve

SLICES_MAX = 12
"""Slices that are drawn, in the order of the report."""
_DOTS_PER_INCH = 130
_FORMATS = (".png", ".svg", ".pdf")


def draw(one: Lineage, curves: Mapping[str, Curve], path: Path) -> None:
    """Write the picture of a version. Raises :class:`MissingExtra`, :class:`CallerError`, ``OSError``."""
    if path.suffix.lower() not in _FORMATS:
        raise CallerError(f"{path} is no picture that can be written; end its name in {', '.join(_FORMATS)}")
    if one.verdict is None and not curves:
        raise CallerError(f"there is nothing to draw of {one.version} yet: it is {one.status}")
    figure_class = _figure_class()
    panels = [panel for panel in (one.verdict is not None, bool(curves)) if panel]
    figure = figure_class(figsize=(6.0 * len(panels), 4.2), layout="constrained")
    axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
    if one.verdict is not None:
        _bars(axes.pop(0), one.version, one.verdict)
    if curves:
        _losses(axes.pop(0), curves)
    figure.suptitle(f"{one.version}: {one.status.replace('_', ' ')}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("pictures need matplotlib: pip install 'apprentice[train]'") from None
    return Figure


def _bars(axes: Any, version: str, verdict: Verdict) -> None:
    """Two bars per slice: the version beside what it was compared with."""
    rows = [("all", verdict.rows, verdict.score, verdict.incumbent_score)]
    rows += [(one.tag, one.rows, one.score, one.incumbent_score) for one in verdict.slices[:SLICES_MAX]]
    places = range(len(rows))
    axes.bar([at - 0.2 for at in places], [row[2] or 0.0 for row in rows], 0.38, label=version, color="#2a7f62")
    if verdict.incumbent is not None:
        others = [row[3] or 0.0 for row in rows]
        axes.bar([at + 0.2 for at in places], others, 0.38, label=verdict.incumbent, color="#b0b7bf")
    axes.set_xticks(list(places), [f"{name}\n{count:,} rows" for name, count, _, _ in rows])
    if len(rows) > 4:
        axes.tick_params(axis="x", labelrotation=60)
    axes.set_ylim(0.0, 1.05)
    axes.set_ylabel("mean score on held-out rows")
    word, colour = ("accepted", "#2a7f62") if verdict.accepted else ("rejected", "#b03030")
    axes.set_title(f"{word}: {verdict.reason}", color=colour, fontsize=8, wrap=True)
    axes.legend(loc="lower right", fontsize=8)


def _losses(axes: Any, curves: Mapping[str, Curve]) -> None:
    for name, curve in curves.items():
        axes.plot([step for step, _ in curve], [loss for _, loss in curve], label=name)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss on the answer's tokens")
    axes.set_title("training")
    axes.legend(loc="upper right")
