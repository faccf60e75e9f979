"""The benchmarks run; what they measure is not judged here."""

import subprocess
import sys

import pytest

from apprentice_events.task_state import TaskState, evolve
from benchmarks import gateway_bench, latency_bench, log_bench, replay_bench
from benchmarks.frontier_process import frontier
from benchmarks.measuring import Load, closed_loop
from benchmarks.traffic import TASK, steady_entries


@pytest.mark.heavy
def test_appends_are_measured_side_by_side(tmp_path):
    found = log_bench.run_appends(events=256, rounds=1, folder=tmp_path)
    assert found["events"] == 256
    assert found["share_of_raw"] == pytest.approx(found["log_events_per_s"] / found["raw_events_per_s"], rel=0.01)
    assert found["times_eventsourcing"] > 0
    assert found["fdatasync_us"] > 0
    assert list(tmp_path.iterdir()) == []


def test_replay_is_measured_from_file_and_memory(tmp_path):
    found = replay_bench.run_replay(events=512, quick=True, folder=tmp_path)
    assert found["events"] == 512
    assert min(found[f"{what}_events_per_s"] for what in ("fill", "from_file", "in_memory", "verify")) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_steady_traffic_folds_to_a_steady_task():
    state = TaskState(task=TASK)
    for entry in steady_entries(5000):
        evolve(state, entry.event, 0)
    counters = state.counters
    assert (state.phase, state.gate, state.rate) == ("steady_state", 0.9, 0.02)
    assert counters.served_local / counters.requests == pytest.approx(0.9, abs=0.01)
    assert counters.remote_calls / counters.requests == pytest.approx(0.12, abs=0.01)
    assert state.evidence.comparisons > 100
    assert state.evidence.missed == state.evidence.ignored == 0
    assert len(state.flights) <= 1


async def test_a_closed_loop_asks_every_request_once():
    asked = []

    async def act(number: int) -> None:
        asked.append(number)

    load = await closed_loop(act, callers=3, requests=10, first=5)
    assert sorted(asked) == list(range(5, 15))
    assert len(load.latencies_ms) == 10
    assert load.latencies_ms == sorted(load.latencies_ms)


def test_quantiles_are_values_that_were_seen():
    load = Load(latencies_ms=[float(value) for value in range(100)], seconds=2.0)
    assert (load.quantile(0.5), load.quantile(0.99), load.quantile(1.0), load.per_s) == (50.0, 99.0, 99.0, 50.0)


@pytest.mark.heavy
async def test_the_three_routes_are_measured_against_one_frontier(tmp_path):
    with frontier(0.0) as url:
        bare = await latency_bench.measure_bare(url, tmp_path / "bare", 2, 4)
        cold, commit_ms = await latency_bench.measure_cold(url, tmp_path / "cold", 2, 4)
        steady, _, local = await latency_bench.measure_steady(url, tmp_path / "steady", 2, 40)
    assert [len(load.latencies_ms) for load in (bare, cold, steady)] == [4, 4, 40]
    assert commit_ms > 0
    assert local > 0.9


@pytest.mark.heavy
async def test_the_gateway_and_the_bare_clients_ask_one_frontier(tmp_path):
    bare = (gateway_bench.ONE, gateway_bench.BARE)
    with frontier(0.0) as url:
        async with gateway_bench.open_routes(url, tmp_path, bare) as routes:
            loads = {name: await closed_loop(act, callers=2, requests=6) for name, act in routes.acts.items()}
    assert {name: len(load.latencies_ms) for name, load in loads.items()} == dict.fromkeys(
        (*bare, gateway_bench.OURS), 6
    )
    assert len(routes.commits_ms) >= 2  # an intent and an outcome at least, however the calls were committed together


@pytest.mark.heavy
def test_the_gateway_benchmark_stays_on_this_machine():
    code = """
import socket
from benchmarks.gateway_bench import stay_on_this_machine
stay_on_this_machine()
socket.getaddrinfo("127.0.0.1", 80)
socket.getaddrinfo("elsewhere.invalid", 80)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "PermissionError: the benchmark stays on this machine" in found.stderr
    assert "elsewhere.invalid" in found.stderr.splitlines()[-1]
