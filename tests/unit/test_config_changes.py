"""Keys set beside the file: found by their paths, refused in the loader's own words."""

from pathlib import Path

import pytest

from apprentice.config import load
from apprentice.config.changes import Change, parse
from apprentice.errors import CallerError, InvalidConfig

ROOT = Path(__file__).parents[2]


def changed(*settings: str):
    return load(ROOT / "apprentice.yaml", [parse(setting) for setting in settings])


def test_a_value_is_read_as_yaml():
    assert parse("a.b=0.9") == Change("a.b", 0.9)
    assert parse("a=[x, y]") == Change("a", ["x", "y"])
    assert parse("a = no") == Change("a", "no")
    assert parse("a=") == Change("a", None)
    assert parse("a=b=c") == Change("a", "b=c")


def test_keys_are_set_by_path_task_name_or_number():
    config = changed(
        "tasks.classify_ticket.confidence_thresholds.phase2_to_phase3=0.9",
        "tasks[1].guarantee.agreement=0.7",
        "sampling.detect={drop: 0.1, within: 500}",
        "budget.weekly=12.5",
        "tasks.extract_entities.budget.daily=2",
        "tasks.classify_ticket.match_fields[1]=confidence",
    )
    first, second = config.tasks
    assert first.confidence_thresholds.phase2_to_phase3 == 0.9
    assert first.confidence_thresholds.coaching_trigger == 0.70, "its neighbours stay"
    assert second.guarantee.agreement == 0.7
    assert second.budget.daily == 2
    assert config.sampling.detect is not None
    assert config.budget.weekly == 12.5
    assert first.match_fields == ("category", "confidence")
    assert changed().model_dump() == load(ROOT / "apprentice.yaml").model_dump()


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        (
            "sampling.min_flor=0.1",
            ["with sampling.min_flor set", "no such key; did you mean `min_floor`?"],
        ),
        ("tasks.classify_ticket.guarantee.agreement=2", ["expected a number between 0 and 1, found `2`"]),
        ("tasks.classify_ticket.confidence_thresholds.phase2_to_phase3=0.6", ["coaching_trigger", "must be less than"]),
        ("sampling.detect.drop=0.1", ["sampling.detect.within", "missing, and required"]),
        ("budget.daily.x=1", ["budget.daily", "found a mapping"]),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_loader(setting: str, parts: list[str]):
    with pytest.raises(InvalidConfig) as refused:
        changed(setting)
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("sampling.min_floor", "sets nothing; write KEY=VALUE"),
        ("=3", "sets nothing"),
        ("a=[1", "cannot be read"),
        ("a..b=1", "is no key"),
        ("tasks.clasify_ticket.audit=inline", "there is no task `clasify_ticket`; did you mean `classify_ticket`?"),
        ("tasks.zzz.audit=inline", "there are: classify_ticket, extract_entities"),
        ("tasks[7].audit=inline", "the list has 2 entries"),
        ("tasks.classify_ticket.match_fields[9]=x", "the list has 2 entries"),
        ("remote.additional_providers[0].weight=1", "`additional_providers` is no list"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(setting: str, part: str):
    with pytest.raises(CallerError) as refused:
        changed(setting)
    assert part in str(refused.value)
