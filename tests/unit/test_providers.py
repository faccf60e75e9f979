from typing import get_args

import pydantic
import pytest

from apprentice.config import ProviderConfig, TaskConfig, loads
from apprentice.config.models import KEY_VARIABLES, ProviderName
from apprentice.config.task import tool_answer
from apprentice.errors import InvalidConfig
from apprentice.remote import PriceTable
from apprentice.remote.providers import PROVIDERS, key_of
from apprentice.schema import Schema
from apprentice.system import SystemClock
from apprentice.testing import SeededRandomness
from apprentice.wiring import task_spec

PRICE = PriceTable.load().find("openai", "gpt-4o")
TOOL = {"name": "refund", "description": "Pay back.", "parameters": {"amount": "float"}}


def test_every_provider_of_the_configuration_is_in_the_registry():
    assert set(PROVIDERS) == set(get_args(ProviderName))


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
async def test_every_provider_makes_a_model_or_names_the_missing_key(monkeypatch, provider):
    config = ProviderConfig(provider=provider, model="gpt-4o", base_url="https://provider.example")
    variable = KEY_VARIABLES.get(provider)
    make = PROVIDERS[provider]
    if variable is not None:
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(InvalidConfig, match=variable):
            make(config, PRICE, SystemClock(), SeededRandomness(0))
        monkeypatch.setenv(variable, "sk-registry-0123456789")
    model = make(config, PRICE, SystemClock(), SeededRandomness(0))
    await model.aclose()
    assert (model.provider, model.model) == (provider, "gpt-4o")


def test_a_key_may_lie_in_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("sk-from-a-file-0123\n")
    assert key_of(ProviderConfig(provider="openai", model="m", api_key_file=file)).reveal() == "sk-from-a-file-0123"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"provider": "google", "api": "responses"}, "not spoken by google"),
        ({"provider": "azure", "base_url": "https://x.example", "api": "responses", "api_version": "1"}, "v1 endpoint"),
        ({"provider": "openai", "deployment": "d"}, "not read for openai"),
        ({"provider": "openai", "api_version": "1"}, "not read for openai"),
        ({"provider": "anthropic", "service_tier": "flex"}, "choose one of: auto, standard_only"),
        ({"provider": "openai", "temperature": 3}, "temperature"),
    ],
)
def test_keys_that_the_provider_has_no_word_for_are_refused(wrong, named):
    with pytest.raises(pydantic.ValidationError, match=named):
        ProviderConfig(model="m", **wrong)


def test_tools_of_a_task_fix_the_form_of_its_answers():
    task = TaskConfig(name="t", description="d", tools=[TOOL])
    check = task.output_schema.check
    assert check({"tool_calls": [{"name": "refund", "arguments": {"amount": 2.5}}]}) is None
    assert check({"content": "words"}) is None
    for wrong in (
        {"tool_calls": []},
        {"tool_calls": [{"name": "other", "arguments": {}}]},
        {"tool_calls": [{"name": "refund", "arguments": {"amount": "much"}}]},
        {"content": "words", "tool_calls": [{"name": "refund", "arguments": {"amount": 1}}]},
        {},
    ):
        assert check(wrong), wrong


def test_tools_and_images_reach_the_question():
    config = loads(
        "{tasks: [{name: t, description: d, input_schema: {photo: image}, tools: ["
        "{name: refund, description: Pay back., parameters: {amount: float}}, {name: stop, description: Stop.}]}], "
        "remote: {provider: anthropic, model: m}}"
    )
    spec = task_spec(config, config.tasks[0])
    assert spec.image_fields == ("photo",)
    assert [tool["name"] for tool in spec.tools] == ["refund", "stop"]
    assert spec.tools[0]["parameters"]["required"] == ["amount"]
    assert spec.tools[1]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({"tools": [TOOL, TOOL]}, "another tool"),
        ({"tools": [TOOL], "output_schema": {"label": "str"}}, "task with tools"),
        ({"output_schema": {"photo": "image"}}, "is an image"),
        ({"tools": [{"name": "x"}]}, "description"),
        ({"tools": [{**TOOL, "parameters": {"a": "strr"}}]}, "strr"),
        ({"tools": "refund"}, "tools"),
    ],
)
def test_tasks_that_cannot_be_meant_are_refused(task, named):
    with pytest.raises(pydantic.ValidationError, match=named):
        TaskConfig(name="t", description="d", **task)


def test_the_form_of_answers_is_a_schema_whatever_the_tools():
    assert Schema(tool_answer([])).fields == ("tool_calls", "content")
