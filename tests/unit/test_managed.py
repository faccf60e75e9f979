"""Servers that are started here: a small one that the tests bring along, in real processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from apprentice.local import leash
from apprentice.local.endpoint import Endpoint
from apprentice.local.managed import Launch, ManagedServer, free_port
from apprentice.remote.secrets import Secret
from apprentice_actors.ports import LocalFailure

SERVER = """
import http.server, os, subprocess, sys
print("hello from the server", os.environ.get("GREETING"), flush=True)
if "fail" in sys.argv:
    sys.exit("no such model")
if "child" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print("child", child.pid, flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = str(os.getpid()).encode()
        self.send_response(503 if "sick" in sys.argv else 200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *told):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Rig:
    """A managed server and what it was told."""

    def __init__(self, *words: str, port: int | None = None, timeout_s: float = 20.0, program: str = sys.executable):
        self.port = port or free_port()
        self.returns = 0
        self.returned = asyncio.Event()
        self.endpoint = Endpoint("the test server", f"http://127.0.0.1:{self.port}", cure="look after it")
        launch = Launch(
            name="the test server",
            command=(program, "-I", "-S", "-c", SERVER, str(self.port), *words),
            environment={"GREETING": "well met"},
            start_timeout_s=timeout_s,
            cure="install it",
        )
        self.begun = asyncio.Event()

        def begin() -> Launch:
            self.begun.set()
            return launch

        self.server = ManagedServer(begin, self.endpoint, self.on_return, pause_s=0.0)

    async def on_return(self) -> None:
        self.returns += 1
        self.returned.set()

    async def pid(self) -> int:
        """Of the process that answers."""
        return int((await self.endpoint.call("GET", "/")).content)

    async def close(self) -> None:
        await self.server.aclose()
        await self.endpoint.aclose()


@pytest.fixture
async def rigs():
    made: list[Rig] = []

    def make(*words: str, **more) -> Rig:
        made.append(Rig(*words, **more))
        return made[-1]

    yield make
    for rig in made:
        await rig.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_it_is_up_once_it_is_healthy_and_gone_once_it_is_closed(rigs):
    rig = rigs()
    await rig.server.start()
    await rig.server.start()
    assert rig.server.up
    pid = await rig.pid()
    await rig.server.aclose()
    assert not alive(pid)
    with pytest.raises(LocalFailure, match="cannot be reached"):
        await rig.pid()
    with pytest.raises(LocalFailure, match="stopped"):
        await rig.server.start()


async def test_what_it_started_goes_with_it(rigs):
    rig = rigs("child")
    await rig.server.start()
    child = int(next(line for line in rig.server.log if line.startswith("child")).split()[1])
    assert alive(child)
    await rig.close()
    assert not alive(child)


async def test_killed_it_is_started_again_and_that_is_told(rigs):
    rig = rigs()
    await rig.server.start()
    before = await rig.pid()
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(30):
        await rig.returned.wait()
    assert await rig.pid() != before
    assert rig.returns == 1


async def test_a_killed_leash_takes_the_server_with_it_and_it_comes_back(rigs):
    rig = rigs()
    await rig.server.start()
    before = await rig.pid()
    assert rig.server.pid is not None
    os.kill(rig.server.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        await rig.returned.wait()
    assert not alive(before)


async def test_a_start_that_fails_tells_the_end_of_the_log(rigs):
    rig = rigs("fail")
    with pytest.raises(LocalFailure, match=r"(?s)ended at once with status 1.*hello from the server well met.*no such"):
        await rig.server.start()
    assert not rig.server.up


async def test_one_that_never_becomes_healthy_is_given_up_and_ended(rigs):
    rig = rigs("sick", timeout_s=0.5)
    with pytest.raises(LocalFailure, match=r"not healthy after 0\.5 s; raise local\.server\.start_timeout_s"):
        await rig.server.start()
    with pytest.raises(LocalFailure, match="cannot be reached"):
        await rig.pid()


async def test_a_port_in_use_is_said_before_anything_is_started(rigs):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        rig = rigs(port=other.getsockname()[1])
        with pytest.raises(LocalFailure, match="something listens on port"):
            await rig.server.start()


async def test_a_missing_command_is_named_with_the_cure(rigs):
    rig = rigs(program="no-such-server")
    with pytest.raises(LocalFailure, match="`no-such-server` is not found; install it"):
        await rig.server.start()


async def test_closing_while_it_starts_ends_the_start(rigs):
    rig = rigs("sick")
    starting = asyncio.create_task(rig.server.start())
    await rig.begun.wait()
    await asyncio.sleep(0)
    await rig.server.aclose()
    with pytest.raises(LocalFailure):
        await starting


async def test_keys_of_remote_models_do_not_reach_the_server(rigs, monkeypatch):
    secret = Secret("sk-live-0123456789", "the test")
    monkeypatch.setenv("SOME_KEY", secret.reveal())
    monkeypatch.setenv("GREETING", "overridden by the launch")
    rig = rigs()
    await rig.server.start()
    environment = environment_of(await rig.pid())
    assert b"sk-live" not in environment
    assert b"GREETING=well met" in environment


def test_when_the_program_dies_the_server_dies_too():
    """The program here is a process that holds the leash, and is killed without a chance to clean up."""
    command = [sys.executable, "-I", "-S", "-c", "import os, signal; print(os.getpid(), flush=True); signal.pause()"]
    words = [sys.executable, "-I", "-S", str(leash.__file__), *command]
    holder = f"import subprocess, signal; subprocess.Popen({words!r}, stdin=subprocess.PIPE, start_new_session=True)"
    program = subprocess.Popen([sys.executable, "-c", holder + "; signal.pause()"], stdout=subprocess.PIPE)
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    assert alive(pid)
    program.kill()
    program.wait()
    assert program.stdout.read() == b""  # ends when the last process that holds the pipe has ended
    program.stdout.close()
    assert not alive(pid)


def test_a_free_port_is_free():
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{free_port()}", trust_env=False)
