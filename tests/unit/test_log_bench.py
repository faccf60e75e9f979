"""The benchmark of the log runs; what it measures is not judged here."""

import pytest

from benchmarks import log_bench


@pytest.mark.heavy
def test_appends_are_measured_side_by_side(tmp_path):
    found = log_bench.run_appends(events=256, rounds=1, folder=tmp_path)
    assert found["events"] == 256
    assert found["share_of_raw"] == round(found["log_events_per_s"] / found["raw_events_per_s"], 3) > 0
    assert found["times_eventsourcing"] > 0
    assert found["fdatasync_us"] > 0
    assert list(tmp_path.iterdir()) == []


def test_replay_is_measured_from_file_and_memory(tmp_path):
    found = log_bench.run_replay(events=512, rounds=1, folder=tmp_path)
    assert found["records"] == 512
    assert min(found[f"{what}_records_per_s"] for what in ("rebuild", "verify", "in_memory")) > 0
