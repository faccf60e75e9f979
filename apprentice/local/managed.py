"""A model server that is started, watched, restarted and stopped here.

It runs in a process group of its own, on a leash (:mod:`apprentice.local.leash`), so that nothing of it stays behind.
While it is down, requests fail at once, for nothing listens; when it comes back, ``returned`` is called.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from apprentice.local import leash
from apprentice.local.endpoint import Endpoint, Refused, shortened
from apprentice.remote.secrets import redact
from apprentice_actors.ports import LocalFailure

logger = logging.getLogger(__name__)

HEALTH = "/health"
HEALTH_S = 5.0
"""The longest that a sign of life is waited for, and the pause between two."""
UNHEALTHY_MAX = 6
"""Signs of life that may be missing in a row before a running server is taken to hang."""
POLL_S = 0.1
STEADY_S = 60.0
"""A server that ran this long is started again after the first pause, however often it has ended before."""
PAUSE_MAX_S = 60.0
_TAIL_LINES = 30
_LINE_BYTES_MAX = 1 << 16
_LEASH = (sys.executable, "-I", "-S", str(Path(leash.__file__)))

type State = Literal["down", "up", "closed"]


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is started."""

    name: str
    """What messages call it."""
    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    """Variables beside those of this process."""
    start_timeout_s: float
    cure: str
    """What to do where the command cannot be found."""


class ManagedServer:
    """One server process and its successors. ``returned`` is called when a successor has become healthy."""

    def __init__(
        self,
        launch: Callable[[], Launch],
        endpoint: Endpoint,
        returned: Callable[[], Awaitable[None]],
        *,
        pause_s: float = 1.0,
    ) -> None:
        """``launch`` says how, before every start. ``pause_s`` is the pause before a restart; each further one is twice
        as long.
        """
        self._make_launch = launch
        self._launch = launch()
        self._endpoint = endpoint
        self._returned = returned
        self._pause_s = pause_s
        self._state: State = "down"
        self._starter: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    @property
    def up(self) -> bool:
        """Whether it was healthy when last looked at."""
        return self._state == "up"

    @property
    def pid(self) -> int | None:
        """The process group of the running server."""
        return self._process.pid if self._process is not None else None

    @property
    def log(self) -> Sequence[str]:
        """The last lines of its log."""
        return tuple(self._tail)

    async def start(self) -> None:
        """Return once it is healthy. Raises :class:`LocalFailure`, with the end of its log, if that fails."""
        self._refuse_if_closed()
        if self._starter is None:
            self._starter = self._spawn(self._begin(), "start of a local model server")
        try:
            await asyncio.shield(self._starter)  # who gives up waiting does not stop it
            async with asyncio.timeout(self._launch.start_timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._state in ("up", "closed"))
        except TimeoutError:
            raise self._not_healthy("it was restarted and is not healthy yet") from None
        except asyncio.CancelledError:
            self._refuse_if_closed()
            raise
        self._refuse_if_closed()

    async def aclose(self) -> None:
        """Stop it, and everything that it started."""
        await self._enter("closed")
        watchers = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await self._end_process()

    # ------------------------------------------------------------ within

    async def _begin(self) -> None:
        try:
            await self._run()
        except BaseException:
            self._starter = None
            await asyncio.shield(self._end_process())
            raise
        self._spawn(self._watch(), "watch over a local model server")

    async def _run(self) -> None:
        """Start a process and wait until it is healthy."""
        self._launch = launch = self._make_launch()
        variables = {**environment(), **launch.environment}
        if shutil.which(launch.command[0], path=variables.get("PATH")) is None:
            raise LocalFailure(f"{launch.name} cannot be started: `{launch.command[0]}` is not found; {launch.cure}")
        _refuse_taken_port(launch.name, self._endpoint.url)
        self._tail.clear()
        logger.info("starting %s: %s", launch.name, redact(" ".join(launch.command)))
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *_LEASH,
                *launch.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=variables,
                limit=_LINE_BYTES_MAX,
                start_new_session=True,
            )
        except OSError as error:
            raise LocalFailure(f"{launch.name} cannot be started: {error}") from error
        self._spawn(self._listen(process), "log of a local model server")
        try:
            async with asyncio.timeout(launch.start_timeout_s):
                while not await self._healthy():
                    if process.returncode is not None:
                        raise self._not_healthy(f"it ended at once with status {process.returncode}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise self._not_healthy(
                f"it was not healthy after {launch.start_timeout_s:g} s; raise local.server.start_timeout_s if it "
                "needs longer"
            ) from None
        await self._enter("up")

    async def _watch(self) -> None:
        """See the process end or hang, and start it again, at growing intervals."""
        pause_s = self._pause_s
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            why = await self._until_broken()
            await self._enter("down")
            await self._end_process()
            steady = loop.time() - begun >= STEADY_S
            pause_s = self._pause_s if steady else pause_s
            logger.error("%s %s; it is started again%s", self._launch.name, why, self._log_end())
            while not self.up:
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2.0 * pause_s)
                try:
                    await self._run()
                except LocalFailure as error:
                    logger.error("%s", error)
                    await self._end_process()
            await self._returned()

    async def _until_broken(self) -> str:
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        missing = 0
        try:
            while missing < UNHEALTHY_MAX:
                done, _ = await asyncio.wait([ended], timeout=HEALTH_S)
                if done:
                    return f"ended with status {ended.result()}"
                missing = 0 if await self._healthy() else missing + 1
            return f"gave no sign of life {missing} times"
        finally:
            ended.cancel()

    async def _healthy(self) -> bool:
        try:
            await self._endpoint.call("GET", HEALTH, timeout_s=HEALTH_S)
        except (LocalFailure, Refused):
            return False
        return True

    async def _end_process(self) -> None:
        """Ask the group to end, then make it. Nothing of it is left afterwards."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # the leash lets go: it asks the group to end, and makes it after its grace
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(leash.GRACE_S + 5.0):
                await process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if self._process is process:
            self._process = None

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit, and dropped
                continue
            if not line:
                return
            text = shortened(line.decode(errors="replace"))
            self._tail.append(text)
            logger.debug("%s: %s", self._launch.name, text)

    async def _enter(self, state: State) -> None:
        async with self._changed:
            if self._state != "closed":
                self._state = state
            self._changed.notify_all()

    def _refuse_if_closed(self) -> None:
        if self._state == "closed":
            raise LocalFailure(f"{self._launch.name} was stopped")

    def _not_healthy(self, why: str) -> LocalFailure:
        return LocalFailure(f"{self._launch.name} does not run: {why}{self._log_end()}")

    def _log_end(self) -> str:
        return "".join(f"\n  {line}" for line in self._tail)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, LocalFailure):  # those are told to whoever waits for the start
            logger.error("%s ended: %r", task.get_name(), error)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _refuse_taken_port(name: str, url: str) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex((host, port)) == 0:
            raise LocalFailure(
                f"{name} cannot be started: something listens on port {port} of {host} already; stop it, or write "
                "another address into local.server.url"
            )


def environment() -> dict[str, str]:
    """This process's variables without the keys of remote models, which are no business of a local server."""
    return {name: value for name, value in os.environ.items() if redact(value) == value}
