"""Folders that take long to make, for tests: made once and kept among the temporary files of this machine."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def made_once(name: str, source: Path, versions: str, make: Callable[[Path], object]) -> Path:
    """The folder that ``make`` fills. Another one where the file ``source`` or ``versions`` is another one."""
    key = hashlib.sha256(source.read_bytes() + versions.encode()).hexdigest()[:16]
    home = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}-{key}"
    if not home.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{name}-making-"))
        make(making)
        try:
            making.rename(home)
        except OSError:  # another process was faster
            if not home.exists():
                raise
    return home
