"""The trainer of embedded versions: one worker process, started when first needed and kept for the next job.

The worker is a process so that the solve never holds up answers, and so that a job can be stopped at any moment. A
worker that fails, hangs or is interrupted is killed, what it left is removed, and the next job starts a fresh one.
"""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from apprentice.local.embedded import require_extra
from apprentice.training.versions import discard
from apprentice_actors.ports import TrainedVersion, TrainingFailure, TrainingJob

# -P: the worker imports what this process does, never a file that happens to lie in the working folder.
_COMMAND = (sys.executable, "-P", "-m", "apprentice.training.worker")
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT")
_LINE_BYTES_MAX = 1 << 20
_TAIL_LINES = 20
_GRACE_S = 2.0


class _Done(msgspec.Struct, forbid_unknown_fields=True):
    manifest_sha256: str
    seconds: float
    metrics: dict[str, float]


class _Reply(msgspec.Struct, forbid_unknown_fields=True):
    progress: tuple[float, str] | None = None
    done: _Done | None = None
    failed: str | None = None


class _Worker:
    """A running worker process and the last lines of its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._listener = asyncio.create_task(self._listen(), name="training worker log")

    @classmethod
    async def start(cls, command: Sequence[str], threads: int) -> "_Worker":
        """Start the process in a session of its own: an interrupt at the terminal is ours to handle."""
        limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Only what a computation needs: the environment may hold API keys. Encoders are never downloaded.
            env={name: os.environ[name] for name in _KEPT if name in os.environ} | limits | {"HF_HUB_OFFLINE": "1"},
            limit=_LINE_BYTES_MAX,
            start_new_session=True,
        )
        return cls(process)

    async def send(self, line: bytes) -> None:
        """Hand over one job. Raises ``ConnectionError`` where the process is gone."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        await self.process.stdin.drain()

    async def reply(self) -> bytes:
        """The next line of the worker, empty when it ended."""
        assert self.process.stdout is not None
        return await self.process.stdout.readline()

    async def stop(self, grace_s: float) -> None:
        """Let the worker end by itself for ``grace_s`` seconds, then kill it. Returns when it is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._listener

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(ValueError):  # a line over the limit: the rest of the log is of no use
            while line := await self.process.stderr.readline():
                self.tail.append(line.decode(errors="replace").rstrip())


class EmbeddedTrainer:
    """Trains versions for the embedded model. Implements :class:`apprentice_actors.ports.Trainer`.

    Jobs run one after the other. ``job.settings`` are those of :class:`apprentice.local.student.Settings`.
    """

    def __init__(self, *, time_cap_s: float = 900.0, threads: int = 1, command: Sequence[str] = _COMMAND) -> None:
        """``time_cap_s`` bounds a job that sets none itself; ``command`` starts the worker."""
        require_extra()
        self._time_cap_s = time_cap_s
        self._threads = threads
        self._command = tuple(command)
        self._worker: _Worker | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def train(self, job: TrainingJob, progress: Callable[[float, str], None]) -> TrainedVersion:
        """Train to the end. Whatever ends it early kills the worker and removes what it wrote."""
        async with self._turn:
            if self._closed:
                raise TrainingFailure(f"{job.version} cannot be trained: the trainer is closed")
            _refuse_existing(job)
            cap_s = float(job.settings.get("time_cap_s") or self._time_cap_s)
            try:
                async with asyncio.timeout(cap_s):
                    done = await self._run(job, progress)
            except TimeoutError as error:
                tail = await self._abandon(job)
                raise TrainingFailure(
                    f"{job.version} was not ready after {cap_s:g} s; raise local.training.max_minutes{tail}"
                ) from error
            except (ConnectionError, OSError, msgspec.DecodeError, ValueError) as error:
                tail = await self._abandon(job)
                raise TrainingFailure(f"the worker training {job.version} broke down: {error}{tail}") from error
            except TrainingFailure:
                discard(Path(job.folder))
                raise
            except BaseException:
                await self._abandon(job)
                raise
            return TrainedVersion(manifest_sha256=done.manifest_sha256, seconds=done.seconds, metrics=done.metrics)

    async def aclose(self) -> None:
        """Let an idle worker end; a job in progress fails."""
        self._closed = True
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(0.0 if self._turn.locked() else _GRACE_S)

    async def _run(self, job: TrainingJob, progress: Callable[[float, str], None]) -> _Done:
        if self._worker is None:
            self._worker = await _Worker.start(self._command, self._threads)
        worker = self._worker
        await worker.send(msgspec.json.encode(job))
        while line := await worker.reply():
            reply = msgspec.json.decode(line, type=_Reply)
            if reply.failed is not None:
                raise TrainingFailure(f"{job.version} could not be trained: {reply.failed}")
            if reply.done is not None:
                progress(1.0, "done")
                return reply.done
            if reply.progress is not None:
                progress(*reply.progress)
        raise ConnectionError("it ended before it was done")

    async def _abandon(self, job: TrainingJob) -> str:
        """Kill the worker, remove its leavings, and return the end of its log as text for a message."""
        worker, self._worker = self._worker, None
        tail: Sequence[str] = ()
        if worker is not None:
            await asyncio.shield(worker.stop(0.0))
            tail = worker.tail
        discard(Path(job.folder))
        return "".join(f"\n  {line}" for line in tail)


def _refuse_existing(job: TrainingJob) -> None:
    if Path(job.folder).exists():
        raise TrainingFailure(f"{job.folder} exists already; train {job.task} under a new version number")
