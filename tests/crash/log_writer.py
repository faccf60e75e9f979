"""The child of the crash tests: appends for ever and says on standard output what was acknowledged.

Several writers of a stream each append batches of two or three entries with a body. A line is written only after the
append returned: ``stream version position body``. Each line is one ``write`` call, so a kill cannot tear it.
"""

import asyncio
import os
import sys

from apprentice_events.bodies import make_body
from apprentice_events.log import Entry
from apprentice_events.sqlite import SqliteLog
from apprentice_events.vocabulary import TrainingProgressed


async def write(log: SqliteLog, stream: str) -> None:
    version = await log.stream_version(stream)
    while True:
        count = 2 + version % 2
        batch = [
            Entry(TrainingProgressed(job=f"{version}", fraction=n / count, message=f"{n + 1}/{count}"))
            for n in range(count)
        ]
        body = make_body(f"{stream} {version}".encode(), os.urandom(16))
        made = await log.append(stream, version, batch, time_ns=version, bodies=[body])
        version = made.version
        os.write(1, f"{stream} {version} {made.last} {body.digest}\n".encode())


async def main() -> None:
    log = SqliteLog.open(sys.argv[1])
    os.write(1, b"open\n")
    await asyncio.gather(*(write(log, f"s{number}") for number in range(int(sys.argv[2]))))


asyncio.run(main())
