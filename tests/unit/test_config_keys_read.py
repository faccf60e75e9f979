"""A key that nothing reads is a lie to whoever sets it: every key is used by code outside the configuration."""

import ast
from functools import cache
from pathlib import Path

import pytest

from apprentice.config import describe

ROOT = Path(__file__).parents[2]
PATHS = [key.path for key in describe()]


@cache
def attributes_read() -> frozenset[str]:
    """Names that are read as attributes anywhere outside apprentice/config."""
    files = [
        file
        for folder in ("apprentice", "actors", "events")
        for file in (ROOT / folder).rglob("*.py")
        if ROOT / "apprentice" / "config" not in file.parents
    ]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return frozenset(
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


READ_WHOLE = ("price.", "currency")
"""Prices go to the price table as one mapping; of the currency the configuration itself refuses all but one."""


@pytest.mark.skipif(not (ROOT / "apprentice" / "runtime.py").exists(), reason="the runtime is not there")
@pytest.mark.parametrize("path", PATHS)
def test_every_key_is_read(path):
    if any(part in path for part in READ_WHOLE):
        return
    name = path.split(".")[-1].removesuffix("[]")
    name = "providers" if name == "additional_providers" else name
    assert name in attributes_read(), f"nothing outside apprentice/config reads `{path}`: read it or remove the key"
