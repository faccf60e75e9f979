"""Folders of adapter versions without a model behind them, for servers that are imitated."""

from pathlib import Path

import msgspec

from apprentice.local.confidence import Token, fit
from apprentice.training.versions import write_version

BASE = "tiny/base"


def write_adapter(folder: Path, version: str, *, base: str = BASE, weights: bytes = b"weights") -> str:
    """Write a version whose weights are any bytes; returns the sha256 of its manifest."""

    def fill(into: Path) -> None:
        (into / "adapter_model.safetensors").write_bytes(weights)
        (into / "adapter_config.json").write_bytes(msgspec.json.encode({"peft_type": "LORA", "r": 8}))
        sure = [Token('{"label":"', -0.01), Token("bug", -0.02), Token('"}', -0.01)]
        fit([sure] * 30, [True] * 30, ()).save(into)

    return write_version(
        folder,
        fill,
        version=version,
        base=base,
        parent=None,
        dataset="",
        calibration="",
        settings={},
        metrics={},
        created="2026-01-01T00:00:00+00:00",
    )
