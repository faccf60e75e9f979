"""Datasets: corrected, deduplicated, split, in the order of collecting."""

import msgspec
import pytest

from apprentice.training.dataset import LogDatasets
from apprentice_actors.ports import Example
from apprentice_events.bodies import encode_json, make_body
from apprentice_events.log import Entry, MemoryLog
from apprentice_events.vocabulary import ExampleCollected

SALT = b"0123456789abcdef"


async def collect(log: MemoryLog, text: str, label: str, *, source="remote", request=None, holdout=False) -> str:
    given, output = (make_body(encode_json({key: value}), SALT) for key, value in (("text", text), ("label", label)))
    event = ExampleCollected(
        request=request or text, input=given.digest, output=output.digest, source=source, holdout=holdout
    )
    version = await log.stream_version("task/t")
    await log.append("task/t", version, [Entry(event)], time_ns=1, bodies=[given, output])
    return given.digest


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
