"""The promise in everyday words: true to the state, and about the request that was asked for."""

import msgspec
import pytest
from test_decide import SETTINGS, serving
from test_review import compared, learner, settle

from apprentice.promising import bounded, percent, promise, promised_then
from apprentice_actors.epochs import restarted
from apprentice_events import vocabulary as v
from apprentice_events.evidence import Tally
from apprentice_events.task_state import TaskState, evolve

CONFIG = v.ConfigApplied(digest="d", settings=msgspec.json.encode(SETTINGS).decode())
BEGUN = v.EvidenceRestarted(
    epoch=1, reason="", guarantee=0.9, alpha=0.03, gates=(0.8,), window_size=100, false_alarm_every=1000
)
CERTIFIED = v.CertificateIssued(gate=0.8, epoch=1, log_wealth=5.0, log_threshold=4.0, comparisons=123)
LOCAL_FIRST = v.RequestRouted(
    request="r", route="local_first", phase="steady_state", reason="", turn=1, version="t@v1", gate=0.8
)
BY_LOCAL = v.ResponseServed(request="r", by="local", output="o", latency_ms=1.0)
BY_REMOTE = v.ResponseServed(request="r", by="remote", output="o", latency_ms=1.0)
SAID = v.LocalAnswered(request="r", version="t@v1", output="o", p_agree=0.42, latency_ms=1.0)
SCORED = v.RemoteScored(
    request="r", turn=1, version="t@v1", score=0.5, chance=0.0, p_agree=0.9, audit_probability=0.1, served="local"
)


@pytest.mark.parametrize(
    ("value", "told"), [(0.9, "90%"), (0.995, "99.5%"), (1.0, "100%"), (0.99999, "99.9%"), (0.0, "0%"), (0.5, "50%")]
)
def test_shares_are_told_with_the_places_they_have(value: float, told: str):
    assert percent(value) == told


def test_a_tally_has_bounds_that_heed_its_weights():
    assert bounded(Tally()) == (None, None, None)
    even, uneven = Tally(), Tally()
    for number in range(100):
        even.add(float(number % 10 > 0), 2.0)
        uneven.add(float(number % 10 > 0), 50.0 if number % 5 == 2 else 1.0)
    value, low, high = bounded(even)
    assert (value, low < 0.9 < high) == (pytest.approx(0.9), True)
    assert high - low == pytest.approx(0.12, abs=0.02)
    _, lower, higher = bounded(uneven)
    assert higher - lower > high - low


def test_a_cold_start_promises_nothing_and_says_what_is_missing():
    told = promise(TaskState(task="t"), SETTINGS)
    assert "Nothing is promised yet" in told.says
    assert "90%" in told.says
    assert told.evidence == "No local answer has been compared with the remote model's."
    assert "50 more examples to collect" in told.changes


def test_a_learner_is_told_how_far_the_certificate_is():
    state = learner()
    compared(state, 1.0, 30)
    first = promise(state, SETTINGS)
    assert "30 local answers compared" in first.evidence
    compared(state, 1.0, 10)
    second = promise(state, SETTINGS)
    assert "takes about" in second.changes
    left = [int(one.changes.partition("takes about ")[2].split()[0].replace(",", "")) for one in (first, second)]
    assert left[0] > left[1] > 0
    bad = learner()
    compared(bad, 0.0, 60)
    assert "do not point to 90%" in promise(bad, SETTINGS).changes
    assert "The correlation, at least" in promise(bad, SETTINGS).changes


def test_a_graduate_is_told_what_ends_the_promise():
    state = learner()
    compared(state, 1.0, 80)
    settle(state)
    told = promise(state, SETTINGS)
    assert told.gate is not None
    assert "at least 90% agree" in told.says
    assert "80 local answers compared" in told.evidence
    assert "sudden fall" in told.changes
    assert told.noticed in told.changes
    everything = msgspec.structs.replace(state, gate=0.0)
    assert "all that it has" in promise(everything, SETTINGS).says


def test_a_second_beginning_is_said_to_be_one():
    state = learner()
    evolve(state, restarted(state, SETTINGS, "again"), 0)
    assert promise(state, SETTINGS).evidence.endswith("since the evidence began again.")
    compared(state, 1.0, 1)
    assert "1 local answer compared" in promise(state, SETTINGS).evidence
    assert "for the 2nd time" in promise(state, SETTINGS).evidence


def test_an_unsteady_teacher_makes_the_promise_unreachable():
    state = serving()
    state.certified = []
    for number in range(50):
        measured = v.SelfAgreementMeasured(request="r", teacher="p/m", score=number % 2, audit_probability=1.0)
        evolve(state, measured, 0)
    assert promise(state, SETTINGS).unreachable is not None


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        ([LOCAL_FIRST, BY_LOCAL], ["at least 90%", "123 comparisons", "at most 5%", "not compared itself"]),
        ([LOCAL_FIRST, BY_LOCAL, SCORED], ["at least 90%", "agree to 50%"]),
        (
            [LOCAL_FIRST, msgspec.structs.replace(BY_LOCAL, degraded="no money")],
            ["Nothing is promised about this answer", "not compared itself"],
        ),
        ([LOCAL_FIRST, SAID, BY_REMOTE], ["the remote model's own answer", "a gate step of 0.42 or less"]),
        ([msgspec.structs.replace(LOCAL_FIRST, inline=True), SAID, BY_REMOTE], ["the caller waited for it"]),
        ([msgspec.structs.replace(LOCAL_FIRST, route="remote_with_shadow"), BY_REMOTE], ["once a gate step"]),
        ([msgspec.structs.replace(LOCAL_FIRST, route="remote", version=None), BY_REMOTE], ["no local model yet"]),
    ],
)
def test_a_request_is_told_what_was_promised_about_its_answer(events, parts):
    looser = msgspec.structs.replace(CERTIFIED, gate=0.5, comparisons=999)
    told = promised_then(events, [CONFIG, BEGUN, CERTIFIED, looser])
    for part in parts:
        assert part in told


def test_a_request_without_an_answer_was_promised_nothing():
    assert promised_then([LOCAL_FIRST], [CONFIG]) == ""


def test_a_guarantee_out_of_reach_at_that_time_is_said():
    raised = v.AlertRaised(alert="unreachable", severity="warning", message="the guarantee is out of reach: unsteady")
    other = v.AlertRaised(alert="quality", severity="critical", message="bad")
    assert "At that time the guarantee is out of reach" in promised_then([LOCAL_FIRST, BY_REMOTE], [raised, other])
    over = [raised, v.AlertCleared(alert="unreachable"), other]
    assert "At that time" not in promised_then([LOCAL_FIRST, BY_REMOTE], over)
