"""What is written for Axolotl, Unsloth and TRL, held against their own sources: every key and every argument exists.

Axolotl and Unsloth are fetched by `make heavy` and never run here: both want a GPU.
"""

import ast
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apprentice.training import recipes_unsloth
from apprentice.training.recipes_axolotl import MODULE, written
from apprentice.training.recipes_settings import Recipe, sft_arguments

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / ".cache" / "recipes"
PLAIN = Recipe(
    base_model="vendor/model",
    dtype="auto",
    tokens="/anywhere/tokens.jsonl",
    held_back="/anywhere/held-back.jsonl",
    offline=False,
    rows=100,
    rows_in_all=110,
    rows_too_long=2,
    tokens_total=30_000,
    work="/anywhere",
    parent=None,
    scratch=None,
    rank=16,
    alpha=32,
    dropout=0.05,
    target_modules=("all-linear",),
    learning_rate=2e-4,
    epochs=3,
    max_steps=None,
    batch_size=8,
    gradient_accumulation=2,
    gradient_checkpointing=True,
    packing=True,
    max_length=1024,
    four_bit=False,
    early_stopping=3,
    save_steps=50,
    seed=7,
    processes=1,
    gpus=1,
)
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "plain": ({}, True),
    "without flash attention": ({}, False),
    "everything": (
        {"four_bit": True, "max_steps": 5, "parent": "/models/v1", "target_modules": ("q_proj", "v_proj")},
        True,
    ),
    "no evaluation": ({"held_back": None, "early_stopping": 0, "gradient_checkpointing": False}, False),
    "bfloat16": ({"dtype": "bfloat16"}, True),
    "float16": ({"dtype": "float16"}, True),
    "float32": ({"dtype": "float32", "packing": False}, False),
}
VALIDATE = """
import json, sys, yaml
from axolotl.utils.schemas.config import AxolotlInputConfig
from axolotl.utils.schemas.datasets import SFTDataset
found = {}
for name, text in json.load(sys.stdin).items():
    told = yaml.safe_load(text)
    try:
        read = AxolotlInputConfig.model_validate(told).model_dump()
    except ValueError as error:
        found[name] = {"refused": str(error)}
        continue
    rows = [*told["datasets"], *told.get("test_datasets", ())]
    found[name] = {
        "unknown": sorted(set(told) - set(AxolotlInputConfig.model_fields)),
        "unknown of rows": sorted({key for row in rows for key in row} - set(SFTDataset.model_fields)),
        "read otherwise": {
            key: [value, read[key]]
            for key, value in told.items()
            if key in read and key not in ("datasets", "test_datasets") and read[key] != value
        },
        "rows read otherwise": [
            [row, kept]
            for row, kept in zip(rows, [*read["datasets"], *(read["test_datasets"] or ())], strict=True)
            if {key: kept[key] for key in row} != row
        ],
    }
json.dump(found, sys.stdout)
"""


def validated(texts: dict[str, str]) -> dict[str, Any]:
    """What Axolotl's schema makes of configurations, in a process that sees its sources."""
    assert (SOURCES / "axolotl").is_dir(), f"{SOURCES} is missing; `make heavy` fetches it"
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def read_by_axolotl() -> dict[str, Any]:
    texts = {name: written(varied(PLAIN, **more), flash=flash) for name, (more, flash) in VARIANTS.items()}
    wrong = texts["plain"].replace("lora_r: 16", "lora_r: sixteen")
    return validated(texts | {"strange": "no_such_key: 1\n" + texts["plain"], "wrong": wrong})


def varied(recipe: Recipe, **more: Any) -> Recipe:
    return Recipe(**{name: getattr(recipe, name) for name in recipe.__struct_fields__} | more)


@pytest.mark.parametrize("name", VARIANTS)
def test_axolotls_own_schema_accepts_the_configuration_as_it_is_meant(read_by_axolotl, name):
    nothing = {"unknown": [], "unknown of rows": [], "read otherwise": {}, "rows read otherwise": []}
    assert read_by_axolotl[name] == nothing


def test_a_key_that_axolotl_does_not_have_would_be_found(read_by_axolotl):
    assert read_by_axolotl["strange"]["unknown"] == ["no_such_key"]


def test_a_value_that_axolotl_does_not_take_would_be_found(read_by_axolotl):
    assert "lora_r" in read_by_axolotl["wrong"]["refused"]


def test_the_command_exists_in_axolotl():
    source = SOURCES.joinpath(*MODULE.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert 'if __name__ == "__main__"' in source
    assert "def do_cli(config" in source


# ---------------------------------------------------------------- Unsloth and TRL


def parameters(file: str, owner: str, method: str) -> set[str]:
    """The names of a method's parameters, read from the source."""
    tree = ast.parse((SOURCES / "unsloth" / "models" / file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for each in node.body:
                if isinstance(each, ast.FunctionDef) and each.name == method:
                    return {argument.arg for argument in (*each.args.args, *each.args.kwonlyargs)}
    raise AssertionError(f"{owner}.{method} is not in {file} any more")


def calls(owner: str, method: str) -> Iterator[ast.Call]:
    """The calls of ``owner.method`` in the script."""
    for node in ast.walk(ast.parse(Path(recipes_unsloth.__file__).read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)):
                if (name, attribute) == (owner, method):
                    yield node


@pytest.mark.parametrize(
    ("method", "file", "owner"),
    [("from_pretrained", "loader.py", "FastLanguageModel"), ("get_peft_model", "llama.py", "FastLlamaModel")],
)
def test_the_unsloth_script_uses_only_arguments_that_its_api_has(method, file, owner):
    (call,) = calls("FastLanguageModel", method)
    given = {keyword.arg for keyword in call.keywords}
    assert len(given) > 4
    assert given - parameters(file, owner, method) == set()


def test_what_the_unsloth_script_imports_is_there():
    exported = (SOURCES / "unsloth" / "models" / "__init__.py").read_text(encoding="utf-8")
    assert "FastLanguageModel" in exported
    assert "from .models import *" in (SOURCES / "unsloth" / "_gpu_init.py").read_text(encoding="utf-8")


def test_every_sft_argument_is_one_of_trl():
    from trl import SFTConfig

    known = {field.name for field in dataclasses.fields(SFTConfig) if field.init}
    for more, packing in VARIANTS.values():
        told = sft_arguments(varied(PLAIN, **more), bf16=False, fp16=False, packing=packing)
        assert set(told) - known == set()


def test_the_unsloth_script_passes_only_what_the_trainer_takes():
    import inspect

    from trl import SFTTrainer

    tree = ast.parse(Path(recipes_unsloth.__file__).read_text(encoding="utf-8"))
    given = [
        {keyword.arg for keyword in node.keywords}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SFTTrainer"
    ]
    assert len(given) == 1
    assert given[0] - set(inspect.signature(SFTTrainer.__init__).parameters) == set()
