"""The documentation of the configuration follows from its models, and is complete."""

import re
from pathlib import Path

import yaml

from apprentice.config import Config, describe, loads, markdown

ROOT = Path(__file__).parents[2]


def test_every_key_says_what_it_is_and_what_it_takes():
    keys = describe()
    assert len(keys) == len({key.path for key in keys})
    for key in keys:
        assert key.description.endswith("."), f"{key.path} needs a description"
        assert key.type, f"{key.path} does not say what it takes"


def test_keys_carry_path_type_and_default():
    keys = {key.path: key for key in describe()}
    assert keys["tasks[].confidence_thresholds.phase2_to_phase3"][1:3] == ("a number from 0 to 1", "0.85")
    assert keys["tasks[].name"].default is None
    assert keys["remote.additional_providers[].price.input"].default is None
    assert keys["local.model_dir"].default == "./models/"
    assert keys["tasks[].must_pass_tags"].default == "[safety, format]"
    assert keys["budget.daily"].default == ""
    assert keys["sampling.decay_function"].type == "`exponential`, `linear` or `step`"


def test_the_page_is_what_the_models_say():
    page = (ROOT / "docs" / "CONFIG.md").read_text(encoding="utf-8")
    assert page == markdown(), "write docs/CONFIG.md anew with apprentice.config.markdown()"


def test_defaults_in_the_page_are_the_defaults_of_the_models():
    small = "{tasks: [{name: a, description: d}], remote: {provider: anthropic, model: m}}"
    config = Config.model_validate(yaml.safe_load(small)).model_dump(mode="json")
    for key in describe():
        if not key.default or " " in key.default or "own" in key.default or "price" in key.path:
            continue
        value = config
        for step in key.path.replace("additional_providers[].", "").split("."):
            value = value[step.removesuffix("[]")]
            value = value[0] if step.endswith("[]") else value
        written = yaml.safe_load(key.default)
        assert Path(value) == Path(written) if key.type == "a path" else value == written, key.path


def test_the_shipped_file_shows_every_key():
    shown = (ROOT / "apprentice.yaml").read_text(encoding="utf-8")
    hidden = [key.path for key in describe() if f"{key.path.split('.')[-1].removesuffix('[]')}:" not in shown]
    assert hidden == []


def test_what_stands_in_comments_about_the_local_model_can_be_uncommented():
    shown = (ROOT / "apprentice.yaml").read_text(encoding="utf-8")
    section = shown[shown.index("local:\n") : shown.index("\nsampling:")]
    local = yaml.safe_load(re.sub(r"(?m)^  # ", "  ", section))["local"]
    local |= {"backend": "vllm", "fine_tune_backend": "lora"}
    local["server"]["managed"] = True
    del local["encoder"], local["encoder_tuning"], local["training"]["token_price"]  # of the other backends
    whole = {"tasks": [{"name": "a", "description": "d"}], "remote": {"provider": "anthropic", "model": "m"}}
    found = loads(yaml.safe_dump(whole | {"local": local})).local
    assert found.training.gpus == (1, 2, 3, 4)
    assert found.triggers.cron == "0 3 * * *"
