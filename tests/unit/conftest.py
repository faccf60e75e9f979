"""Fixtures of several unit tests."""

import pytest
from command_line import Ran, Run

from apprentice.faces.cli import app


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in this process."""
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)

    def run(*args: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            app([str(arg) for arg in args])
        captured = capsys.readouterr()
        code = stop.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run
