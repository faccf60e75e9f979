"""``kill -9`` in the middle of a rehearsal, then again: it goes on where the log ends."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from apprentice_events import vocabulary as v
from apprentice_events.replay import verify
from apprentice_events.sqlite import scan_file

ROWS = 400
WORDS = {"refund": "billing", "crash": "bug", "parcel": "shipping", "password": "account"}


def stream(path: Path) -> Path:
    rows = [
        {"text": f"ticket {number} about a {word} of mine", "answer": WORDS[word]}
        for number, word in enumerate(list(WORDS) * (ROWS // len(WORDS)))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(tmp_path: Path) -> list[str]:
    report = ["--json", str(tmp_path / "report.json")]
    options = ["--answer", "answer", "--storage", str(tmp_path / "run"), "--first", "50", *report]
    return [sys.executable, "-m", "apprentice", "rehearse", str(stream(tmp_path / "stream.jsonl")), *options]


def served(log: Path) -> int:
    try:
        with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as file:
            (count,) = file.execute("SELECT count(*) FROM records WHERE tag = ?", (v.ResponseServed.TAG,)).fetchone()
            return int(count)
    except sqlite3.OperationalError:
        return 0


@pytest.mark.heavy
def test_a_killed_rehearsal_goes_on_where_its_log_ends(tmp_path):
    log = tmp_path / "run" / "log.db"
    with subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and served(log) < ROWS // 3:
            pass
        first.send_signal(signal.SIGKILL)
    before = {record.correlation for record in scan_file(log) if record.tag == v.ResponseServed.TAG}
    assert ROWS // 3 <= len(before) < ROWS, "it was killed in the middle"

    again = subprocess.run(command(tmp_path), capture_output=True, text=True, check=True)
    assert "resum" in again.stdout + again.stderr, "a person is told where it goes on"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["requests"] == report["answered"] == ROWS
    assert verify(log).ok

    events = [record.event() for record in scan_file(log)]
    answered = Counter(event.request for event in events if isinstance(event, v.ResponseServed))
    assert before <= answered.keys()
    assert max(answered.values()) == 1
    keys = Counter(event.key for event in events if isinstance(event, v.RequestReceived))
    closed = {event.request for event in events if isinstance(event, v.RequestRecovered)}
    cut_off = closed - answered.keys()  # others were answered, and only their audit was cut off
    dead = Counter(event.key for event in events if isinstance(event, v.RequestReceived) and event.request in cut_off)
    assert all(count == 1 + dead[key] for key, count in keys.items()), "asked again only what the kill cut off"
