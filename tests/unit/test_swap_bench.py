"""The figures of the swap benchmark, on a run that is made up."""

import pytest

from benchmarks.swap_bench import Seen, Swap, Swaps


def steady(start: float, end: float, every: float = 0.1, took: float = 0.05) -> list[Seen]:
    count = round((end - start) / every)
    times = [start + at * every for at in range(1, count + 1)]
    return [Seen(time - took, time, right=True) for time in times]


def test_a_silence_is_found_where_nobody_was_answered():
    requests = [*steady(0.0, 10.0), *steady(10.3, 20.0)]
    row = Swaps(requests, [Swap(8.0, 10.1)]).row("made up")
    assert row["silence_at_switch_ms"] == pytest.approx(400.0, abs=1.0)
    assert row["usual_silence_ms"] == pytest.approx(100.0, abs=1.0)
    assert row["load_ms"] == pytest.approx(2100.0)
    assert (row["errors"], row["swaps"], row["right"]) == (0, 1, "100.0%")


def test_latencies_are_told_before_during_and_after():
    requests = [*steady(0.0, 8.0), *steady(8.0, 10.0, took=0.2), *steady(10.0, 20.0, took=0.07)]
    row = Swaps(requests, [Swap(8.0, 10.0)]).row("made up")
    assert row["p99_before_ms"] == pytest.approx(50.0)
    assert row["p99_loading_ms"] == pytest.approx(200.0)
    assert Swaps(requests, [Swap(8.0, 10.05)]).row("made up")["p99_after_ms"] == pytest.approx(70.0)


def test_errors_are_counted_and_kept():
    found = Swaps([*steady(0.0, 10.0), Seen(5.0, 5.1, failed="v2: gone")], [Swap(4.0, 5.0)])
    assert found.errors == ["v2: gone"]
    assert found.row("made up")["errors"] == 1
