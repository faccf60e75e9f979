"""What the recipes tell the tools that train for them: settings, number formats, configuration files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from apprentice.config import LocalConfig
from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.training.adapters.plan import Plan, Reply, Settings
from apprentice.training.recipes import RecipeTrainer, stages
from apprentice.training.recipes_axolotl import Listener, configuration, written
from apprentice.training.recipes_settings import Recipe, sft_arguments
from apprentice_actors.ports import TrainingJob

SCRIPTS = sorted((Path(__file__).parents[2] / "apprentice" / "training").glob("recipes_*.py"))


def recipe(**more: Any) -> Recipe:
    fields: dict[str, Any] = {
        "base_model": "vendor/model",
        "dtype": "auto",
        "tokens": "/anywhere/tokens.jsonl",
        "held_back": "/anywhere/held-back.jsonl",
        "offline": False,
        "rows": 100,
        "rows_in_all": 110,
        "rows_too_long": 2,
        "tokens_total": 30_000,
        "work": "/anywhere",
        "parent": None,
        "scratch": None,
        "rank": 16,
        "alpha": 32,
        "dropout": 0.05,
        "target_modules": ("all-linear",),
        "learning_rate": 2e-4,
        "epochs": 3,
        "max_steps": None,
        "batch_size": 8,
        "gradient_accumulation": 1,
        "gradient_checkpointing": True,
        "packing": False,
        "max_length": 1024,
        "four_bit": False,
        "early_stopping": 3,
        "save_steps": 50,
        "seed": 7,
        "processes": 1,
        "gpus": 0,
    }
    return Recipe(**{**fields, **more})


def test_a_recipe_is_written_and_read_back(tmp_path):
    made = recipe(target_modules=("q_proj", "v_proj"), max_steps=9)
    made.write(tmp_path / "recipe.json")
    assert Recipe.read(tmp_path / "recipe.json") == made


@pytest.mark.parametrize(
    ("more", "steps"),
    [
        ({}, 39),
        ({"processes": 2, "gradient_accumulation": 2}, 12),
        ({"packing": True}, 12),
        ({"max_steps": 5}, 5),
        ({"max_steps": 500}, 39),
        ({"rows": 1, "epochs": 1}, 1),
    ],
)
def test_steps_follow_from_rows_batches_and_processes(more, steps):
    assert recipe(**more).steps == steps
    assert 1 <= recipe(**more).warm_up_steps <= steps
    assert 1 <= recipe(**more).evaluate_steps <= 50


def test_sft_arguments_follow_the_recipe():
    told = sft_arguments(recipe(max_steps=5), bf16=True, fp16=False, packing=True)
    assert (told["max_steps"], told["bf16"], told["fp16"], told["packing"]) == (5, True, False, True)
    assert (told["eval_strategy"], told["load_best_model_at_end"]) == ("steps", True)
    assert told["save_steps"] % told["eval_steps"] == 0
    plain = sft_arguments(recipe(held_back=None), bf16=False, fp16=False, packing=False)
    assert (plain["eval_strategy"], plain["max_steps"], plain["save_steps"]) == ("no", -1, 50)
    assert plain["use_cpu"]
    assert not sft_arguments(recipe(gpus=2), bf16=False, fp16=False, packing=False)["use_cpu"]


def test_axolotl_is_told_everything():
    told = configuration(recipe(packing=True, max_steps=5, parent="/models/v1"), flash=True)
    assert (told["adapter"], told["lora_r"], told["lora_alpha"], told["lora_dropout"]) == ("lora", 16, 32, 0.05)
    assert (told["lora_target_linear"], told["lora_model_dir"], told["max_steps"]) == (True, "/models/v1", 5)
    assert (told["sample_packing"], told["attn_implementation"]) == (True, "flash_attention_2")
    assert told["datasets"] == [{"path": "/anywhere/tokens.jsonl", "ds_type": "json", "split": "train"}]
    assert (told["early_stopping_patience"], told["bf16"], told["seed"]) == (3, "auto", 7)


def test_axolotl_does_without_flash_attention():
    told = configuration(recipe(packing=False), flash=False)
    assert (told["sample_packing"], told["attn_implementation"]) == (False, "sdpa")


def test_axolotl_quantizes_names_layers_and_leaves_out_what_is_not_asked_for():
    told = configuration(recipe(four_bit=True, target_modules=("q_proj",), held_back=None), flash=False)
    assert (told["adapter"], told["load_in_4bit"], told["lora_target_modules"]) == ("qlora", True, ["q_proj"])
    assert {"max_steps", "lora_model_dir", "test_datasets", "early_stopping_patience"} & told.keys() == set()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bfloat16", {"bf16": True}),
        ("float16", {"bf16": False, "fp16": True}),
        ("float32", {"bf16": False, "fp16": False, "tf32": False}),
    ],
)
def test_axolotl_computes_in_the_format_that_is_asked_for(dtype, expected):
    told = configuration(recipe(dtype=dtype), flash=False)
    assert {name: told[name] for name in ("bf16", "fp16", "tf32") if name in told} == expected


def test_the_configuration_file_says_what_was_meant():
    made = recipe(base_model="Ünïcode: model # 1", learning_rate=1e-05)
    assert yaml.safe_load(written(made, flash=True)) == configuration(made, flash=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{'loss': '1.5', 'grad_norm': '2', 'epoch': '0.1'}", (0.2, "step 1 of 5, loss 1.5")),
        ("{'loss': 0.25, 'learning_rate': 1e-05}", (0.2, "step 1 of 5, loss 0.25")),
        ("{'eval_loss': '1.5'}", None),
        ("{'train_runtime': '3', 'train_loss': '1.5'}", None),
        (" 10%|█         | 2/20 [00:03<00:27,  1.5s/it]", None),
    ],
)
def test_axolotls_output_becomes_progress(tmp_path, line, expected):
    recipe(max_steps=5).write(tmp_path / "recipe.json")
    heard = Listener(tmp_path)(line)
    assert heard == (None if expected is None else Reply(progress=expected))


def test_more_steps_than_were_planned_are_no_more_than_all(tmp_path):
    recipe(max_steps=2).write(tmp_path / "recipe.json")
    listener = Listener(tmp_path)
    assert [listener("{'loss': 1.0}").progress[0] for _ in range(3)] == [0.5, 1.0, 1.0]


# ---------------------------------------------------------------- the trainer


TOOLS = ("huggingface", "unsloth", "axolotl")


def local(backend: str, **training: Any) -> LocalConfig:
    told = {"gpus": (0,), **training}
    return LocalConfig(backend="vllm", fine_tune_backend=backend, base_model="vendor/model", training=told)


def plan(work: Path, *, devices: tuple[int, ...] = (), processes: int = 1, **settings: Any) -> Plan:
    job = TrainingJob(
        job="job-1",
        task="tickets",
        version="tickets@v1",
        parent=None,
        parent_folder=None,
        folder=str(work / "v1"),
        train_file="",
        calibration_file="",
        output_schema=None,
        match_fields=(),
        seed=7,
        devices=devices,
    )
    told = Settings(base_model="vendor/model", **settings)
    return Plan(job=job, settings=told, work=str(work), processes=processes)


@pytest.fixture
def installed(monkeypatch):
    """Every package seems to be there."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_tool_names_its_extra(monkeypatch, tool):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("trl", tool) else object())
    with pytest.raises(MissingExtra, match=rf"apprentice\[{tool}\]"):
        RecipeTrainer(local(tool), tool)


