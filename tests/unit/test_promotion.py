"""Which version may take over."""

import math

import pytest

from apprentice_actors.commands import HeldOutRow
from apprentice_actors.policy.promotion import LIVE_ROWS_MAX, judge_challenger, judge_held_out, judge_predecessor
from apprentice_events.versions_state import Paired, VersionsState


def rows(candidate, incumbent, count=100, tags=()):
    return [HeldOutRow(candidate=candidate, incumbent=incumbent, tags=tags) for _ in range(count)]


def live(*pairs: tuple[float, float]) -> Paired:
    versions = VersionsState(paired=Paired(champion="a", rival="b"))
    for champion, rival in pairs:
        versions.compare("a", champion, "b", rival)
    return versions.paired


def test_the_first_version_needs_no_incumbent():
    assert judge_held_out(rows(0.1, None), ()).accepted
    assert judge_held_out([], ()).accepted


@pytest.mark.parametrize(("wrong", "accepted"), [(0, True), (1, True), (30, False)])
def test_worse_with_confidence_is_rejected(wrong, accepted):
    verdict = judge_held_out([*rows(1.0, 1.0, 100 - wrong), *rows(0.0, 1.0, wrong)], ())
    assert verdict.accepted is accepted
    assert accepted or "worse with confidence" in verdict.reason


def test_one_lost_row_of_a_must_pass_tag_is_one_too_many():
    mixed = [*rows(1.0, 0.0, 50), *rows(0.0, 1.0, 1, ("safety",))]
    assert judge_held_out(mixed, ()).accepted
    assert "must-pass tag 'safety'" in judge_held_out(mixed, ("safety",)).reason


@pytest.mark.parametrize(("count", "accepted"), [(29, True), (30, False)])
def test_a_slice_keeps_95_percent_from_30_rows_on(count, accepted):
    mixed = [*rows(1.0, 0.0, 300), *rows(0.9, 1.0, count, ("fr",))]
    assert judge_held_out(mixed, ()).accepted is accepted


def test_a_live_challenger_that_is_worse_is_sent_away_and_a_better_one_promoted():
    accepted, _ = judge_challenger(live(*[(0.0, 1.0)] * 30))
    assert accepted
    refused, _ = judge_challenger(live(*[(1.0, 0.0)] * 30))
    assert not refused


def test_an_even_challenger_is_decided_at_the_latest_after_so_many_rows():
    even = live(*[(1.0, 1.0)] * 10)
    assert judge_challenger(even) is None
    worse = live(*[(1.0, 1.0)] * (LIVE_ROWS_MAX - 12), *[(1.0, 0.0)] * 12)
    assert judge_challenger(worse) is not None


def test_the_predecessor_comes_back_with_evidence_alone():
    assert judge_predecessor(live(*[(0.0, 1.0)] * 5)) is None
    assert "agrees more often" in judge_predecessor(live(*[(0.0, 1.0)] * 20))
    assert judge_predecessor(live(*[(1.0, 1.0)] * 200)) is None


def test_pairs_of_other_versions_are_passed_over():
    versions = VersionsState(paired=Paired(champion="a", rival="b"))
    versions.compare("a", 1.0, "c", 0.0)
    assert versions.paired == Paired(champion="a", rival="b")


def test_the_processes_are_bets_on_the_difference():
    paired = live((1.0, 0.0), (0.0, 1.0))
    assert paired.log_ahead == paired.log_behind == pytest.approx(math.log(0.75) + math.log(1.25))
