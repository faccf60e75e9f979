"""A whole runtime whose student is trained and served by a provider: the simulated frontier, over real connections."""

import asyncio

import pytest

from apprentice.config import loads
from apprentice.runtime import Runtime
from apprentice.testing import Frontier
from apprentice_events import vocabulary as v

CONFIG = """
tasks:
  - name: sort
    description: Sort the ticket
    input_schema: {text: str}
    output_schema: {category: [billing, bug]}
    confidence_thresholds: {phase1_to_phase2: 40}
remote: {provider: openai, model: gpt-4.1, base_url: "URL/v1"}
local:
  backend: openai
  base_model: gpt-4.1-nano
  fine_tune_backend: openai
  model_dir: FOLDER/models
  server: {url: "URL/v1"}
  training: {token_price: 1.50}
storage: {path: FOLDER/log}
"""


def truth(asked):
    return {"category": "bug" if int(asked["text"]) % 2 else "billing"}


@pytest.fixture
async def frontier():
    async with Frontier(truth, tuning_s=0.0) as running:
        yield running


async def test_the_teachers_answers_are_trained_on_at_the_vendor_and_the_student_is_asked_there(
    frontier, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hosted-0123456789")
    config = loads(CONFIG.replace("URL", frontier.url).replace("FOLDER", str(tmp_path)))
    async with Runtime.open(config) as runtime:
        await asyncio.gather(*(runtime.submit("sort", {"text": str(number)}) for number in range(60)))
        await runtime.settled()
        await asyncio.gather(*(runtime.submit("sort", {"text": str(number)}) for number in range(60, 90)))
        await runtime.settled()
        status = runtime.status("sort")
        trained = [one.event() async for one in runtime.records((v.AdapterTrained.TAG,))]
    (job,) = frontier.tuning.jobs.values()
    assert (status.champion, status.phase) == ("sort@v1", "reinforcement")
    assert status.shadow_ran > 0
    assert status.agreement == 1.0
    assert {call.model for call in frontier.calls if call.model} == {"gpt-4.1", job.fine_tuned_model}
    assert [event.cost_nd for event in trained] == [job.tokens * job.epochs * 1500]
    assert (tmp_path / "models" / "sort" / "v1" / "hosted.json").is_file()
    assert frontier.tuning.files == {}
