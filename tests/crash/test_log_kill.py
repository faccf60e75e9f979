"""A process that appends is killed without warning; what it had acknowledged must be there, whole."""

import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from apprentice_events import replay
from apprentice_events.sqlite import SqliteLog

WRITER = Path(__file__).with_name("log_writer.py")

type Acknowledged = list[tuple[str, int, int, str]]


def run_and_kill(path: Path, writers: int, acknowledgements: int) -> Acknowledged:
    """Kill the writer after it said so many lines; everything it managed to say counts."""
    child = subprocess.Popen([sys.executable, str(WRITER), str(path), str(writers)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child, child.stdout as said:
        lines = [said.readline() for _ in range(1 + acknowledgements)]
        child.kill()
        lines += said.readlines()
    assert lines[0] == b"open\n"
    fields = [line.decode().split() for line in lines[1:] if line.endswith(b"\n")]
    return [(stream, int(version), int(position), body) for stream, version, position, body in fields]


async def check(path: Path, acknowledged: Acknowledged) -> None:
    verdict = replay.verify(path)
    assert verdict.ok, verdict
    async with SqliteLog.open(path) as log:
        records = {record.position: record for record in log.scan()}
        for stream, version, position, _ in acknowledged:
            assert (records[position].stream, records[position].version) == (stream, version)
        digests = [body for _, _, _, body in acknowledged]
        assert len(await log.get_bodies(digests)) == len(set(digests))
    by_stream = sorted(records.values(), key=lambda record: (record.stream, record.version))
    for _, batch in groupby(by_stream, lambda record: (record.stream, record.event().job)):
        whole = list(batch)
        assert whole[-1].event().message == f"{len(whole)}/{len(whole)}"  # no part of a batch without the rest


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_acknowledged_survives_a_kill(tmp_path, seed):
    chance = random.Random(seed)
    path = tmp_path / "log.db"
    acknowledged: Acknowledged = []
    for _ in range(2):  # the second life goes on in the file that the first one left behind
        acknowledged += run_and_kill(path, chance.choice([1, 8, 64]), chance.randrange(1, 400))
        await check(path, acknowledged)
    assert acknowledged


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 140))
async def test_what_was_acknowledged_survives_many_kills(tmp_path, seed):
    chance = random.Random(seed)
    path = tmp_path / "log.db"
    acknowledged: Acknowledged = []
    for _ in range(5):
        acknowledged += run_and_kill(path, chance.choice([1, 8, 64, 256]), chance.randrange(0, 3000))
        await check(path, acknowledged)
