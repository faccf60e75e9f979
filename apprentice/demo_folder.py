"""The demo's folder: a copy of the configuration, the log, the versions. Made anew by every demo."""

import shutil
from importlib import resources
from pathlib import Path

from apprentice.config import Config
from apprentice.config import load as load_config
from apprentice.errors import CallerError, InvalidConfig
from apprentice.wiring import LOG_FILE
from apprentice_events.file_lock import FileLock

CONFIG_FILE = "apprentice.yaml"
MARKER = ".made-by-apprentice-demo"
"""A file in the demo's folder; only a folder that has it is emptied by the next demo."""
MAIN_TASK, SIDE_TASK = "classify_ticket", "extract_entities"


def example_config() -> str:
    """The text of the shipped example, which is the repository's ``apprentice.yaml``."""
    return resources.files("apprentice").joinpath("example.yaml").read_text(encoding="utf-8")


def fitting(path: Path) -> bool:
    """Whether the file at ``path`` is there and has the demo's two tasks. Raises :class:`InvalidConfig`."""
    return path.is_file() and all(load_config(path).task(name) is not None for name in (MAIN_TASK, SIDE_TASK))


def prepare(folder: Path, source: Path | None) -> Config:
    """Empty the demo's folder, and put the configuration (``source``, or the shipped example) there.

    Raises :class:`CallerError` for a folder that holds something else, :class:`InvalidConfig`, and the log's
    ``LogBusy`` while another demo runs in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not (folder / MARKER).exists():
        raise CallerError(f"{folder} is not empty and was not made by a demo; name another folder with --keep")
    if source is not None and not fitting(source):
        raise InvalidConfig([f"the demo needs the tasks {MAIN_TASK} and {SIDE_TASK}; leave --config out"], str(source))
    text = source.read_text(encoding="utf-8") if source is not None else example_config()
    if folder.exists():
        _empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("The next demo in this folder starts by emptying it.\n", encoding="utf-8")
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    return load_config(folder / CONFIG_FILE)


def _empty(folder: Path) -> None:
    for lock in folder.rglob(f"{LOG_FILE}.lock"):
        FileLock(lock.with_name(LOG_FILE)).release()  # LogBusy while another demo is at work here
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
