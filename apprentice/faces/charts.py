"""Small charts out of block characters: a line of bars, a meter, a curve. Text in, text out."""

from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ACROSS = " ▏▎▍▌▋▊▉█"


def sparkline(values: Sequence[float], top: float | None = None) -> str:
    """One bar per value, as high as its share of ``top`` (the largest value if none); zero is a thin line."""
    highest = max(values, default=0.0) if top is None else top
    if highest <= 0:
        return "▁" * len(values)
    return "".join(_EIGHTHS[max(1, min(8, round(8 * value / highest)))] for value in values)


def meter(share: float, width: int) -> str:
    """A bar of ``width`` characters filled to ``share`` in [0, 1], eighths of a character included."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_ACROSS[rest] if rest else "")).ljust(width)


def curve(values: Sequence[float], width: int, height: int, top: float = 1.0) -> list[str]:
    """``height`` lines, highest first, of a filled curve of ``values`` in [0, ``top``], stretched over ``width``."""
    if not values:
        return [" " * width] * height
    columns = [values[min(len(values) - 1, column * len(values) // width)] for column in range(width)]
    levels = [round(min(1.0, max(0.0, value / top)) * height * 8) for value in columns]
    return ["".join(_EIGHTHS[min(8, max(0, level - 8 * row))] for level in levels) for row in reversed(range(height))]
