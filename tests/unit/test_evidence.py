"""Evidence: order, weights, bands, detectors, bounds of the buffer."""

from math import log

import msgspec
import pytest

from apprentice_events import evidence as module
from apprentice_events.evidence import Evidence, bet_on
from apprentice_events.vocabulary import EvidenceRestarted, RemoteScored


def begun(gates=(0.9, 0.5), guarantee=0.9, window_size=4, epoch=1) -> Evidence:
    evidence = Evidence()
    begin(evidence, gates, guarantee, window_size, epoch)
    return evidence


def begin(evidence, gates=(0.9, 0.5), guarantee=0.9, window_size=4, epoch=1) -> None:
    evidence.restart(
        EvidenceRestarted(
            epoch=epoch,
            reason="test",
            guarantee=guarantee,
            alpha=0.03,
            gates=gates,
            window_size=window_size,
            false_alarm_every=1000,
        )
    )


def scored(turn, score=1.0, p_agree=0.95, q=1.0, served="remote", chance=0.2) -> RemoteScored:
    return RemoteScored(
        request=f"r{turn}",
        turn=turn,
        version="t@v1",
        score=score,
        chance=chance,
        p_agree=p_agree,
        audit_probability=q,
        served=served,
    )


def test_comparisons_are_folded_in_the_order_of_their_coins():
    evidence = begun()
    for turn in range(3):
        evidence.coin(turn, 1.0, True)
    evidence.scored(scored(2, score=0.2))
    evidence.scored(scored(1, score=0.1))
    assert evidence.comparisons == 0
    evidence.scored(scored(0, score=0.0))
    assert [seen.score for seen in evidence.bands[0].window] == [0.0, 0.1, 0.2]


def test_a_missed_turn_lets_the_next_ones_through_and_is_counted():
    evidence = begun()
    evidence.coin(0, 1.0, True)
    evidence.coin(1, 1.0, True)
    evidence.scored(scored(1))
    evidence.missed_turn(0)
    assert (evidence.comparisons, evidence.missed, evidence.missed_in_a_row) == (1, 1, 0)
    evidence.coin(2, 1.0, True)
    evidence.missed_turn(2)
    evidence.missed_turn(2)
    assert (evidence.missed, evidence.missed_in_a_row) == (2, 1)


def test_an_unaudited_turn_needs_no_slot_and_takes_the_rate_of_its_coin():
    evidence = begun()
    evidence.coin(0, 0.25, False)
    evidence.coin(1, 0.5, False)
    evidence.scored(scored(0, score=0.0, p_agree=0.6))
    evidence.scored(scored(1, score=1.0, p_agree=0.6))
    band = evidence.bands[1]
    assert (band.count, band.weight, band.loss) == (2, 0.75, 0.25)


def test_an_audited_answer_above_the_gate_weighs_one_in_the_bet_and_its_inverse_in_the_totals():
    evidence = begun()
    evidence.coin(0, 0.1, True)
    evidence.scored(scored(0, q=0.1, served="local"))
    assert evidence.bands[0].weight == pytest.approx(1.0)
    assert evidence.bands[0].window[0].weight == pytest.approx(10.0)
    assert evidence.served_local.weight == pytest.approx(10.0)
    assert evidence.served_local.agreement == pytest.approx(10.0)


def test_a_score_after_its_audit_was_missed_is_ignored():
    evidence = begun()
    evidence.coin(0, 0.5, True)
    evidence.missed_turn(0)
    evidence.scored(scored(0, q=0.5, served="local"))
    assert (evidence.ignored, evidence.comparisons) == (1, 0)


def test_the_buffer_is_bounded_and_a_late_score_is_ignored_and_counted(monkeypatch):
    monkeypatch.setattr(module, "OPEN_TURNS_MAX", 3)
    evidence = begun()
    for turn in range(4):
        evidence.coin(turn, 1.0, True)
    assert (evidence.missed, list(evidence.open_turns)) == (1, [1, 2, 3])
    evidence.scored(scored(0))
    assert (evidence.ignored, evidence.comparisons) == (1, 0)
    evidence.scored(scored(1))
    assert evidence.comparisons == 1


