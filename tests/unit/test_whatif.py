"""The parts of a what-if by themselves: coins, drawing what is missing, summing up, and admitting limits."""

import random

import msgspec
import pytest
from test_decide import SETTINGS

from apprentice.whatif.estimate import UNESTIMATED, _known_range, what_if
from apprentice.whatif.filling import Filling
from apprentice.whatif.recorded import Asked, Place, Recorded
from apprentice.whatif.replaying import RULES
from apprentice_actors import review
from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_actors.settings import Cap, TaskSettings
from apprentice_events import vocabulary as v
from apprentice_events.chain import GENESIS
from apprentice_events.codec import encode
from apprentice_events.log import Record


def chance(number: int):
    return random.Random(number).random


def asked(number: int, **more) -> Asked:
    known = {"id": f"r{number}", "p_agree": 0.9, "score": 1.0, **more}
    return Asked(input="i", key=None, tags=(), holdout=False, opened_at=Place(number, number), **known)


SERVED = {"route": "local_first", "phase": "steady_state", "rate": 0.2, "served": "local"}


@pytest.mark.parametrize(
    ("known", "coin"),
    [
        ({**SERVED, "audited": True, "bought_with": 0.2}, (0.0, 0.2)),
        ({**SERVED, "audited": True, "score": None}, (0.0, 0.2)),
        ({**SERVED, "audited": False, "score": None}, (0.2, 1.0)),
        ({**SERVED, "audited": True, "served": "remote", "bought_with": 0.2}, (0.0, 0.2)),
        ({**SERVED, "audited": True, "served": "remote"}, (0.0, 1.0)),
        ({**SERVED, "audited": False, "refused": "no money"}, (0.0, 1.0)),
        ({**SERVED, "rate": 1.0, "audited": True}, (0.0, 1.0)),
        ({"route": "remote_with_shadow", "phase": "reinforcement", "audited": True, "served": "remote"}, (0.0, 1.0)),
        ({**SERVED, "served": None}, (0.0, 1.0)),
    ],
    ids=[
        *("audited", "audit missed", "not audited", "inline", "under the gate", "degraded", "always audited", "shadow"),
        "cut off",
    ],
)
def test_the_record_bounds_the_coin_as_far_as_it_mattered(known, coin):
    assert asked(1, **known).coin == coin


def test_what_was_compared_stays_and_what_was_not_is_drawn_once_a_run():
    rows = [asked(number, score=float(number % 10 > 0)) for number in range(200)]
    missing = [asked(1000 + number, score=None) for number in range(300)]
    filling = Filling([*rows, *missing], DEFAULT_GATES, chance(1))
    assert [filling.pair(one).score for one in rows] == [one.score for one in rows]
    first = [filling.pair(one) for one in missing]
    assert [filling.pair(one) for one in missing] == first
    assert {pair.p_agree for pair in first} == {0.9}
    again = Filling([*rows, *missing], DEFAULT_GATES, chance(2))
    assert [again.pair(one) for one in missing] != first


def test_the_missing_is_drawn_from_its_own_time_and_band():
    early = [asked(number, score=1.0) for number in range(100)]
    late = [asked(1000 + number, score=0.0) for number in range(100)]
    unsure = [asked(number, p_agree=0.55, score=0.0) for number in range(300, 400)]
    filling = Filling([*early, *late, *unsure], DEFAULT_GATES, chance(0))

    def mean(place: int, p_agree: float) -> float:
        rows = [asked(place, id=f"{place} {p_agree} {n}", p_agree=p_agree, score=None) for n in range(200)]
        return sum(filling.pair(one).score for one in rows) / len(rows)

    assert mean(50, 0.9) > 0.6 > 0.4 > mean(1050, 0.9)
    assert mean(50, 0.55) < 0.5, "another band"
    assert mean(10_000, 0.9) < 0.5, "beyond the last comparison, the last ones speak"


def test_a_comparison_that_was_rarely_bought_speaks_for_many():
    rows = [asked(number, score=1.0, bought_with=1.0) for number in range(0, 40, 2)]
    rows += [asked(number, score=0.0, bought_with=0.02) for number in range(1, 40, 2)]
    drawn = []
    for run in range(40):
        filling = Filling(rows, DEFAULT_GATES, chance(run))
        drawn += [filling.pair(asked(100 + n, score=None)).score for n in range(20)]
    assert sum(drawn) / len(drawn) < 0.5


def test_a_band_that_never_disagreed_is_doubted_as_far_as_the_model_doubts_itself():
    rows = [asked(number, score=1.0) for number in range(15)]
    means = []
    for run in range(60):
        filling = Filling(rows, DEFAULT_GATES, chance(run))
        means.append(sum(filling.pair(asked(100 + n, score=None)).score for n in range(200)) / 200)
    assert min(means) < 0.97
    assert 0.9 < sum(means) / len(means) < 1.0


def test_a_request_whose_local_answer_is_not_known_borrows_all_of_it():
    rows = [asked(number, p_agree=0.3 + number / 100, score=0.5) for number in range(50)]
    filling = Filling(rows, DEFAULT_GATES, chance(0))
    pairs = {filling.pair(asked(100 + number, p_agree=None, score=None)).p_agree for number in range(50)}
    assert len(pairs) > 3
    assert pairs <= {one.p_agree for one in rows}


