"""What every remote model does with schemas, images, tools, service tiers and the counts of its provider's cache."""

from math import ceil

import pytest
from remote_rig import OUTPUT, SCHEMA, Rig, question

from apprentice.testing import Reply
from apprentice_actors.ports import Question, RemoteFailure
from apprentice_events.vocabulary import TokenUsage


async def test_cache_reads_and_writes_have_their_own_prices(open_rig, case):
    reply = Reply(
        output=OUTPUT,
        input_tokens=10,
        output_tokens=5,
        cache_read_tokens=1_000,
        cache_write_tokens=300,
        cache_write_1h_tokens=100,
        reasoning_tokens=2,
    )
    async with open_rig(lambda asked: reply) as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
    written, long = (300 if case.tells_writes else 0), (100 if case.tells_retention else 0)
    assert answer.usage == TokenUsage(
        input_tokens=310 - written,
        output_tokens=5,
        cache_read_tokens=1_000,
        cache_write_tokens=written,
        reasoning_tokens=2,
    )
    rates = case.price.rates
    exact = (310 - written) * rates.input + 5 * rates.output + 1_000 * rates.cache_read
    exact += (written - long) * rates.cache_write_5m + long * rates.cache_write_1h
    assert answer.cost_nd == ceil(exact * 1_000)


async def test_a_field_that_may_be_left_out_may_come_as_null(open_rig):
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "note": {"type": "string"}}}
    asked = Question(task="classify", input={}, output_schema=schema)
    async with open_rig(lambda asked: {**OUTPUT, "note": None}) as rig:
        assert (await rig.model.answer(asked, timeout_s=30)).output == OUTPUT


async def test_a_schema_that_cannot_be_enforced_is_not_sent_as_a_rule(open_rig):
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    async with open_rig(lambda asked: {"a": 1}) as rig:
        answer = await rig.model.answer(Question(task="t", input={}, output_schema=free), timeout_s=30)
        assert answer.output == {"a": 1}


async def test_nested_optional_and_constant_fields_pass_the_providers_checks(open_rig):
    inner = {"type": "object", "properties": {"kind": {"const": "a"}, "size": {"type": ["integer", "null"]}}}
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": inner}}, "required": ["items"]}
    output = {"items": [{"kind": "a", "size": None}]}
    async with open_rig(lambda asked: output) as rig:
        answer = await rig.model.answer(Question(task="t", input={}, output_schema=schema), timeout_s=30)
        assert answer.output == output


@pytest.mark.parametrize(
    "image",
    ["data:image/png;base64,AAAA", "https://pictures.example/a.png", {"media_type": "image/jpeg", "data": "AAAA"}],
)
async def test_images_travel_beside_the_text_and_are_set_aside_for(open_rig, image):
    text = Question(task="t", input={"pages": [{"scan": "none"}], "text": "x"}, image_fields=())
    asked = Question(task="t", input={"pages": [{"scan": image}], "text": "x"}, image_fields=("pages[].scan", "gone"))
    async with open_rig() as rig:
        assert (await rig.model.answer(asked, timeout_s=30)).output == OUTPUT
        assert rig.frontier.calls[0].images == 1
        assert rig.frontier.calls[0].input == {"pages": [{"scan": "(image 1)"}], "text": "x"}
        assert rig.model.quote_nd(asked) > rig.model.quote_nd(text) + thousand_tokens_nd(rig)


def thousand_tokens_nd(rig: Rig) -> int:
    """What a thousand tokens of input cost: any image may count that many."""
    return rig.model.price.bound_nd(1_000, 0)


async def test_what_is_no_image_is_refused_without_being_quoted(open_rig):
    async with open_rig() as rig:
        with pytest.raises(RemoteFailure, match="photo is no image") as caught:
            await rig.model.answer(
                Question(task="t", input={"photo": "private"}, image_fields=("photo",)), timeout_s=30
            )
        assert (caught.value.kind, caught.value.cost_nd, rig.frontier.calls) == ("bad_request", 0, [])
        assert "private" not in str(caught.value)


TOOL = {
    "name": "refund",
    "description": "Pay back.",
    "parameters": {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]},
}
CALLS = {"tool_calls": [{"name": "refund", "arguments": {"amount": 2.5}}]}


@pytest.mark.parametrize("output", [CALLS, {"content": "There is nothing to pay back."}])
async def test_with_tools_the_answer_is_calls_or_text(open_rig, output):
    asked = Question(task="t", input={"text": "x"}, tools=(TOOL,), output_schema=SCHEMA)
    async with open_rig(lambda asked: output) as rig:
        assert (await rig.model.answer(asked, timeout_s=30)).output == output


async def test_a_tool_that_was_not_offered_is_no_answer(open_rig):
    asked = Question(task="t", input={"text": "x"}, tools=(TOOL,))
    unknown = {"tool_calls": [{"name": "delete_everything", "arguments": {}}]}
    async with open_rig(lambda asked: unknown) as rig:
        with pytest.raises(RemoteFailure, match="not offered") as caught:
            await rig.model.answer(asked, timeout_s=30)
        assert (caught.value.kind, caught.value.cost_nd) == ("invalid", rig.frontier.billed_nd)


@pytest.mark.parametrize("tier", ["flex", "priority", "default", "never-heard-of"])
async def test_the_tier_that_answered_decides_the_price(open_rig, case, tier):
    reply = Reply(output=OUTPUT, input_tokens=1_000, output_tokens=100, service_tier=tier)
    async with open_rig(lambda asked: reply) as rig:
        answer = await rig.model.answer(question(), timeout_s=30)
        assert answer.cost_nd == rig.frontier.billed_nd <= rig.model.quote_nd(question()) * 100
    standard = [case.price.rates]
    known = {"default": standard, **{name: [each.rates] for name, each in case.price.tiers.items()}}
    possible = known.get(tier, standard + [each.rates for each in case.price.tiers.values()])
    assert answer.cost_nd == max(ceil((1_000 * rates.input + 100 * rates.output) * 1_000) for rates in possible)