@pytest.mark.parametrize("tool", TOOLS)
async def test_common_settings_are_honoured_by_all(installed, tool):
    common = {
        "rank": 8,
        "alpha": 8,
        "dropout": 0.1,
        "learning_rate": 1e-3,
        "epochs": 1,
        "max_steps": 9,
        "max_minutes": 5,
    }
    more = {"batch_size": 2, "gradient_accumulation": 2, "gradient_checkpointing": False, "quantization": "4bit"}
    await RecipeTrainer(local(tool, **common, **more, max_length=64, early_stopping=0), tool).aclose()


@pytest.mark.parametrize(
    ("tool", "training"),
    [
        *((tool, {"weights": {"remote": 0.5}}) for tool in TOOLS),
        *((tool, {"balance": True}) for tool in TOOLS),
        ("unsloth", {"processes": 2}),
        ("unsloth", {"accelerate_config": "zero.yaml"}),
        ("axolotl", {"save_steps": 10}),
    ],
)
def test_settings_that_a_tool_does_not_have_are_refused_by_name(installed, tool, training):
    (name,) = training
    with pytest.raises(InvalidConfig, match=rf"local.training.{name}: the backend {tool} has no such setting"):
        RecipeTrainer(local(tool, **training), tool)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_price_of_tokens_is_refused_where_nobody_charges_for_them(tool):
    with pytest.raises(ValueError, match="token_price"):
        local(tool, token_price=1)


@pytest.mark.parametrize(("training", "says"), [({"gpus": ()}, "gpus: missing"), ({"gpus": (0, 1)}, "gpus_per_job")])
def test_unsloth_wants_one_gpu(installed, training, says):
    with pytest.raises(InvalidConfig, match=f"local.training.{says}"):
        RecipeTrainer(local("unsloth", **training), "unsloth")


async def test_unsloth_takes_one_gpu_of_several(installed):
    await RecipeTrainer(local("unsloth", gpus=(0, 1), gpus_per_job=1), "unsloth").aclose()


@pytest.mark.parametrize("tool", TOOLS)
def test_a_job_is_three_commands(tmp_path, tool):
    first, second, third = stages(tool, plan(tmp_path))
    assert first.command[-3:] == ("apprentice.training.recipes_rows", str(tmp_path / "plan.json"), tool)
    assert third.command[-2:] == ("apprentice.training.recipes_finish", str(tmp_path / "plan.json"))
    program = {
        "huggingface": ("apprentice.training.recipes_trl", str(tmp_path / "plan.json")),
        "unsloth": ("apprentice.training.recipes_unsloth", str(tmp_path / "plan.json")),
        "axolotl": ("axolotl.cli.train", str(tmp_path / "axolotl.yml")),
    }
    assert tuple(second.command[-2:]) == program[tool]
    assert [stage.until for stage in (first, second, third)] == sorted({first.until, second.until, third.until})
    assert all(stage.environment["CUDA_VISIBLE_DEVICES"] == "" for stage in (first, second, third))


def test_several_processes_are_launched(tmp_path):
    words = stages("huggingface", plan(tmp_path, processes=2))[1].command
    assert "accelerate.commands.launch" in words
    assert words[words.index("--nproc-per-node") + 1] == "2"
    stages("axolotl", plan(tmp_path, devices=(0, 1), processes=2))
    assert "num_processes: 2" in (tmp_path / "accelerate.yaml").read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_compile(path):
    assert compile(path.read_text(encoding="utf-8"), str(path), "exec")


@pytest.mark.parametrize("module", ["recipes", "recipes_axolotl", "recipes_settings"])
def test_what_the_runtime_imports_needs_no_torch(module):
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'peft', 'trl'), None))"
    program = f"{blocked}; import apprentice.training.{module}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