def test_what_waits_behind_a_hanging_turn_is_bounded_too(monkeypatch):
    monkeypatch.setattr(module, "OPEN_TURNS_MAX", 5)
    evidence = begun()
    evidence.coin(0, 0.5, True)
    for turn in range(1, 8):
        evidence.coin(turn, 0.5, False)
        evidence.scored(scored(turn, p_agree=0.1))
    assert (evidence.missed, evidence.comparisons, evidence.waiting) == (1, 7, [])


def test_a_rate_too_long_ago_to_know_makes_the_score_ignored(monkeypatch):
    monkeypatch.setattr(module, "RATE_CHANGES_MAX", 2)
    evidence = begun()
    for turn, rate in enumerate((1.0, 0.9, 0.8)):
        evidence.coin(turn, rate, False)
    evidence.scored(scored(0))
    evidence.scored(scored(1))
    assert (evidence.ignored, evidence.comparisons) == (1, 1)


def test_a_restart_forgets_what_is_under_way_but_keeps_the_totals():
    evidence = begun()
    evidence.coin(0, 1.0, True)
    evidence.coin(1, 1.0, True)
    evidence.scored(scored(0))
    begin(evidence, epoch=2)
    evidence.scored(scored(1))
    assert (evidence.epoch, evidence.comparisons, evidence.ignored) == (2, 0, 1)
    assert evidence.everything.count == 1
    assert all(band.count == 0 for band in evidence.bands)


def test_bands_hold_the_tightest_step_cleared_and_a_bounded_window():
    evidence = begun(window_size=2)
    for turn, p_agree in enumerate((0.95, 0.9, 0.89, 0.5, 0.49, 0.99)):
        evidence.coin(turn, 1.0, True)
        evidence.scored(scored(turn, p_agree=p_agree))
    assert [band.count for band in evidence.bands] == [3, 2, 1]
    assert [seen.ordinal for seen in evidence.bands[0].window] == [2, 6]


def test_before_the_first_epoch_comparisons_are_only_counted():
    evidence = Evidence()
    evidence.coin(0, 1.0, True)
    evidence.scored(scored(0))
    assert (evidence.everything.count, evidence.comparisons, evidence.bands) == (1, 0, [])


def test_only_answers_served_locally_move_the_detectors():
    evidence = begun()
    evidence.coin(0, 1.0, True)
    evidence.scored(scored(0, score=0.0, served="remote"))
    assert evidence.shift == [0.0, 0.0, 0.0, 0.0]
    evidence.coin(1, 1.0, True)
    evidence.scored(scored(1, score=0.0, served="local"))
    assert evidence.shift == pytest.approx([log(1.5), log(2), log(3), log(6)])
    assert evidence.drift == pytest.approx([1.25])
    evidence.restart_detectors()
    assert (evidence.shift, evidence.drift) == ([0.0, 0.0, 0.0, 0.0], [0.0])


def test_the_bet_is_the_likelihood_ratio_and_never_loses_everything():
    bet = bet_on(2.0, 0.9)
    assert 1 + bet * 0.9 == pytest.approx(0.2 / 0.1)
    assert 1 - bet * 0.1 == pytest.approx(0.8 / 0.9)
    assert all(1 - bet_on(multiple, 0.3) * 0.7 > 0 for multiple in module.SHIFT_ALTERNATIVES)


@pytest.mark.parametrize("guarantee", [0.0, 1.0])
def test_a_guarantee_that_nothing_could_show_is_refused(guarantee):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        begun(guarantee=guarantee)


def test_a_snapshot_round_trips():
    evidence = begun()
    for turn, rate in enumerate((1.0, 1.0, 0.9, 0.9)):
        evidence.coin(turn, rate, turn != 2)
    evidence.scored(scored(0, score=0.3, served="local"))
    evidence.scored(scored(3, q=0.9, served="local"))
    again = msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence)
    assert again == evidence
    again.missed_turn(1)
    evidence.missed_turn(1)
    assert again == evidence
    assert evidence.comparisons == 2
