"""The log's file: its tables, how it is opened for writing and for reading, and the queries of readers.

``records`` holds one row per record, ``bodies`` one per body (salt and content null once erased), ``meta`` the format
and the writer epoch. The file is a plain SQLite database in WAL mode, readable with any SQLite tool.
"""

import os
import sqlite3
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from apprentice_events.bodies import body_digest
from apprentice_events.errors import LogCorrupt, LogError, NotALog, UnknownBody
from apprentice_events.log import Head, Record, Row, record_digest

FORMAT = 1
APPLICATION_ID = 0x41707072
"""Marks the file as ours in SQLite's header ("Appr")."""

PAGE_ROWS = 4096
TAIL_ROWS = 256
"""Records at the end of the file whose digests are checked on opening."""

COLUMNS = "position, stream, version, tag, schema, time_ns, causation, correlation, key, payload, digest"

_TABLES = f"""
CREATE TABLE meta (only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, epoch INTEGER NOT NULL);
INSERT INTO meta VALUES (1, {FORMAT}, 0);
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    tag TEXT NOT NULL,
    schema INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    causation TEXT,
    correlation TEXT,
    key TEXT,
    payload BLOB NOT NULL,
    digest BLOB NOT NULL,
    UNIQUE (stream, version)
);
CREATE INDEX records_correlation ON records (correlation) WHERE correlation IS NOT NULL;
CREATE INDEX records_key ON records (stream, key) WHERE key IS NOT NULL;
CREATE TABLE bodies (digest BLOB PRIMARY KEY, salt BLOB, content BLOB);
PRAGMA application_id = {APPLICATION_ID};
"""


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open or create the file for the one writing connection. The caller holds the lock. Raises :class:`NotALog`."""
    if sqlite3.sqlite_version_info < (3, 35):
        raise LogError(
            f"the log needs SQLite 3.35 or newer; this Python has {sqlite3.sqlite_version}. Use a newer one."
        )
    _create_private(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=128)
    try:
        _check_identity(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if _is_empty(connection):
            connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises ``FileNotFoundError``, :class:`NotALog`."""
    if not path.is_file():
        raise FileNotFoundError(f"no log at {path}. Check the storage path, or start the runtime once to create it.")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_identity(connection, path)
        if _is_empty(connection):
            raise NotALog(f"{path} is an empty database, not a log. Check the storage path.")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: Path) -> None:
    """Make the file with mode 0600 before SQLite sees it; SQLite gives its side files the same mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.close(descriptor)
    path.chmod(0o600)
    if os.name == "posix":  # the new name must survive a power cut too
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    try:
        if _is_empty(connection):
            return
        identity = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise NotALog(f"{path} cannot be read as a log: {error}. Check the storage path.") from error
    if identity != APPLICATION_ID:
        raise NotALog(f"{path} is a database of something else. Give the log a path of its own.")
    found = connection.execute("SELECT format FROM meta").fetchone()[0]
    if found != FORMAT:
        raise NotALog(f"{path} has log format {found}, this version knows {FORMAT}. Use the version that wrote it.")


def read_tail(connection: sqlite3.Connection) -> Head:
    """The head of the file, after a check of its last records. Raises :class:`LogCorrupt`."""
    query = f"SELECT {COLUMNS} FROM records ORDER BY position DESC LIMIT ?"
    try:
        records = [Record(*row) for row in connection.execute(query, (TAIL_ROWS + 1,))][::-1]
    except sqlite3.DatabaseError as error:
        raise LogCorrupt(None, f"its last records cannot be read ({error})") from error
    head = Head()
    if records and records[0].position > 1:
        head = Head(records[0].position, records[0].digest)
        del records[0]
    for record in records:
        if not _follows(head, record):
            raise LogCorrupt(head.position + 1, "the record does not follow from the one before it")
        head = Head(record.position, record.digest)
    return head


def _follows(head: Head, record: Record) -> bool:
    try:
        return record.position == head.position + 1 and record.digest == record_digest(head.digest, record)
    except (TypeError, AttributeError, struct.error):  # a column holds something of another type
        return False


def stream_version(connection: sqlite3.Connection, stream: str) -> int:
    """The version of the stream's last record; 0 if it has none."""
    found = connection.execute("SELECT max(version) FROM records WHERE stream = ?", (stream,)).fetchone()[0]
    return int(found or 0)


def by_correlation(connection: sqlite3.Connection, correlation: str) -> list[Record]:
    """Records with this correlation id, in order."""
    query = f"SELECT {COLUMNS} FROM records WHERE correlation = ? ORDER BY position"
    return [Record(*row) for row in connection.execute(query, (correlation,))]


def find_key(connection: sqlite3.Connection, stream: str, key: str) -> Record | None:
    """The latest record of ``stream`` under ``key``."""
    query = f"SELECT {COLUMNS} FROM records WHERE stream = ? AND key = ? ORDER BY position DESC LIMIT 1"
    row = connection.execute(query, (stream, key)).fetchone()
    return None if row is None else Record(*row)


def body_key(digest: str) -> bytes:
    """The digest as it is stored. Raises :class:`UnknownBody` for what is no digest."""
    try:
        return bytes.fromhex(digest)
    except ValueError:
        raise UnknownBody(digest) from None


def get_bodies(connection: sqlite3.Connection, digests: Iterable[str]) -> dict[str, bytes]:
    """Contents by digest, erased ones left out. Raises :class:`UnknownBody`, :class:`LogCorrupt`."""
    found: dict[str, bytes] = {}
    for digest in digests:
        query = "SELECT salt, content FROM bodies WHERE digest = ?"
        row = connection.execute(query, (body_key(digest),)).fetchone()
        if row is None:
            raise UnknownBody(digest)
        salt, content = row
        if content is None:
            continue
        if body_digest(content, salt) != digest:
            raise LogCorrupt(None, f"the content of body {digest} is not what was stored under it")
        found[digest] = content
    return found


def pages(
    connection: sqlite3.Connection, after: int, stream: str | None, tags: Collection[str] | None, limit: int | None
) -> Iterator[list[Row]]:
    """Rows past ``after`` in lists of up to ``PAGE_ROWS``, each its own query.

    No read transaction outlives a page, so a slow reader never keeps the writer from folding its WAL back.
    """
    order = "position" if stream is None else "version"
    where = ["position > ?"] if stream is None else ["stream = ?", "version > ?", "position > ?"]
    if tags is not None:
        where.append(f"tag IN ({', '.join('?' * len(tags))})")
    query = f"SELECT {COLUMNS} FROM records WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?"
    version = 0
    while limit is None or limit > 0:
        room = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit)
        scope = (after,) if stream is None else (stream, version, after)
        rows: list[Row] = connection.execute(query, (*scope, *(tags or ()), room)).fetchall()
        if rows:
            yield rows
        if len(rows) < room:
            return
        after, version = rows[-1][0], rows[-1][2]
        limit = None if limit is None else limit - len(rows)
