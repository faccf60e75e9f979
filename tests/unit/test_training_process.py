"""Training commands as processes: what is heard, what ends them, and that nothing of them stays."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from apprentice.training.process import Finished, environment, run

STARTS_ANOTHER = (
    "import subprocess, sys; command = [sys.executable, '-S', '-c', 'import time; time.sleep(600)']; "
    "child = subprocess.Popen(command, start_new_session=True); print(child.pid, flush=True)"
)


def finished(*log: str, code: int = 1) -> Finished:
    return Finished(ending="exit", code=code, log=log)


async def program(text: str, heard=lambda line: False, *, stuck_after_s: float = 60.0, time_cap_s: float = 60.0):
    return await run(
        (sys.executable, "-S", "-c", text),
        heard,
        environment={"PATH": os.environ["PATH"]},
        stuck_after_s=stuck_after_s,
        time_cap_s=time_cap_s,
    )


def gone(pid: int) -> bool:
    """Whether a process ended; as a zombie, it only waits for whoever is its parent now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_lines_of_both_outputs_are_heard_and_the_unwanted_ones_kept():
    wanted: list[str] = []

    def heard(line: str) -> bool:
        wanted.append(line)
        return line.startswith("good")

    text = r"import sys; print('good one'); print('bad one'); sys.stderr.write('10%\r20%\rworse'); sys.exit(4)"
    ended = await program(text, heard)
    assert sorted(wanted) == ["10%", "20%", "bad one", "good one", "worse"]
    assert sorted(ended.log) == ["10%", "20%", "bad one", "worse"]
    assert (ended.ending, ended.code) == ("exit", 4)
    assert ended.reason == "it ended with status 4"
    assert "\n  worse" in ended.tail


async def test_a_command_that_says_nothing_is_stuck_and_one_that_goes_on_runs_out_of_time():
    silent = await program("import time; time.sleep(600)", stuck_after_s=0.2)
    assert silent.ending == "stuck"
    assert "no sign of life" in silent.reason
    busy = await program("while True: print('.', flush=True)", stuck_after_s=60.0, time_cap_s=0.2)
    assert busy.ending == "time"
    assert "time was up" in busy.reason


async def test_processes_in_sessions_of_their_own_do_not_survive_the_command():
    pids: list[int] = []
    text = f"{STARTS_ANOTHER}; import time; time.sleep(600)"
    inner = asyncio.create_task(program(text, lambda line: pids.append(int(line)) or bool(inner.cancel())))
    with pytest.raises(asyncio.CancelledError):
        await inner
    assert len(pids) == 1
    assert gone(pids[0])


async def test_an_orphan_of_a_command_that_ended_is_killed_too():
    pids: list[int] = []
    ended = await program(STARTS_ANOTHER, lambda line: not pids.append(int(line)))
    assert ended.code == 0
    assert gone(pids[0])


async def test_an_error_of_the_listener_ends_the_command_and_comes_through():
    def broken(line: str) -> bool:
        raise RuntimeError("the log is full")

    with pytest.raises(RuntimeError, match="the log is full"):
        await program("import time; print('x', flush=True); time.sleep(600)", broken)


async def test_standard_input_stays_open_until_the_end():
    ended = await program("import select, sys; print(select.select([sys.stdin], [], [], 0)[0])")
    assert ended.log == ("[]",)


async def test_a_command_killed_by_a_signal_is_named():
    ended = await program("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert ended.code == -signal.SIGKILL
    assert ended.signal == "SIGKILL"
    assert "killed (SIGKILL)" in ended.reason


@pytest.mark.parametrize(
    ("log", "code", "name"),
    [
        ("subprocess.CalledProcessError: Command '['x']' died with <Signals.SIGKILL: 9>.", 1, "SIGKILL"),
        ("  exitcode  : -9 (pid: 12)", 1, "SIGKILL"),
        ("  traceback : Signal 11 (SIGSEGV) received by PID 12", 1, "SIGSEGV"),
        ("", 137, "SIGKILL"),
        ("", 143, "SIGTERM"),
        ("", 128 + 99, "signal 99"),
        ("ValueError: 9", 1, None),
    ],
)
def test_what_launchers_say_of_killed_children_is_understood(log: str, code: int, name: str | None):
    assert finished(log, code=code).signal == name


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
        "MemoryError",
    ],
)
def test_running_out_of_memory_is_recognised(line: str):
    assert finished("something", line).reason == "it ran out of memory"


def test_the_environment_of_a_computation_has_no_keys(monkeypatch: pytest.MonkeyPatch):
    for name in ("ANTHROPIC_API_KEY", "HF_TOKEN", "https_proxy", "OMP_NUM_THREADS", "HF_HOME", "AWS_SECRET"):
        monkeypatch.setenv(name, "x")
    assert {"OMP_NUM_THREADS", "HF_HOME", "PATH"} <= environment().keys()
    assert not {"ANTHROPIC_API_KEY", "HF_TOKEN", "https_proxy", "AWS_SECRET"} & environment().keys()
    online = environment(network=True, RANK="0")
    assert {"HF_TOKEN", "https_proxy"} <= online.keys()
    assert online["RANK"] == "0"
    assert "ANTHROPIC_API_KEY" not in online
