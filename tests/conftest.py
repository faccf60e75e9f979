"""What every test may rely on."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_settings_stay_within_a_test() -> Iterator[None]:
    """The command line sets log levels for its process; here one process runs many commands."""
    loggers = [logging.getLogger(name) for name in ("apprentice", "apprentice_actors")]
    levels = [logger.level for logger in loggers]
    yield
    structlog.reset_defaults()
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
