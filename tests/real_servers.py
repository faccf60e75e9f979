"""The real model servers that heavy tests talk to. `make heavy` has prepared them; without them those tests fail."""

import atexit
import functools
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx

from apprentice.config import LocalConfig
from apprentice.config.local import ServerConfig
from apprentice.local import leash
from apprentice.local.managed import free_port
from tests import cached_converter, tiny_llama

ROOT = Path(__file__).resolve().parents[1]
VLLM = ROOT / ".venv-vllm" / "bin" / "vllm"
LLAMA = ROOT / ".cache" / "llama" / "bin" / "llama-server"
CONVERT = ROOT / ".cache" / "llama" / "convert"
_UP = "Application startup complete"

VLLM_ENVIRONMENT: Mapping[str, str] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
VLLM_ARGS = ("--enforce-eager", "--max-model-len", "512")
PREPARE = "`make heavy` prepares it"


def vllm_config(model_dir: Path, *, managed: bool = False, slots: int = 4) -> LocalConfig:
    """A vLLM backend on the tiny base: a server of its own, or the one that tests share."""
    base = str(tiny_llama.cached_base())
    assert VLLM.exists(), f"{VLLM} is missing; {PREPARE}"
    if managed:
        port = free_port()
        server = ServerConfig(
            managed=True,
            url=f"http://127.0.0.1:{port}",
            command=_vllm_command(base, port, slots),
            environment=dict(VLLM_ENVIRONMENT),
            adapter_slots=slots,
        )
    else:
        server = ServerConfig(url=vllm_url(slots), adapter_slots=slots)
    return LocalConfig(
        backend="vllm", base_model=base, fine_tune_backend="lora", model_dir=model_dir, dtype="bfloat16", server=server
    )


@functools.cache
def vllm_url(slots: int = 4) -> str:
    """Start the vLLM server that the tests of this process share; it ends with the process."""
    port = free_port()
    command = _vllm_command(str(tiny_llama.cached_base()), port, slots)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(leash.__file__), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **VLLM_ENVIRONMENT},
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    atexit.register(process.stdin.close if process.stdin is not None else process.kill)
    said = []
    for line in process.stdout:
        said.append(line)
        if _UP in line:
            break
    else:
        raise AssertionError("vLLM ended before it was up:\n" + "".join(said[-30:]))
    _drain(process)
    url = f"http://127.0.0.1:{port}"
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
    return url


def llama_config(model_dir: Path, *, slots: int = 4) -> LocalConfig:
    """A llama.cpp backend on the tiny base."""
    assert LLAMA.exists(), f"{LLAMA} is missing; {PREPARE}"
    return LocalConfig(
        backend="llama_cpp",
        base_model=str(tiny_llama.cached_base()),
        server_model=str(base_gguf()),
        fine_tune_backend="lora",
        model_dir=model_dir,
        server=ServerConfig(
            managed=True,
            command=(str(LLAMA),),
            args=("--threads", "1", "--parallel", "4"),
            adapter_slots=slots,
            context=4096,
            lora_converter=Path(cached_converter.__file__),
        ),
    )


def transformers_config(model_dir: Path) -> LocalConfig:
    """The tiny base in this process."""
    return LocalConfig(
        backend="transformers", base_model=str(tiny_llama.cached_base()), fine_tune_backend="lora", model_dir=model_dir
    )


@functools.cache
def base_gguf() -> Path:
    """The tiny base model as llama.cpp wants it, converted once on this machine."""
    base = tiny_llama.cached_base()
    path = Path(tempfile.gettempdir()) / f"{base.name}.gguf"
    if not path.exists():
        partial = Path(tempfile.mkdtemp(prefix="tiny-gguf-")) / "base.gguf"
        words = ["--outtype", "f32", "--outfile", str(partial), str(base)]
        subprocess.run(
            [sys.executable, str(CONVERT / "convert_hf_to_gguf.py"), *words], check=True, capture_output=True, text=True
        )
        partial.rename(path)
    return path


def _vllm_command(base: str, port: int, slots: int) -> tuple[str, ...]:
    words = ("serve", base, "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--enable-lora")
    limits = ("--max-loras", str(slots), "--max-cpu-loras", str(slots), "--max-lora-rank", "16")
    return (str(VLLM), *words, *limits, *VLLM_ARGS)


def _drain(process: "subprocess.Popen[str]") -> None:
    """Read the log on, so that the server never waits for a reader."""
    import threading

    assert process.stdout is not None
    threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
