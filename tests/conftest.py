"""What every test may rely on."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _log_settings_stay_within_a_test() -> Iterator[None]:
    """The command line sets log levels for its process; here one process runs many commands."""
    loggers = [logging.getLogger(name) for name in ("apprentice", "apprentice.alerts", "apprentice_actors")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
