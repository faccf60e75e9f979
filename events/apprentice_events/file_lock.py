"""One process at a time: an exclusive lock of the operating system on a small file beside the log.

The system lets go of the lock when its holder dies, however it dies, so nothing has to be cleaned up after a crash.
The file holds the holder's process id, for the error message of whoever comes second.
"""

import os
import sys
from pathlib import Path

from apprentice_events.errors import LogBusy


class FileLock:
    """Held from construction to :meth:`release`, which is called once. Raises :class:`LogBusy` if it is taken."""

    def __init__(self, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        path = log.with_name(log.name + ".lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._file)
        except OSError:
            holder = os.pread(self._file, 32, 0).strip() if sys.platform != "win32" else b""
            os.close(self._file)
            raise LogBusy(str(log), int(holder) if holder.isdigit() else None) from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let the next one in. The file stays: removing it would let two holders lock two different files."""
        os.close(self._file)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1024, os.SEEK_SET)  # past the text, which others may read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
