"""How a what-if looks in a terminal: what happened beside what would have."""

from collections.abc import Callable, Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from apprentice.faces.look import money, share
from apprentice.whatif.estimate import Outcome, Range, WhatIf

_HOUR_S, _DAY_S = 3600.0, 86_400.0


def whatif_panel(told: WhatIf) -> Panel:
    """One task in a frame: the changes, the figures, the limits."""
    changes = Text("nothing is changed", "dim") if not told.changed else Text("\n".join(told.changed), "bold")
    parts: list[RenderableType] = [changes, Text(), _table(told), Text()]
    parts += [Text(f"· {limit}", "dim") for limit in told.limits]
    return Panel(Group(*parts), title=f"[bold]what if: {told.task}[/]", title_align="left", border_style="cyan")


def _table(told: WhatIf) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold dim")
    table.add_column(f"of {told.requests:,} requests", no_wrap=True)
    for name in ("happened", "would be", "bounds (90%)"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, happened, estimated, bounds in _rows(told.happened, told.estimated):
        table.add_row(Text(name), Text(happened), Text(estimated, "bold"), Text(bounds, "dim"))
    return table


def _rows(happened: Outcome, estimated: Outcome) -> Iterable[tuple[str, str, str, str]]:
    yield _row("remote calls", happened.remote_calls, estimated.remote_calls, lambda value: f"{value:,.0f}")
    yield _row("spent", happened.spent, estimated.spent, lambda value: money(str(value)))
    yield _row("answered locally", happened.local_share, estimated.local_share, _share)
    yield _row("agreement of all answers", happened.agreement, estimated.agreement, _share)
    yield _row("agreement of local answers", happened.agreement_local, estimated.agreement_local, _share)
    if happened.failed.mean or estimated.failed.mean:
        yield _row("failed", happened.failed, estimated.failed, lambda value: f"{value:,.0f}")
    after, before = estimated.graduated_after, happened.graduated_after
    yield _row("first local answer at request", before, after, lambda value: f"{value:,.0f}", "never")
    yield _row("first local answer after", happened.graduated_s, estimated.graduated_s, _duration, "never")


def _row(
    name: str, happened: Range | None, estimated: Range | None, tell: Callable[[float], str], absent: str = "–"
) -> tuple[str, str, str, str]:
    def one(value: Range | None) -> str:
        return absent if value is None else tell(value.mean)

    low, high = (tell(estimated.low), tell(estimated.high)) if estimated is not None else ("", "")
    return name, one(happened), one(estimated), low if low == high else f"{low} … {high}"


def _share(value: float) -> str:
    return share(value, places=1)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    if seconds < 2 * _HOUR_S:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / _HOUR_S:,.1f} h" if seconds < 2 * _DAY_S else f"{seconds / _DAY_S:,.1f} days"
