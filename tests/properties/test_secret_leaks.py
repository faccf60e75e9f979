"""Keys planted wherever they can come from, and a search through everything that was written: they are nowhere.

The one exception is what a caller puts into an input: that stays as it is, in the stored input and nowhere else.
"""

import asyncio
import contextlib
import io
import json
import logging
import os
import sqlite3
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import httpx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apprentice.config import loads
from apprentice.errors import ApprenticeError, InvalidConfig
from apprentice.privacy.models import redact_rows
from apprentice.remote.secrets import Secret
from apprentice.runtime import Runtime
from apprentice.training.dataset import LogDatasets
from apprentice.wiring import make_remotes, make_sinks
from apprentice_actors.herald import announce
from apprentice_events import vocabulary as v
from apprentice_events.bodies import encode_json, make_body
from apprentice_events.log import Entry, MemoryLog

keys = st.text("ABCXYZabcxyz0123456789_-.+/", min_size=24, max_size=60).map("sk-{}".format)
USAGE = {"input_tokens": 1, "output_tokens": 1}


def message(text, **more):
    content = [{"type": "text", "text": text}]
    return {"model": "m", "content": content, "usage": USAGE, "stop_reason": "end_turn", **more}


def failure(text):
    return {"type": "error", "error": {"type": "authentication_error", "message": text}}


def _raise(error):
    raise error


LEAKS = {
    "a rejected key": lambda key: httpx.Response(401, json=failure(f"invalid x-api-key: {key}")),
    "a long message": lambda key: httpx.Response(400, json=failure("x" * 360 + key + "y" * 99)),
    "a page": lambda key: httpx.Response(404, text=f"<html>{key}</html>"),
    "a key in a quoted address": lambda key: httpx.Response(
        403, json=failure(httpx.QueryParams({"key": key}).__str__())
    ),
    "half a message": lambda key: httpx.Response(200, text=f'{{"model": "{key}'),
    "a strange type": lambda key: httpx.Response(200, json=message("{}", usage=key)),
    "a strange ending": lambda key: httpx.Response(200, json=message("{}", stop_reason=key)),
    "a refusal": lambda key: httpx.Response(
        200, json=message("", stop_reason="refusal", stop_details={"category": key, "explanation": key})
    ),
    "no object": lambda key: httpx.Response(200, json=message(f"the key is {key}")),
    "a wrong answer": lambda key: httpx.Response(200, json=message(json.dumps({key: key}))),
    "an answer": lambda key: httpx.Response(200, json=message(json.dumps({"reply": f"it is {key}."}), model=key)),
    "no connection": lambda key: _raise(httpx.ConnectError(f"cannot reach {key}")),
    "a broken connection": lambda key: _raise(httpx.ReadError(f"lost {key}")),
    "a bad header": lambda key: _raise(httpx.LocalProtocolError(f"Illegal header value {key.encode()!r}")),
    "a bad encoding": lambda key: _raise(httpx.DecodingError(f"cannot decode {key}")),
    "a defect": lambda key: _raise(RuntimeError(f"while handling {{'x-api-key': '{key}'}}")),
}


