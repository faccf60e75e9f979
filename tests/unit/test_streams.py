"""Recorded streams: what is read, what a play counts, and how curves are compared."""

import json
import random

import pytest

from apprentice_events import vocabulary as v
from apprentice_events.task_state import TaskState
from benchmarks import streams_data, teaching_bench
from benchmarks.policy_world import Note, Played, Told
from benchmarks.streams import Grid, Published, at, calls_for, curve, remembered, run_stream, summarise
from benchmarks.streams_data import ANSWER, GPT4O, Source
from benchmarks.streams_picture import draw
from benchmarks.streams_plays import Job, Tutor, certificates, recalls, run, spread
from tests.word_encoder import WordEncoder

WORDS = {
    "refund": "money back please",
    "lost": "card is gone",
    "rate": "exchange of euros",
    "app": "phone will not start",
}


@pytest.fixture
def source(tmp_path):
    """240 requests of four kinds; every tenth answer of the teacher is wrong."""
    chance = random.Random(5)
    lines = []
    for number in range(240):
        gold = chance.choice(sorted(WORDS))
        said = "app" if number % 10 == 0 else gold
        lines.append({"said": f"{WORDS[gold]} number {number}", "teacher": said, "right": gold})
    path = tmp_path / "made_up.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Source(name="made_up", path=str(path), input="said", gold="right")


def job(kind="certified", level=0.7, **other) -> Job:
    return Job(stream="made_up", features="n-grams", kind=kind, level=level, seed=1, first=30, batch=20, **other)


# ---------------------------------------------------------------- reading


def test_fields_of_any_file_are_read_by_name(source):
    stream = source.read()
    assert len(stream.rows) == 240
    assert stream.rows[0].input.keys() == {"said"}
    assert stream.rows[0].output == {ANSWER: "app"}
    assert stream.gold[:10].count("app") < 10
    assert sorted(stream.order(3)) == list(range(240))
    assert stream.order(3) != stream.order(4)


def test_a_stream_that_is_not_there_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(streams_data, "SHARED", tmp_path)
    assert run_stream(Source.known("isear"), Grid()) is None
    with pytest.raises(ValueError, match="known are banking77, isear, bfcl"):
        Source.known("banking78")


def test_half_of_the_rows_of_isear_make_a_play(monkeypatch, tmp_path):
    (tmp_path / "isear").mkdir()
    row = {"text": "I was glad", "teacher_gpt35": "joy", "gold": "joy"}
    (tmp_path / "isear" / "stream.jsonl").write_text("\n".join([json.dumps(row)] * 9), encoding="utf-8")
    monkeypatch.setattr(streams_data, "SHARED", tmp_path)
    assert len(Source.known("isear").read().order(0)) == 4