def test_bounds_leave_a_twentieth_of_the_runs_on_each_side():
    found = _known_range([float(number) for number in range(101)])
    assert (found.mean, found.low, found.high) == (50.0, 5.0, 95.0)
    single = _known_range([3.0])
    assert (single.mean, single.low, single.high) == (3.0, 3.0, 3.0)


def test_only_rules_of_judgement_are_replayed():
    left_out = {rule.__name__ for rule in review.RULES} - {rule.__name__ for rule in RULES}
    assert {"judge_rival", "trigger_training", "retire_versions"} <= left_out
    assert all(name.startswith("watch_") or "_" in name for name in left_out)
    assert {"issue_certificates", "move_gate", "heed_shift", "keep_evidence_current"} <= {r.__name__ for r in RULES}


def test_every_setting_that_is_left_out_is_a_setting():
    assert set(TaskSettings.__struct_fields__) >= UNESTIMATED


# ---------------------------------------------------------------- a small log by hand


def recorded(count: int = 60) -> Recorded:
    """A task whose requests were all compared in the shadow, and never graduated."""
    found, position = Recorded("t"), 0

    def put(event: v.Event) -> None:
        nonlocal position
        position += 1
        time_ns, payload = position * 10**9, encode(event)
        one = Record(position, "task/t", position, event.TAG, 1, time_ns, None, None, None, payload, GENESIS)
        found.apply(one, one.event())
        found.apply(msgspec.structs.replace(one, stream="task/other"), one.event())

    put(v.ConfigApplied(digest="d", settings=msgspec.json.encode(SETTINGS).decode()))
    put(v.TrainingTriggered(job="j", version="t@v1", parent=None, cause="first", examples=0))
    put(v.AdapterTrained(job="j", version="t@v1", parent=None, manifest="m", examples=0, seconds=1.0, cost_nd=5))
    put(v.AdapterPromoted(version="t@v1", before=None, reason=""))
    for number in range(count):
        name = f"r{number}"
        put(v.RequestReceived(request=name, input="i"))
        put(
            v.RequestRouted(
                request=name,
                route="remote_with_shadow",
                phase="reinforcement",
                reason="",
                turn=number + 1,
                version="t@v1",
            )
        )
        put(v.BudgetReserved(request=name, attempt=1, amount_nd=9_000_000))
        put(v.RemoteCallIntended(request=name, attempt=1, provider="p", model="m"))
        put(v.LocalAnswered(request=name, version="t@v1", output="o", p_agree=0.97, latency_ms=1.0, shadow=True))
        answer = {"model": "m", "output": "o", "cost_nd": 10**6, "usage": v.TokenUsage(), "latency_ms": 1.0}
        put(v.RemoteAnswered(request=name, attempt=1, provider="p/m", **answer))
        put(v.ResponseServed(request=name, by="remote", output="o", latency_ms=1.0))
        put(v.BudgetSettled(request=name, attempt=1, amount_nd=10**6, reserved_nd=9_000_000))
        score = {"score": 1.0, "chance": 0.2, "p_agree": 0.97, "audit_probability": 1.0, "served": "remote"}
        put(v.RemoteScored(request=name, turn=number + 1, version="t@v1", **score))
    return found


def test_a_log_by_hand_is_read_as_it_stands():
    found = recorded(5)
    assert (found.happened.requests, found.happened.calls, found.happened.served_remote) == (5, 5, 5)
    assert (found.happened.spent_nd, found.happened.training_nd) == (5 * 10**6 + 5, 5)
    assert all(one.compared and one.calls == 1 and one.spent_nd == 10**6 for one in found.asked)
    assert found.settings == SETTINGS


def test_lower_thresholds_would_have_served_locally():
    target = msgspec.structs.replace(SETTINGS, guarantee=0.5, window_size=20, batch=7)
    told = what_if(recorded(), target, chance, runs=3)
    assert told.happened.graduated_after is None
    assert told.happened.agreement_local is None
    assert told.estimated.graduated_after is not None
    assert told.estimated.local_share.low > 0.3
    assert told.estimated.graduated_runs == 1.0
    assert told.changed == ("guarantee: 0.9 → 0.5", "window_size: 100 → 20", "batch: 100 → 7")
    assert any("cannot tell what follows from batch" in limit for limit in told.limits)
    assert told.control_calls == told.requests == 60


def test_caps_that_would_have_been_passed_are_named():
    caps = (
        Cap(window="day", limit_nd=50 * 10**6),
        Cap(window="month", limit_nd=10**12),
        Cap(window="day", limit_nd=1, task="other"),
    )
    told = what_if(recorded(), SETTINGS, chance, runs=2, caps=caps)
    (said,) = [limit for limit in told.limits if "Caps are not applied" in limit]
    assert "day of $0.05" in said
    assert "$0.060000005" in said


def test_without_comparisons_there_is_nothing_to_say():
    with pytest.raises(ValueError, match="no comparisons"):
        what_if(recorded(0), SETTINGS, chance)
    with pytest.raises(ValueError, match="no comparisons"):
        what_if(Recorded("t"), SETTINGS, chance)
