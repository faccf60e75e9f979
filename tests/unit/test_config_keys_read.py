"""A key that nothing reads is a lie to whoever sets it: every key is used by code outside the configuration."""

import ast
from functools import cache
from pathlib import Path

import pytest

from apprentice.config import describe

ROOT = Path(__file__).parents[2]
PATHS = [key.path for key in describe()]


READERS = {
    "local.training.": ("apprentice/training", "apprentice/standing.py"),
    "local.server.": ("apprentice/local", "apprentice/training"),
    "": ("apprentice", "actors", "events"),
}
"""Where keys are read. Those of trainers and servers travel as one mapping, so that only what works with it counts."""


@cache
def attributes_read(places: tuple[str, ...]) -> frozenset[str]:
    """Names that are read as attributes in files and folders, outside apprentice/config."""
    files = [
        file
        for place in places
        for file in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))
        if ROOT / "apprentice" / "config" not in file.parents
    ]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return frozenset(
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


READ_WHOLE = ("price.", "currency", "beside_server")
"""Prices go to the price table as one mapping; currency and shared GPUs are the configuration's own to check."""


@pytest.mark.skipif(not (ROOT / "apprentice" / "runtime.py").exists(), reason="the runtime is not there")
@pytest.mark.parametrize("path", PATHS)
def test_every_key_is_read(path):
    if any(part in path for part in READ_WHOLE):
        return
    name = path.split(".")[-1].removesuffix("[]")
    name = "providers" if name == "additional_providers" else name
    places = next(places for prefix, places in READERS.items() if path.startswith(prefix))
    assert name in attributes_read(places), f"nothing in {', '.join(places)} reads `{path}`: read it or remove the key"


def test_what_a_trainer_reads_says_nothing_about_other_keys():
    assert "rank" in attributes_read(READERS["local.training."])
    assert "rank" not in attributes_read(("apprentice/faces",))
