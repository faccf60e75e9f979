"""A process that holds another one on a leash: ``python leash.py COMMAND …`` runs the command and watches over it.

It leads a process group of its own. When the one who holds the other end of its standard input is gone, however that
came about, the whole group is ended: no server outlives the program that started it. Otherwise it ends with the
command, and as the command did. It is run as a file, on the standard library alone, so that it starts at once.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading

GRACE_S = 10.0
"""Seconds between asking the group to end and making it."""
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child, on Linux: if even the leash is killed, so is what it holds."""
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (ImportError, OSError, AttributeError):
        return


def _wait_for_end_of_input(descriptor: int) -> None:
    while True:
        select.select([descriptor], [], [])
        if not os.read(descriptor, 4096):
            return


def main(command: list[str]) -> int:
    """Run ``command`` until it ends or nobody holds the other end."""
    held = os.dup(0)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # meant for the group: the command decides when to end
    before = _die_with_parent if sys.platform == "linux" else None
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=before)
    abandoned = threading.Event()

    def guard() -> None:
        _wait_for_end_of_input(held)
        abandoned.set()
        os.killpg(0, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
        os.killpg(0, signal.SIGKILL)  # ends the leash too

    threading.Thread(target=guard, daemon=True).start()
    code = child.wait()
    if abandoned.is_set():
        os.killpg(0, signal.SIGKILL)  # what the command started and left behind
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
