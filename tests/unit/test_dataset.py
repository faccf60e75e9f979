"""Datasets: corrected, deduplicated, split, in the order of collecting."""

import hashlib

import msgspec
import pytest

from apprentice.training.dataset import LogDatasets
from apprentice_actors.ports import Example
from apprentice_events.bodies import encode_json, make_body
from apprentice_events.log import Entry, MemoryLog
from apprentice_events.vocabulary import (
    DatasetStatistics,
    ExampleCollected,
    ExampleWithheld,
    FeedbackReceived,
    ResponseServed,
)

SALT = b"0123456789abcdef"


async def collect(
    log: MemoryLog, text: str, label: str, *, source="remote", request=None, holdout=False, tags=()
) -> str:
    given, output = (make_body(encode_json({key: value}), SALT) for key, value in (("text", text), ("label", label)))
    event = ExampleCollected(
        request=request or text, input=given.digest, output=output.digest, source=source, holdout=holdout, tags=tags
    )
    await put(log, event, bodies=[given, output])
    return given.digest


async def put(log: MemoryLog, event, *, bodies=()) -> None:
    version = await log.stream_version("task/t")
    entry = Entry(event, correlation=getattr(event, "request", None))
    await log.append("task/t", version, [entry], time_ns=1, bodies=bodies)


async def rate(log: MemoryLog, request: str, rating: float, *, served=True) -> None:
    """A rating of what was served: the collected answer, or (by the local model) another one."""
    (example,) = [one.event() for one in await log.by_correlation(request) if one.tag == ExampleCollected.TAG][:1]
    output = example.output if served else "of the local model"
    await put(
        log,
        ResponseServed(request=request, by="remote" if served else "local", output=output, latency_ms=1.0),
    )
    await put(log, FeedbackReceived(request=request, rating=rating))


def rows(path) -> list[Example]:
    return [msgspec.json.decode(line, type=Example) for line in path.read_bytes().splitlines()]


async def build(log, folder, fresh_after=0, upto=100):
    made = await LogDatasets(log).build("t", folder, fresh_after=fresh_after, upto=upto)
    return made, rows(made.train_file), rows(made.holdout_file)


async def test_the_split_is_the_one_of_collecting(tmp_path):
    log = MemoryLog()
    for number in range(5):
        await collect(log, f"{number}", "a", holdout=number == 2)
    made, train, held = await build(log, tmp_path)
    assert [row.request for row in train] == ["0", "1", "3", "4"]
    assert [row.request for row in held] == ["2"]
    assert (made.rows_train, made.rows_holdout) == (4, 1)
    assert [row.request for row in await LogDatasets(log).held_out("t", 10)] == ["2"]


@pytest.mark.parametrize("correction_first", [False, True])
async def test_a_correction_stands_in_for_the_remotes_answer(tmp_path, correction_first):
    log = MemoryLog()
    order = [("remote", "wrong"), ("correction", "right")]
    for source, label in reversed(order) if correction_first else order:
        await collect(log, "x", label, source=source, request="r")
    _, train, _ = await build(log, tmp_path)
    assert [row.output for row in train] == [{"label": "right"}]


async def test_of_the_same_input_the_last_row_counts(tmp_path):
    log = MemoryLog()
    for text, label in (("Hello  World", "old"), ("other", "a"), ("hello world", "new")):
        await collect(log, text, label)
    _, train, _ = await build(log, tmp_path)
    assert [row.output["label"] for row in train] == ["a", "new"]


async def test_only_the_first_upto_examples_and_freshness_by_order(tmp_path):
    log = MemoryLog()
    for number in range(6):
        await collect(log, f"{number}", "a")
    _, train, _ = await build(log, tmp_path, fresh_after=2, upto=4)
    assert [(row.request, row.fresh) for row in train] == [("0", False), ("1", False), ("2", True), ("3", True)]


async def test_what_was_erased_is_left_out(tmp_path):
    log = MemoryLog()
    digest = await collect(log, "secret", "a")
    await collect(log, "public", "b")
    await log.erase_body(digest)
    _, train, _ = await build(log, tmp_path)
    assert [row.request for row in train] == ["public"]


async def test_the_digest_speaks_of_the_content(tmp_path):
    log = MemoryLog()
    await collect(log, "x", "a")
    first, _, _ = await build(log, tmp_path / "1")
    again, _, _ = await build(log, tmp_path / "2")
    await collect(log, "y", "a")
    more, _, _ = await build(log, tmp_path / "3")
    assert first.sha256 == again.sha256 != more.sha256


