"""How things look: charts, percentages, and views that fit any terminal and take no text for markup."""

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from apprentice.demo import Bucket, Ending, Frame
from apprentice.faces.charts import curve, meter, sparkline
from apprentice.faces.look import explanation_view, report_view, share, status_panel
from apprentice.faces.look_demo import ending_view, live_view, plain_line
from apprentice.faces.look_rehearsal import curve_view, rehearsal_view
from apprentice.rehearsal_report import CurvePoint, Recall, RehearsalReport
from apprentice.results import (
    Explanation,
    Money,
    Promise,
    Report,
    Status,
    Step,
    TeacherStatus,
    Trajectory,
    VersionStatus,
    Window,
)
from apprentice_events import vocabulary as v
from apprentice_events.chain import GENESIS
from apprentice_events.codec import encode
from apprentice_events.log import Record

MONEY = Money(spent="1.25", saved="3.50", would_have_been="4.75", today="0.10", reserved="0.00", remote_calls=321)
PROMISE = Promise(
    agreement=0.9,
    alpha=0.05,
    gate=0.8,
    certified=(0.9, 0.8),
    comparisons=240,
    epoch=1,
    noticed="a fall is noticed",
    says="Of the local answers, at least 90% agree.",
    evidence="240 local answers compared [so far].",
    changes="It ends with a sudden fall.",
)
STATUS = Status(
    task="classify_ticket",
    phase="steady_state",
    remote_model="teacher-1",
    champion="classify_ticket@v3",
    rival="classify_ticket@v4",
    training="classify_ticket@v5 40%",
    requests=1000,
    served_local=600,
    served_remote=390,
    degraded=3,
    failed=2,
    in_flight=8,
    examples=400,
    held_out=90,
    sampling_rate=0.05,
    sampling_target=0.03,
    correlation=0.93,
    correlation_low=0.88,
    correlation_high=0.97,
    correlation_is="agreement corrected for chance",
    confidence=0.91,
    agreement=0.88,
    agreement_local=0.96,
    audits_missed=4,
    shadow_attempted=300,
    shadow_ran=300,
    shadow_failed=0,
    promise=PROMISE,
    money=MONEY,
    coaching="drift",
    alerts={"uncertified": "too many audits were missed [see] the report"},
    versions=(VersionStatus(name="classify_ticket@v3", status="champion", examples=300, score=0.95),),
)
COLD = msgspec.structs.replace(
    STATUS,
    task="extract_entities",
    phase="cold_start",
    champion=None,
    rival=None,
    training=None,
    served_local=0,
    agreement=None,
    agreement_local=None,
    correlation=None,
    promise=msgspec.structs.replace(PROMISE, gate=None, certified=(), says="Nothing is promised yet."),
    coaching=None,
    alerts={},
    versions=(),
)
REPORT = Report(at="2026-01-02T03:04:05.678+00:00", tasks=(STATUS, COLD), money=MONEY, caps={"day": "$1.25 of $10.00"})


def text_of(what: RenderableType, width: int = 110) -> str:
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    console.print(what)
    return console.export_text()


def news(event: v.Event, position: int = 1) -> Record:
    return Record(
        position, "task/classify_ticket", position, event.TAG, 1, 10**18, None, None, None, encode(event), GENESIS
    )


CHANGED = news(v.PhaseChanged(before="reinforcement", after="steady_state", reason="it was earned"))


def frame(done: int, story: tuple[Record, ...] = ()) -> Frame:
    buckets = tuple(Bucket(requests=100, local=local, spent=1 - local / 100) for local in (0, 0, 40, 90))
    return Frame(done=done, total=1000, report=REPORT, buckets=buckets, story=story)


def test_bars_grow_with_their_values():
    assert sparkline([0, 0.5, 1]) == "▁▄█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([0.5], top=1.0) == "▄"


def test_a_meter_is_as_wide_as_asked_and_as_full_as_told():
    assert meter(0.0, 8) == " " * 8
    assert meter(1.0, 8) == "█" * 8
    assert meter(0.5, 8) == "████    "
    assert meter(1 / 16, 8) == "▌       "
    assert meter(7.0, 4) == "████"


def test_a_curve_falls_from_left_to_right():
    lines = curve([1.0, 0.5, 0.0], width=6, height=2)
    assert lines == ["██    ", "████  "]
    assert curve([], width=3, height=2) == ["   ", "   "]


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (0.0, "0%"), (1.0, "100%"), (0.999, ">99%"), (0.001, "<1%"), (0.5, "50%")],
)
def test_only_all_is_a_hundred_percent_and_only_nothing_is_none(value: float | None, told: str):
    assert share(value) == told


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_every_view_fits_the_terminal(width: int):
    ending = Ending(
        frame=frame(1000, (CHANGED,)),
        served_local=100,
        agreement_local=0.97,
        same_local=94,
        audited_local=9,
        example=None,
        phases=(CHANGED,),
    )
    for what in (status_panel(STATUS), status_panel(COLD), report_view(REPORT), live_view(frame(400))):
        assert max(len(line) for line in text_of(what, width).splitlines()) <= width
    assert "97.0%" in text_of(ending_view(ending), width)


def test_a_status_tells_what_matters():
    told = text_of(status_panel(STATUS))
    for part in ("● steady state", "600 of 990", "96.0% of local answers", "p_agree ≥ 0.8", "$1.2500 spent", "drift"):
        assert part in told
    assert "[see] the report" in told, "square brackets in messages are no markup"
    cold = text_of(status_panel(COLD))
    assert "● cold start" in cold
    assert "Nothing is promised yet." in cold
    assert "certified steps" not in cold
    for part in ("at least 90% agree", "compared [so far]", "ends with a sudden fall", "certified steps: 0.9, 0.8"):
        assert part in told


