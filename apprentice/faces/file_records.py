"""A log file read beside the process that writes it, for what is gathered from an event log."""

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path

from apprentice_events import sqlite_file
from apprentice_events.log import Record
from apprentice_events.sqlite import scan_file


class FileRecords:
    """The reading half of an event log. Implements :class:`apprentice.training.rows.Records`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(
        self, after: int = 0, stream: str | None = None, tags: Collection[str] | None = None, limit: int | None = None
    ) -> AsyncIterator[Record]:
        """Records past position ``after``, in order."""
        for record in islice(scan_file(self._path, after, stream, tags), limit):
            yield record

    async def by_correlation(self, correlation: str) -> list[Record]:
        """Every record with this correlation id, in order."""
        with closing(sqlite_file.connect_reader(self._path)) as reader:
            return sqlite_file.by_correlation(reader, correlation)

    async def get_bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        """The contents of many bodies; erased ones are left out."""
        with closing(sqlite_file.connect_reader(self._path)) as reader:
            return sqlite_file.get_bodies(reader, digests)