async def test_a_correction_outlives_later_answers_to_the_same_input(tmp_path):
    log = MemoryLog()
    await collect(log, "Hello", "wrong", request="r")
    await collect(log, "Hello", "right", source="correction", request="r")
    await collect(log, "hello", "wrong again", request="s")
    made, train, _ = await build(log, tmp_path)
    assert [(row.output["label"], row.source) for row in train] == [("right", "correction")]
    assert made.statistics.left_out == {
        "another answer to the same input counts": 1,
        "replaced by a correction": 1,
    }
    await collect(log, "HELLO", "better", source="correction", request="s")
    _, train, _ = await build(log, tmp_path)
    assert [row.output["label"] for row in train] == ["better"]


@pytest.mark.parametrize(("rating", "kept"), [(0.49, False), (0.5, True)])
async def test_an_answer_that_was_rated_low_is_no_example(tmp_path, rating, kept):
    log = MemoryLog()
    for text in ("liked", "rated", "held"):
        await collect(log, text, "a", holdout=text == "held")
    for request in ("rated", "held"):
        await rate(log, request, rating)
    made, train, held = await build(log, tmp_path)
    assert [row.request for row in train] == (["liked", "rated"] if kept else ["liked"])
    assert [row.request for row in held] == (["held"] if kept else [])
    assert made.statistics.left_out == ({} if kept else {"rated below 0.5": 2})


async def test_the_last_rating_counts_and_a_correction_is_kept(tmp_path):
    log = MemoryLog()
    for text in ("forgiven", "corrected"):
        await collect(log, text, "a")
        await rate(log, text, 0.0)
    await put(log, FeedbackReceived(request="forgiven", rating=1.0))
    await collect(log, "corrected", "b", source="correction", request="corrected")
    _, train, _ = await build(log, tmp_path)
    assert [(row.request, row.output["label"]) for row in train] == [("forgiven", "a"), ("corrected", "b")]


async def test_a_rating_of_the_local_answer_says_nothing_about_the_remotes(tmp_path):
    log = MemoryLog()
    await collect(log, "x", "a")
    await rate(log, "x", 0.0, served=False)
    _, train, _ = await build(log, tmp_path)
    assert [row.request for row in train] == ["x"]


async def test_statistics_say_what_is_in_and_what_is_not(tmp_path):
    log = MemoryLog()
    await collect(log, "1", "a", tags=("de", "long"))
    await collect(log, "2", "b", tags=("de",), holdout=True)
    await collect(log, "3", "b", source="import")
    gone = await collect(log, "4", "a")
    await log.erase_body(gone)
    await put(log, ExampleWithheld(request="5", provider="p/m"))
    datasets = LogDatasets(log, labels={"t": ("label", "nothing")})
    made = await datasets.build("t", tmp_path, fresh_after=2, upto=100)
    assert made.statistics == DatasetStatistics(
        sources={"remote": 2, "import": 1},
        tags={"de": 2, "long": 1},
        labels={"label": {"b": 2, "a": 1}},
        fresh=1,
        left_out={"erased": 1, "the provider's terms forbid it": 1},
    )


async def test_the_newest_rows_are_taken_and_the_others_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("apprentice.training.dataset.ROWS_MAX", 3)
    log = MemoryLog()
    for number in range(5):
        await collect(log, f"{number}", "a")
    made, train, _ = await build(log, tmp_path)
    assert [row.request for row in train] == ["2", "3", "4"]
    assert list(made.statistics.left_out.values()) == [2]


async def test_an_export_is_one_private_file_with_both_sides(tmp_path):
    log = MemoryLog()
    await collect(log, "1", "a", tags=("de",))
    await collect(log, "2", "b", holdout=True, source="correction")
    path = tmp_path / "new" / "distill_dataset.jsonl"
    made = await LogDatasets(log).export("t", path)
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    common = {"weight": 1.0}
    assert lines == [
        {
            "request": "1",
            "input": {"text": "1"},
            "output": {"label": "a"},
            "source": "remote",
            "tags": ["de"],
            "split": "train",
        }
        | common,
        {
            "request": "2",
            "input": {"text": "2"},
            "output": {"label": "b"},
            "source": "correction",
            "tags": [],
            "split": "holdout",
        }
        | common,
    ]
    assert (made.rows_train, made.rows_holdout) == (1, 1)
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]
