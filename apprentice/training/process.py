"""Running a training command: its lines heard as they come, no sign of life noticed, and nothing left running after it.

Launchers start processes in sessions of their own, which a signal to the command's group does not reach. Every process
of a command therefore carries a mark in its environment, by which it is found and killed (on Linux). Its standard input
is a pipe that only closes when this process ends or kills it: a worker that watches it never outlives its trainer.
"""

import asyncio
import codecs
import contextlib
import os
import re
import signal
import sys
import uuid
from asyncio import FIRST_EXCEPTION
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")
_LIBRARIES = re.compile(r"(CUDA|NCCL|NVIDIA|GLOO|OMP|MKL|XDG)_\w+|HF_(HOME|HUB_CACHE|HUB_OFFLINE|ENDPOINT)")
_NETWORK = re.compile(r"(https?|all|no)_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|HF_TOKEN(_PATH)?", re.IGNORECASE)
_MARK = "APPRENTICE_TRAINING"
_LINES_KEPT = 200
_TAIL_LINES = 20
_LINE_CHARS_MAX = 1 << 20
_GRACE_S = 2.0
_LOOK_S = 0.05
_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|can't allocate memory|Cannot allocate memory|MemoryError|std::bad_alloc"
)
_KILLED = re.compile(r"died with <Signals\.(SIG\w+)|exitcode\s*: -(\d+)|Signal \d+ \((SIG\w+)\)")

type Ending = Literal["exit", "stuck", "time"]


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended."""

    ending: Ending
    """By itself; killed for showing no sign of life; or killed because its time was up."""
    code: int
    """Exit status; negative for a signal."""
    log: tuple[str, ...]
    """The last lines that nobody wanted, of both outputs."""

    @property
    def out_of_memory(self) -> bool:
        """Whether the log says that memory ran out, of a GPU or of the machine."""
        return any(_MEMORY.search(line) for line in self.log)

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed the command or one of its processes."""
        if self.code < 0:
            return _signal_name(-self.code)
        if self.code > 128:
            return _signal_name(self.code - 128)
        found = [match for line in self.log if (match := _KILLED.search(line))]
        names = [match[1] or match[3] or _signal_name(int(match[2])) for match in found]
        return next((name for name in names if name != "SIGTERM"), None)  # launchers send it to the others themselves

    @property
    def reason(self) -> str:
        """Why there is no result, in plain words."""
        if self.ending == "stuck":
            return "it showed no sign of life and was stopped"
        if self.ending == "time":
            return "its time was up and it was stopped"
        if self.out_of_memory:
            return "it ran out of memory"
        if self.signal == "SIGKILL":
            return "it was killed (SIGKILL), as the system does when memory runs out"
        if self.signal is not None:
            return f"it was killed ({self.signal})"
        return f"it ended with status {self.code}"

    @property
    def tail(self) -> str:
        """The end of the log as text for a message, with a line break before each line."""
        return "".join(f"\n  {line}" for line in self.log[-_TAIL_LINES:])


async def run(
    command: Sequence[str],
    heard: Callable[[str], bool],
    *,
    environment: Mapping[str, str],
    stuck_after_s: float,
    time_cap_s: float,
) -> Finished:
    """Run ``command`` to its end and return how that came.

    ``heard`` gets every line of both outputs and says whether it was meant for it; the others are kept as log. Whatever
    it raises, and a cancellation, ends all processes of the command before it goes on. Raises ``OSError`` where the
    command cannot be started.
    """
    mark = uuid.uuid4().hex
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, _MARK: mark},
        start_new_session=True,
    )
    watch = _Watch(process, heard)
    try:
        ending = await watch.until(stuck_after_s, time_cap_s)
    finally:
        await asyncio.shield(_end(process, mark, watch))
    watch.check()
    return Finished(ending=ending, code=process.returncode or 0, log=tuple(watch.log))


def environment(*, network: bool = False, **more: str) -> dict[str, str]:
    """What a computation needs and nothing else: the environment may hold API keys.

    ``network`` adds what downloading a model takes: proxies, certificates, the token of the model hub.
    """
    wanted = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or _LIBRARIES.fullmatch(name) or (network and _NETWORK.fullmatch(name))
    }
    return {**wanted, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", **more}


class _Watch:
    """Listens to both outputs of a process and knows when it last said something."""

    def __init__(self, process: asyncio.subprocess.Process, heard: Callable[[str], bool]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.log: deque[str] = deque(maxlen=_LINES_KEPT)
        self._process = process
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._start = self._last = self._loop.time()
        self._listeners = [asyncio.create_task(self._listen(stream)) for stream in (process.stdout, process.stderr)]

    async def until(self, stuck_after_s: float, time_cap_s: float) -> Ending:
        """Wait until the process ends, hangs, has used up its time, or a listener fails."""
        while self._process.returncode is None:
            now = self._loop.time()
            left_s, patience_s = self._start + time_cap_s - now, self._last + stuck_after_s - now
            if left_s <= 0.0:
                return "time"
            if patience_s <= 0.0:
                return "stuck"
            # Process.wait() also waits for the pipes, which orphans may hold open: so this looks again and again.
            await asyncio.wait(self._listeners, timeout=min(left_s, patience_s, _LOOK_S), return_when=FIRST_EXCEPTION)
            if any(task.done() and task.exception() for task in self._listeners):
                return "exit"
            if all(task.done() for task in self._listeners):
                await asyncio.sleep(min(left_s, patience_s, _LOOK_S))
        return "exit"

    async def close(self, grace_s: float) -> None:
        """Hear what is left; a process that escaped may hold the pipes open, which is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await asyncio.wait(self._listeners)
        for task in self._listeners:
            task.cancel()
        await asyncio.wait(self._listeners)

    def check(self) -> None:
        """Raise what a listener raised."""
        for task in self._listeners:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        begun = ""
        while chunk := await stream.read(1 << 16):
            self._last = self._loop.time()
            *whole, begun = re.split(r"[\r\n]+", begun + decoder.decode(chunk))
            for line in whole:
                self._take(line)
            begun = begun[:_LINE_CHARS_MAX]
        self._take(begun)

    def _take(self, line: str) -> None:
        if line.strip() and not self._heard(line):
            self.log.append(line.rstrip()[:1000])


async def _end(process: asyncio.subprocess.Process, mark: str, watch: _Watch) -> None:
    """Kill whatever of the command is still there, and hear its last words."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    deadline = asyncio.get_running_loop().time() + _GRACE_S
    while (left := marked(mark)) and asyncio.get_running_loop().time() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.01)
    await watch.close(_GRACE_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_S):
            await process.wait()


def marked(mark: str) -> list[int]:
    """The processes of a command that still run. Empty where the system does not show environments (``/proc``)."""
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
    return found


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


PYTHON = (sys.executable, "-P")
"""This interpreter, which imports what this process does: never a file that happens to lie in the working folder."""