class Watched:
    """Everything that a program writes, in one place: its folder, its streams, its log, what it raises and shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stream = io.StringIO()
        self.posted: list[str] = []

    @contextlib.contextmanager
    def watching(self, key: str, leak: str) -> Iterator[None]:
        async def handle(transport: object, request: httpx.Request) -> httpx.Response:
            await request.aread()
            if request.url.host == "hooks.example.com":
                self.posted.append(request.content.decode())
                return httpx.Response(404, text=key, request=request)
            response = LEAKS[leak](key)
            response.request = request
            return response

        handler = logging.StreamHandler(self.stream)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            with (
                mock.patch.object(httpx.AsyncHTTPTransport, "handle_async_request", handle),
                mock.patch.dict(os.environ, {"PLANTED_KEY": key}),
                contextlib.redirect_stdout(self.stream),
                contextlib.redirect_stderr(self.stream),
            ):
                yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)

    def wrote(self, *values: object) -> None:
        for value in values:
            self.stream.write(f"{value!r} {value}\n")
            if isinstance(value, BaseException):
                self.stream.write("".join(traceback.format_exception(value)))

    def found(self, key: str) -> list[str]:
        """Where the key is, in any of its spellings."""
        spellings = {key, httpx.QueryParams({"k": key}).__str__().removeprefix("k="), key[: len(key) * 2 // 3]}
        texts = {"the streams": self.stream.getvalue()}
        files = [file for file in sorted(self.folder.rglob("*")) if file.is_file()]
        texts |= {str(file): file.read_bytes().decode("latin-1") for file in files}
        return [place for place, text in texts.items() if any(spelling in text for spelling in spellings)]


def config(folder: Path, key: str, *, from_file: bool) -> str:
    source = {"api_key_file": str(folder.parent / "key")} if from_file else {"api_key_env": "PLANTED_KEY"}
    if from_file:
        (folder.parent / "key").write_text(key)
    login = httpx.QueryParams({"k": key}).__str__().removeprefix("k=")
    return yaml.safe_dump(
        {
            "tasks": [
                {"name": "t", "description": "d", "output_schema": {"reply": "str"}, "input_schema": {"text": "str"}}
            ],
            "remote": {
                "provider": "anthropic",
                "model": "claude-sonnet-4-5-20250929",
                "base_url": f"https://user:{login}@api.example.com",
                "max_attempts": 1,
                **source,
            },
            "local": {"model_dir": str(folder / "models")},
            "storage": {"path": str(folder / "log")},
            "alerts": {"webhook": f"https://hooks.example.com/services/{login}?token={login}"},
        }
    )


async def life(watched: Watched, text: str, given: str) -> None:
    """Open a runtime, ask once, raise an alert, look at everything, close."""
    known = loads(text)
    async with Runtime.open(known) as runtime:
        try:
            watched.wrote(await runtime.submit("t", {"text": given}))
        except ApprenticeError as error:
            watched.wrote(error)
        await runtime.settled()
        announce(runtime._herald, None, v.AlertRaised(alert="test", severity="critical", message="look"))
        for _ in range(10_000):
            if watched.posted:
                break
            await asyncio.sleep(0)
        watched.wrote(runtime, runtime._parts, known, runtime.report(), runtime._parts.remotes[0][1])
        watched.wrote(*[record async for record in runtime.records()])
        watched.wrote(*watched.found("sk-"))  # while the log is open, its write-ahead file is searched too
    assert watched.posted


@pytest.mark.parametrize("leak", LEAKS)
@given(key=keys, from_file=st.booleans())
@settings(max_examples=4, deadline=None)
def test_a_planted_key_is_nowhere(leak, key, from_file):
    with tempfile.TemporaryDirectory() as home:
        watched = Watched(Path(home) / "program")
        watched.folder.mkdir()
        with watched.watching(key, leak):
            asyncio.run(life(watched, config(watched.folder, key, from_file=from_file), "hello"))
        assert "look" in watched.stream.getvalue()
        assert watched.found(key) == []


@given(key=keys)
@settings(max_examples=10, deadline=None)
def test_a_key_in_an_input_stays_in_the_stored_input_alone(key):
    with tempfile.TemporaryDirectory() as home:
        watched = Watched(Path(home) / "program")
        watched.folder.mkdir()
        with watched.watching(key, "an answer"):
            asyncio.run(life(watched, config(watched.folder, key, from_file=False), f"my key is {key}"))
        assert key not in watched.stream.getvalue()
        with contextlib.closing(sqlite3.connect(watched.folder / "log" / "log.db")) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {table: list(database.execute(f"SELECT * FROM {table}")) for table in tables}
        holding = {table for table in tables for row in rows[table] if any(key in _text(cell) for cell in row)}
        assert holding == {"bodies"}
        bodies = [row for row in rows["bodies"] if any(key in _text(cell) for cell in row)]
        assert len(bodies) == 1
        assert any("my key is" in _text(cell) for cell in bodies[0])


def _text(cell: object) -> str:
    return cell.decode("latin-1") if isinstance(cell, bytes) else str(cell)


@given(key=keys)
@settings(max_examples=10, deadline=None)
def test_no_dataset_holds_a_key(key):
    async def built(folder: Path) -> str:
        secret, log = Secret(key), MemoryLog()
        given_, said = (make_body(encode_json({"text": f"{key} {n}"}), bytes([n]) * 16) for n in (1, 2))
        collected = v.ExampleCollected(request="r", input=given_.digest, output=said.digest, source="remote")
        await log.append("task/t", 0, [Entry(collected)], time_ns=0, bodies=(given_, said))
        made = await LogDatasets(log, redact_rows({})).build("t", folder, fresh_after=0, upto=1)
        assert made.rows_train == 1
        del secret
        return made.train_file.read_text() + made.holdout_file.read_text()

    with tempfile.TemporaryDirectory() as home:
        content = asyncio.run(built(Path(home) / "data"))
    assert key not in content
    assert "[secret] 1" in content


@pytest.mark.parametrize(
    "misplaced",
    [
        lambda key: {"api_key": key},
        lambda key: {"api_key_env": key},
        lambda key: {"api_key_file": key.replace(".", "_").replace("/", "_")},
        lambda key: {"base_url": f"ftp://user:{key.replace('/', '_')}@api.example.com"},
        lambda key: {"base_url": f"https://user:{key.replace('/', '_')}@api.example.com", "max_attempts": "many"},
    ],
)
@given(key=keys)
@settings(max_examples=20, deadline=None)
def test_a_key_in_the_wrong_place_is_not_quoted(misplaced, key):
    remote = {"provider": "anthropic", "model": "claude-sonnet-4-5-20250929", **misplaced(key)}
    text = yaml.safe_dump({"tasks": [{"name": "t", "description": "d"}], "remote": remote})
    with pytest.raises(InvalidConfig) as caught:
        make_remotes(loads(text), mock.Mock(), mock.Mock())
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert key not in shown
    assert key.replace(".", "_").replace("/", "_") not in shown
    assert key.replace("/", "_") not in shown


@given(key=keys)
@settings(max_examples=10, deadline=None)
def test_a_webhook_that_fails_keeps_its_address_to_itself(key):
    known = loads(config(Path(tempfile.gettempdir()) / "unused", key, from_file=False))
    sink = make_sinks(known)[-1]
    watched = Watched(Path(tempfile.gettempdir()) / "nowhere")

    async def post() -> None:
        with pytest.raises(httpx.HTTPError, match=r"hooks\.example\.com .*404") as caught:
            await sink.raised("t", "a", "critical", "m")
        watched.wrote(caught.value, sink, known)

    with watched.watching(key, "an answer"):
        asyncio.run(post())
    assert watched.posted
    assert watched.found(key) == []
