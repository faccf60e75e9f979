"""Which version may take over."""

import math

import pytest

from apprentice_actors.commands import HeldOutRow
from apprentice_actors.policy.promotion import (
    LIVE_ROWS_MAX,
    SLICES_MAX,
    judge_challenger,
    judge_held_out,
    judge_predecessor,
)
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


@pytest.mark.parametrize(
    ("score", "base", "accepted"),
    [
        (0.35, 0.30, True),
        (0.34, 0.30, False),
        (0.95, 0.90, True),
        (0.94, 0.90, False),
        (0.98, 0.96, True),
        (0.97, 0.96, False),
        (1.0, 1.0, True),
    ],
)
def test_a_first_version_beats_the_untrained_base_by_a_twentieth_or_half_of_what_it_leaves(score, base, accepted):
    verdict = judge_held_out(rows(score, base), (), untrained=True)
    assert verdict.accepted is accepted
    assert verdict.incumbent_score == pytest.approx(base)
    assert "the untrained base's" in verdict.reason
    assert accepted or "no gain of" in verdict.reason


def test_a_first_version_may_lose_a_slice_that_the_base_had():
    lost = [*rows(1.0, 0.0, 60), *rows(0.0, 1.0, 30, ("safety",))]
    assert judge_held_out(lost, ("safety",), untrained=True).accepted
    assert not judge_held_out(lost, ("safety",)).accepted


@pytest.mark.parametrize(("count", "few"), [(1, True), (19, True), (20, False)])
def test_a_verdict_on_few_rows_says_so(count, few):
    for incumbent, untrained in ((0.5, True), (0.5, False), (None, False)):
        verdict = judge_held_out(rows(0.9, incumbent, count), (), untrained=untrained)
        assert verdict.accepted
        assert ("too few to say much" in verdict.reason) is few


def test_slices_are_reported_must_pass_tags_first():
    mixed = [
        *rows(0.5, 1.0, 3, ("de",)),
        *rows(1.0, 0.5, 9, ("fr", "fr")),
        HeldOutRow(candidate=1.0, incumbent=None, tags=("safety",)),
    ]
    told = [(one.tag, one.rows, one.score, one.incumbent_score) for one in judge_held_out(mixed, ("safety",)).slices]
    assert told == [("safety", 1, 1.0, None), ("fr", 9, 1.0, 0.5), ("de", 3, 0.5, 1.0)]
    many = [HeldOutRow(candidate=1.0, incumbent=None, tags=(f"tag {number}",)) for number in range(200)]
    assert len(judge_held_out(many, ()).slices) == SLICES_MAX


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
