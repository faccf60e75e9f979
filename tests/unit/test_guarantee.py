"""The benchmark of the guarantee: its truths are true, its judgements fall both ways. Figures are not judged here."""

import random

import msgspec
import pytest

from apprentice_actors.policy.gate import DEFAULT_GATES
from apprentice_events import vocabulary as v
from benchmarks import guarantee, guarantee_truth
from benchmarks.guarantee_rivals import RollingCertifier, RollingMonitor, WilsonCertifier, WilsonMonitor
from benchmarks.guarantee_truth import Served, judge, mean_risk
from benchmarks.guarantee_worlds import AGREEMENT, EPSILON, FAMILIES, WORST, Course, TaskWorld, expected_audits
from benchmarks.policy_sim import play


def test_a_full_run_has_a_thousand_tasks_of_all_kinds_and_a_thousand_of_the_worst():
    counts = {family: count for family, (count, _) in FAMILIES.items()}
    assert counts.pop(WORST) == 1_000
    assert sum(counts.values()) == 1_000


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_makes_tasks_whose_truth_is_a_probability(family):
    for number in range(4):
        course = FAMILIES[family][1](random.Random(f"{family}/{number}"))
        world = TaskWorld(course, number)
        assert course.family == family
        for index in range(0, len(course.levels), 97):
            for version in (f"t@v{one + 1}" for one in range(len(course.skills))):
                assert all(0.0 <= world.risk(index, gate, version) <= 1.0 for gate in DEFAULT_GATES)


@pytest.mark.parametrize("gate", [0.0, 0.7, 0.95])
def test_the_risk_of_a_step_is_what_its_answers_come_to(gate):
    world = TaskWorld(Course(family="test", levels=[0.85] * 40_000, slope=0.2, middle=0.65), 1)
    losses = [not world.agrees(index, "t@v1") for index in range(40_000) if world.confidences[index] >= gate]
    assert sum(losses) / len(losses) == pytest.approx(world.risk(0, gate, "t@v1"), abs=0.01)


def test_the_student_of_an_uneven_task_always_says_the_same():
    world = TaskWorld(Course(family="test", levels=[0.9] * 5_000, majority=0.9), 1)
    assert {world.answer(index, "t@v1").output for index in range(5_000)} == {0}
    assert sum(world.score(0, index) for index in range(5_000)) / 5_000 == pytest.approx(0.9, abs=0.015)


def test_the_formula_is_near_the_simulated_delays():
    """At 0.9 falling to 0.8, audits needed; the larger the drop the fewer."""
    assert expected_audits(0.1) == pytest.approx(155.6, abs=0.1)
    assert expected_audits(0.4) < expected_audits(0.2) < expected_audits(0.1)
    assert expected_audits(AGREEMENT) == pytest.approx(3.0, abs=0.1)


# ---------------------------------------------------------------- judgements


def test_the_mean_risk_weighs_by_the_rate_and_leaves_out_what_does_not_clear_the_step():
    world = TaskWorld(Course(family="test", levels=[0.9] * 100 + [0.6] * 100), 1)
    played = play(world.settings(), world, 200)
    asked = [index for index, told in enumerate(played.told) if told.version is not None]
    every = mean_risk(world, played, asked, 0.0)
    assert 0.1 < every < 0.4
    for index in asked:
        if index >= 100:
            played.told[index].rate = 0.0
    assert mean_risk(world, played, asked, 0.0) == pytest.approx(0.1)
    assert mean_risk(world, played, asked, 1.1) == 1.0


def test_a_certificate_is_false_by_the_truth_and_not_by_its_luck():
    world = TaskWorld(Course(family="test", levels=[0.98] * 400), 1)
    played = play(world.settings(), world, 400)
    assert played.events(v.CertificateIssued)
    assert not any(guarantee_truth._certificates(world, played))
    world.course = msgspec.structs.replace(world.course, levels=[AGREEMENT] * 400)  # it was lucky all along
    assert all(guarantee_truth._certificates(world, played))


def test_alarms_are_false_only_while_nothing_below_the_guarantee_was_served():
    world = TaskWorld(Course(family="test", levels=[0.98] * 700 + [0.5] * 300), 1)
    played = play(world.settings(), world, 1_000)
    served = [guarantee_truth._served(world, at, told) for at, told in enumerate(played.told) if told.served == "local"]
    audits, demotions, _ = guarantee_truth._false_alarms(played, served)
    assert demotions == 0
    assert 0 < audits < sum(one.audited for one in served)
    innocent = [Served(one.at, one.audited, one.loss, EPSILON) for one in served]
    assert guarantee_truth._false_alarms(played, innocent)[:2] == (sum(one.audited for one in served), 1)


@pytest.fixture(scope="module")
def dropped():
    return judge("sudden drop", 6)


def test_a_sudden_drop_is_timed_from_the_drop_to_the_demotion(dropped):
    delay = dropped.delay
    assert delay.drop >= 0.02
    assert delay.served == dropped.until_alarm == dropped.below
    assert 0 < delay.audits <= delay.served
    assert dropped.noticed <= dropped.until_alarm
    assert dropped.false_certificates == dropped.false_demotions == 0
    assert {"Wilson bound", "rolling mean"} <= dropped.rivals.keys()
    assert 0 < dropped.rivals["rolling mean"].served <= dropped.rivals["rolling mean"].watched


def test_what_is_promised_can_be_found_broken(dropped):
    kept = {row["what"]: row["kept"] for row in guarantee.summarise([dropped])["promises"]}
    assert all(kept.values())
    never = msgspec.structs.replace(dropped.delay, served=None, audits=None)
    broken = msgspec.structs.replace(dropped, false_certificates=1, false_demotions=9, false_drifts=9, delay=never)
    kept = {row["what"]: row["kept"] for row in guarantee.summarise([broken])["promises"]}
    assert [what for what, held in kept.items() if held] == ["tasks with a false certificate, all steps at it"]
    assert guarantee.printable([{"drop_missed": 1.0, "kept": False, "audits": None}]) == [
        {"drop_missed": "100.0%", "kept": "no", "audits": "–"}
    ]


# ---------------------------------------------------------------- rivals


def test_rivals_certify_a_good_student_and_raise_the_alarm_over_a_bad_one():
    for certifier, at in ((WilsonCertifier(), 35), (RollingCertifier(), 100)):
        assert [certifier.update(0.0) for _ in range(at)].index(True) == at - 1
    for monitor in (WilsonMonitor(), RollingMonitor()):
        assert not any(monitor.update(0.0) for _ in range(150))
        assert any(monitor.update(1.0) for _ in range(60))


@pytest.mark.heavy
def test_the_detectors_of_river_see_a_total_change():
    rivals = pytest.importorskip("river.drift", reason="the extra bench is not installed")
    assert rivals is not None
    from benchmarks.guarantee_rivals import ADWIN, PAGE_HINKLEY, monitors

    for name in (ADWIN, PAGE_HINKLEY):
        monitor = monitors()[name]()
        assert not any(monitor.update(0.0) for _ in range(300))
        assert any(monitor.update(1.0) for _ in range(300))