def test_tool_calls_are_compared_as_calls_and_prose_as_none(monkeypatch, tmp_path):
    def line(result, ok):
        return {"question": [[]], "function": [], "teachers": {GPT4O: {"result": result, "ok": ok}}}

    lines = [
        line([{"area": '{"base": 10}'}], True),
        line("I cannot do that.", True),
        line([{"area": "{broken"}], False),
    ]
    (tmp_path / "bfcl").mkdir()
    (tmp_path / "bfcl" / "stream.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    monkeypatch.setattr(streams_data, "SHARED", tmp_path)
    stream = Source.known("bfcl").read()
    assert [row.output[ANSWER] for row in stream.rows] == [[{"area": {"base": 10}}], [], [{"area": "{broken"}]]
    assert stream.gold == ([{"area": {"base": 10}}], [], None)


# ---------------------------------------------------------------- plays


def test_a_certified_play_serves_what_is_easy_and_counts_what_was_asked(source):
    played = run(job(), source.read(), Tutor())
    assert played.graduated
    assert played.calls < 0.9
    assert played.agreement >= 0.9
    assert played.teacher_gold == pytest.approx(0.92, abs=0.03)
    assert played.certificates >= 1
    assert sum(played.phases) == round(played.calls * played.requests)
    assert played.phases[0] == 30
    assert played.versions >= 2


def test_a_threshold_serves_what_reaches_it_and_calls_for_the_rest(source):
    stream = source.read()
    eager, wary = (run(job("threshold", level), stream, Tutor(), 90) for level in (0.2, 0.999))
    assert eager.calls < 0.8
    assert wary.calls == 1.0
    assert wary.selective is None
    assert wary.agreement == 1.0
    assert wary.gold == wary.teacher_gold
    assert eager.calls + eager.local == pytest.approx(1.0)


def test_a_run_is_summed_up_drawn_and_resumed(source, tmp_path):
    kept, grid = tmp_path / "plays.jsonl", Grid(1, (0.7,), (0.5,), ("n-grams",), rows=120)
    seen = []
    found = run_stream(source, grid, workers=1, kept=kept, progress=seen.append)
    assert [(one.done, one.of) for one in seen] == [(1, 2), (2, 2)]
    assert [row["kind"] for row in found["rows"]] == ["certified", "threshold"]
    assert found["requests"] == 120
    assert found["promise"]["plays"] == 1
    assert len(remembered(kept)) == 2
    again = run_stream(source, grid, workers=1, kept=kept, progress=seen.append)
    assert len(seen) == 2, "nothing is played twice"
    assert again["rows"] == found["rows"]
    assert draw(found, tmp_path / "made_up.png") == (tmp_path / "made_up.png").exists()


def test_means_are_taken_over_the_shuffles(source):
    stream = source.read()
    one = run(job("threshold", 0.5), stream, Tutor())
    other = run(
        Job(**{**{name: getattr(one.job, name) for name in one.job.__struct_fields__}, "seed": 2}), stream, Tutor()
    )
    (row,) = summarise(stream, [one, other])["rows"]
    assert row["calls"] == pytest.approx((one.calls + other.calls) / 2)
    assert (row["gold_from"], row["gold_to"]) == (min(one.gold, other.gold), max(one.gold, other.gold))


def asked(turn: int, score: float, rate: float = 1.0, p_agree: float = 0.9) -> Told:
    return Told(turn=turn, score=score, rate=rate, p_agree=p_agree, version="v1")


def issued(turn: int, gate: float = 0.8) -> Note:
    event = v.CertificateIssued(gate=gate, epoch=1, log_wealth=3.0, log_threshold=3.0, comparisons=1)
    return Note(turn, turn, event)


def test_a_certificate_is_false_where_what_it_rests_on_was_really_worse():
    told = [asked(1, 1.0), asked(2, 0.0), asked(3, 0.0, p_agree=0.1), asked(4, 1.0), asked(5, 1.0), asked(6, 1.0)]
    played = Played(told=told, notes=[issued(2), issued(4), issued(6)], state=TaskState(task="t"))
    assert list(certificates(played, 0.75)) == [(0.8, True), (0.8, True), (0.8, False)]
    assert list(certificates(played, 0.6)) == [(0.8, True), (0.8, False), (0.8, False)]


def test_an_answer_weighs_as_much_as_its_audit_rate():
    told = [asked(1, 1.0), asked(2, 0.0, rate=0.1)]
    played = Played(told=told, notes=[issued(2)], state=TaskState(task="t"))
    assert list(certificates(played, 0.8)) == [(0.8, False)]


def test_recall_is_counted_per_right_answer_that_occurs_five_times():
    right = ["a"] * 5 + ["b"] * 10 + ["c"] * 4
    hits = [True] * 4 + [False] + [True] * 5 + [False] * 5 + [False] * 4
    assert recalls(right, hits) == (0.5, 0.8)
    assert spread((0.5, 0.8)) == pytest.approx((0.5, 0.575, 0.65, 0.725))


# ---------------------------------------------------------------- curves

RISING = ((0.2, 0.70), (0.4, 0.80), (0.6, 0.84))


def test_a_curve_is_read_by_straight_lines_and_not_beyond_its_ends():
    assert at(RISING, 0.3) == pytest.approx(0.75)
    assert at(RISING, 0.6) == pytest.approx(0.84)
    assert at(RISING, 0.1) is None


def test_the_calls_that_quality_takes_are_where_the_curve_stays_above_it():
    assert calls_for(RISING, 0.82) == pytest.approx(0.5)
    assert calls_for(RISING, 0.9) is None
    assert calls_for(RISING, 0.6) == 0.2, "all of it lies above"
    dented = ((0.1, 0.9), (0.2, 0.7), (0.4, 0.8))
    assert calls_for(dented, 0.75) == pytest.approx(0.3), "a lucky point in front of a dent does not count"


def test_points_of_one_kind_make_a_curve():
    rows = [
        {"features": "encoder", "kind": "certified", "calls": 0.5, "gold": 0.8},
        {"features": "encoder", "kind": "certified", "calls": 0.3, "gold": 0.7},
        {"features": "encoder", "kind": "threshold", "calls": 0.2, "gold": 0.6},
        {"features": "encoder", "kind": "certified", "calls": 0.9, "gold": None},
    ]
    assert curve(rows, "encoder", "certified") == ((0.3, 0.7), (0.5, 0.8))


def test_ours_is_read_at_the_calls_of_each_published_point(source, monkeypatch):
    stream = source.read()
    outcomes = [run(job("threshold", level), stream, Tutor(), 90) for level in (0.2, 0.999)]
    few = outcomes[0].calls
    monkeypatch.setattr("benchmarks.streams.PUBLISHED", {"made_up": (Published("theirs", ((few, 0.5),), "n-grams"),)})
    (row,) = summarise(stream, outcomes)["against"]
    assert row["threshold"] == pytest.approx(outcomes[0].gold)
    assert row["certified"] is None


# ---------------------------------------------------------------- ways to teach


def test_ways_to_teach_are_measured_on_requests_that_none_has_seen(source, monkeypatch, tmp_path):
    fitted = []
    monkeypatch.setattr(teaching_bench, "vectors", lambda stream, encoder: tmp_path)
    monkeypatch.setattr(teaching_bench, "Vectors", lambda name, kept: WordEncoder(name))
    for name, size in (("FIRST", 10), ("POOL", 30), ("CHOSEN", 10), ("COUNTS", (20, 60))):
        monkeypatch.setattr(teaching_bench, name, size)
    original = teaching_bench.Teacher.fit

    def fit(self, rows, *, balance=False):
        fitted.append({row.request for row in rows})
        return original(self, rows, balance=balance)

    monkeypatch.setattr(teaching_bench.Teacher, "fit", fit)
    found = teaching_bench.run_teaching(source, encoder="words", tuned=False, quick=True)
    ways = {row["way"]: row for row in found["rows"]}
    assert [len(rows) for rows in fitted] == [20, 20, 60, 60, 10, 20, 20, 40]
    assert set.union(*fitted) == fitted[2], "180 of the 240 requests are left to measure on"
    assert ways["60 rows"]["agreement"] > 0.8
    assert ways["60 rows"]["surest_half"] >= ways["60 rows"]["agreement"]
    assert 0.0 <= ways["60 rows"]["recall_min"] <= ways["60 rows"]["recall_mean"] <= 1.0
    absent = Source(name="absent", path=None)
    monkeypatch.setattr(Source, "read", lambda self: None)
    assert teaching_bench.run_teaching(absent, encoder="words", tuned=False) is None
