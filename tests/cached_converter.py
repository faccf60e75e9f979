"""llama.cpp's converter of adapters, run once for each adapter on this machine: it spends its time on imports."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CONVERTER = Path(__file__).resolve().parents[1] / ".cache" / "llama" / "convert" / "convert_lora_to_gguf.py"


def main(words: list[str]) -> int:
    """Convert as the real one does, from what is kept if it is there."""
    out = Path(words[words.index("--outfile") + 1])
    weights = Path(words[-1], "adapter_model.safetensors").read_bytes()
    kept = Path(tempfile.gettempdir()) / f"tiny-lora-{hashlib.sha256(weights).hexdigest()[:32]}.gguf"
    if not kept.exists():
        made = subprocess.run([sys.executable, str(CONVERTER), *words], check=False)
        if made.returncode:
            return made.returncode
        partial = kept.with_suffix(f".{out.name}-{hashlib.sha256(str(out).encode()).hexdigest()[:8]}")
        shutil.copyfile(out, partial)
        partial.rename(kept)
    shutil.copyfile(kept, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
