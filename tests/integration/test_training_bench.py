"""The benchmark of training runs, and says so where it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]


def bench(*words: str) -> str:
    command = [sys.executable, "-m", "benchmarks", "training", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900.0)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


def test_both_trainers_are_timed_on_the_same_examples_and_merged_weights_mean_the_same():
    bench("--quick")
    found = json.loads((ROOT / "benchmarks" / "results" / "tmp" / "training.json").read_bytes())
    rows = {row["trainer"]: row for row in found["rows"]}
    assert set(rows) == {
        *(
            "apprentice, packed",
            "apprentice, packed, nothing shared",
            "apprentice, padded",
            "TRL, packed",
            "TRL, padded",
        ),
    }
    assert all(row["tokens_per_s"] > 0 for row in rows.values())
    computed = {label: row["computed"] for label, row in rows.items()}
    assert computed["apprentice, packed"] < computed["apprentice, padded"]
    assert computed["apprentice, packed, nothing shared"] == computed["apprentice, padded"]
    assert 0.0 < found["merged_max_difference"] < 1e-3


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")
def test_without_a_gpu_it_says_that_nothing_was_measured():
    assert "there is no GPU on this machine" in bench("--gpu")
