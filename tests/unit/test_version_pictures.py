"""Loss curves in whichever form a trainer leaves them, and the picture of a version."""

import json
import sys

import msgspec
import pytest

from apprentice.errors import CallerError, MissingExtra
from apprentice.faces.picture import draw
from apprentice.lineage import Lineage, Verdict
from apprentice.training.curves import read_curves
from apprentice_events.vocabulary import SliceScore

CURVE = [(1.0, 2.0), (2.0, 1.0)]
ONE = Lineage(
    version="t@v2",
    task="t",
    status="champion",
    parent="t@v1",
    cause="batch",
    triggered="2026-01-01T00:00:00+00:00",
    examples=90,
    verdict=Verdict(
        accepted=True,
        at="2026-01-01T00:00:00+00:00",
        score=0.9,
        incumbent="t@v1",
        incumbent_score=0.8,
        rows=40,
        reason="0.900 against 0.800 on 40 held-out rows",
        slices=(SliceScore(tag="safety", rows=9, score=1.0, incumbent_score=1.0),),
    ),
)


def test_the_loss_curves_of_a_trainer_are_read_in_the_order_of_the_steps(tmp_path):
    points = [{"step": 2, "loss": 1.0, "rate": 0.1}, {"step": 1, "loss": 2.0}, {"step": 3, "loss": None}]
    (tmp_path / "metrics.json").write_text(json.dumps({"losses": points, "evaluations": points[:1], "words": {}}))
    assert read_curves(tmp_path) == {"training": CURVE}, "one evaluation is no line"


@pytest.mark.heavy
def test_what_the_adapter_trainer_writes_is_what_is_read(tmp_path):
    pytest.importorskip("torch")
    from apprentice.training.adapters.checkpoint import Point
    from apprentice.training.adapters.finish import METRICS, Course

    course = Course(seed=0, losses=[Point(1, 2.0), Point(2, 1.0)], evaluations=[Point(1, 2.5), Point(2, 1.5)])
    told = {"losses": course.losses, "evaluations": course.evaluations}
    (tmp_path / METRICS).write_bytes(msgspec.json.encode(told))
    assert read_curves(tmp_path) == {"training": CURVE, "evaluation": [(1.0, 2.5), (2.0, 1.5)]}


@pytest.mark.parametrize(
    "content", ["", "7", "{}", "[]", '{"losses": 7}', '{"losses": "low"}', '{"losses": [true, null, {}]}']
)
def test_what_is_no_curve_is_none(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    assert read_curves(tmp_path) == {}
    assert read_curves(tmp_path / "nowhere") == {}


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"apprentice\[train\]"):
        draw(ONE, {}, tmp_path / "v.png")


def test_what_cannot_be_drawn_is_said_so(tmp_path):
    with pytest.raises(CallerError, match=r"v\.doc is no picture"):
        draw(ONE, {}, tmp_path / "v.doc")
    bare = Lineage(version="t@v1", task="t", parent=None, cause="first", triggered="", examples=9)
    with pytest.raises(CallerError, match=r"nothing to draw of t@v1 yet: it is training"):
        draw(bare, {}, tmp_path / "v.png")


@pytest.mark.heavy
def test_a_picture_has_a_panel_for_the_verdict_and_one_for_the_losses(tmp_path):
    pytest.importorskip("matplotlib")
    draw(ONE, {"training": CURVE, "evaluation": CURVE}, tmp_path / "new" / "both.svg")
    draw(ONE, {}, tmp_path / "one.png")
    text = (tmp_path / "new" / "both.svg").read_text()
    assert text.count('id="axes_') == 2
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