def test_both_agreements_are_told_with_their_bounds_and_what_stands_against_the_promise():
    doubted = msgspec.structs.replace(
        STATUS,
        agreement_local_low=0.911,
        agreement_local_high=0.988,
        agreement_served=0.976,
        agreement_served_low=0.946,
        agreement_served_high=0.993,
        self_agreement=0.8,
        self_agreement_low=0.7,
        self_agreement_high=0.875,
        asked_twice=41,
        unusual_inputs=0.31,
        promise=msgspec.structs.replace(PROMISE, unreachable="the remote model is unsteady"),
    )
    for view in (status_panel(doubted), report_view(msgspec.structs.replace(REPORT, tasks=(doubted,)))):
        told = text_of(view, 160)
        assert "96.0% of local answers (91.1% to 98.8%)" in told
        assert "97.6% of all answers (94.6% to 99.3%)" in told
        assert "90% is more than the remote model holds to itself (87.5% at the most)" in told
    status = text_of(status_panel(doubted), 160)
    assert "80.0% when 41 questions were asked twice (70.0% to 87.5%)" in status
    assert "about 31% look unlike those trained on" in status
    assert "to itself" not in text_of(report_view(REPORT))
    assert "unlike" not in text_of(status_panel(STATUS))


def test_the_report_has_a_row_per_task_and_the_caps():
    told = text_of(report_view(REPORT))
    assert "classify_ticket" in told
    assert "extract_entities" in told
    assert "$1.25 of $10.00" in told
    assert "too many audits" in told


def test_the_report_shows_the_way_and_the_teachers():
    windows = tuple(
        Window(start=f"2026-01-0{day}", spent=f"{day}.00", saved="0.00", remote_calls=day, answers=9, remote_share=0.5)
        for day in (1, 2, 4)
    )
    way = Trajectory(days=windows, weeks=windows[-1:], months=windows[-1:])
    teachers = (teacher("a/one", "allowed", "closed"), teacher("b/[two]", "disallowed", "open"))
    one = msgspec.structs.replace(STATUS, teachers=teachers, trajectory=way, withheld=7)
    told = text_of(report_view(msgspec.structs.replace(REPORT, tasks=(one, COLD), trajectory=way)))
    assert "▂▄█ $4.0000" in told
    assert "▄▄▄ 50%" in told
    assert "│ all tasks        │ day   │ ▂▄█ $4.0000 │" in told
    for text in (told, text_of(status_panel(one))):
        assert "b/[two]" in text
        assert "disallowed" in text
        assert "open" in text
    assert "7 remote answers were not collected" in text_of(status_panel(one))
    assert "teachers" not in text_of(status_panel(STATUS))


def teacher(name: str, licence: str, circuit: str) -> TeacherStatus:
    return TeacherStatus(
        name=name, licence=licence, circuit=circuit, calls=9, answers=8, failures=1, spent="1.25", withheld=7, notice=""
    )


def test_an_explanation_tells_the_story_and_admits_what_was_erased():
    step = Step(at="2026-01-02T03:04:05.678+00:00", position=7, event="response_served", says="the caller got [it]")
    told = Explanation(
        request_id="req_1", task="t", summary="answered", steps=(step,), input=None, output={"label": "[bold]a"}
    )
    text = text_of(explanation_view(told))
    assert "none, or erased" in text
    assert '{"label":"[bold]a"}' in text
    assert "03:04:05.678" in text
    assert "the caller got [it]" in text


def test_the_live_view_keeps_its_height_however_much_happens():
    heights = {len(text_of(live_view(frame(10, tuple([CHANGED] * many)))).splitlines()) for many in (0, 3, 40)}
    assert len(heights) == 1
    assert "steady state" in text_of(live_view(frame(10)))


def test_the_plain_line_speaks_of_the_last_full_hundred():
    now = frame(410)
    now = msgspec.structs.replace(now, buckets=(*now.buckets, Bucket(requests=10, local=0)))
    assert "local  90% of the last 100" in plain_line(now)


def test_a_demo_without_local_answers_says_what_to_do():
    ending = Ending(
        frame=frame(9), served_local=0, agreement_local=None, same_local=0, audited_local=0, example=None, phases=()
    )
    assert "give it more --requests" in text_of(ending_view(ending))


def rehearsal(recalls: tuple[Recall, ...]) -> RehearsalReport:
    return RehearsalReport(
        requests=200,
        answered=198,
        errors={"RemoteRefused": 2},
        remote_calls=110,
        remote_share=0.55,
        served_local=90,
        agreement=0.97,
        agreement_local=0.93,
        accuracy=0.81,
        accuracy_remote=0.83,
        recall_mean=0.9,
        recalls=recalls,
        money=MONEY,
        status=STATUS,
        curve=(
            CurvePoint(requests=100, remote_calls=100, agreement=1.0, local_share=0.0),
            CurvePoint(requests=200, remote_calls=110, agreement=0.97, local_share=0.45),
        ),
    )


def test_a_rehearsal_shows_the_worst_ten_answers():
    recalls = tuple(Recall(answer=f"[class] {number}", rows=5, recall=1 - number / 20) for number in range(12))
    told = text_of(rehearsal_view(rehearsal(recalls)))
    assert "[class] 11" in told
    assert "[class] 2 " in told
    assert "[class] 1 " not in told
    assert "2 × RemoteRefused" in told
    assert "81%" in told


def test_the_curve_shows_the_share_of_each_piece_not_the_running_mean():
    lines = text_of(curve_view(rehearsal(()).curve)).splitlines()
    assert lines[0].count("█") == 30, "the first hundred were all remote, the second hundred one in ten"
    assert "200 requests" in lines[-1]
