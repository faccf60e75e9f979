"""The simulated frontier as a process of its own, so that it shares neither event loop nor interpreter with what is
measured. ``python -m benchmarks.frontier_process LATENCY_S`` prints its URL and serves until its input is closed."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apprentice.testing import Frontier
from benchmarks.task import truth

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def frontier(latency_s: float) -> Iterator[str]:
    """The URL of a running frontier that takes ``latency_s`` for each answer."""
    command = [sys.executable, "-m", "benchmarks.frontier_process", str(latency_s)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the simulated frontier did not start; run its command by hand: " + " ".join(command))
        yield url
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


async def serve(latency_s: float) -> None:
    """Serve until standard input ends."""
    async with Frontier(answer=truth, latency=latency_s) as running:
        print(running.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
