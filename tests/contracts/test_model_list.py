"""What every provider's model list announces is understood alike; what it does not say is not made up."""

import asyncio
import warnings
from dataclasses import replace

import anthropic
import httpx
import openai
import pytest
from remote_rig import CASES, KEY, KEY_VARIABLE, Case

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # an escape in one of its docstrings, when it is compiled for the first time
    from google import genai
    from google.genai import errors as google_errors

from apprentice.config import ProviderConfig
from apprentice.remote.model_list import GONE, announcement
from apprentice.remote.providers import model_list
from apprentice.testing import Frontier
from apprentice.testing.model_api import PLAIN, Announced
from apprentice_actors.ports import NoticeUnknown

NAMES = ("anthropic", "openai", "google", "openrouter", "compatible")
LISTED = [case for case in CASES if case.name in NAMES]
DATED = [case for case in LISTED if case.name != "google"]
ENDS = "2027-01-31"


def by_name(case: Case) -> str:
    return case.name


def asked(case: Case, transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    url = f"http://frontier.test{case.path}"
    config = ProviderConfig(provider=case.provider, model=case.model, base_url=url, api_key_env=KEY_VARIABLE)
    return model_list(config, case.price, transport=transport)


async def notice(case: Case, announced: Announced, monkeypatch: pytest.MonkeyPatch) -> str | None:
    frontier = Frontier(answer=lambda given: given)
    frontier.announced = {case.model: announced, "another-model": PLAIN}
    found = await asked(case, frontier.transport(), monkeypatch).notice()
    assert (frontier.looks, frontier.calls) == (1, [])
    return found


@pytest.mark.parametrize("case", LISTED, ids=by_name)
async def test_a_model_that_stays_has_no_notice(case, monkeypatch):
    assert await notice(case, PLAIN, monkeypatch) is None


@pytest.mark.parametrize("case", DATED, ids=by_name)
async def test_an_announced_end_is_told_with_its_date(case, monkeypatch):
    assert await notice(case, Announced(shutdown_date=ENDS), monkeypatch) == f"will be shut down on {ENDS}"


@pytest.mark.parametrize("case", LISTED, ids=by_name)
async def test_a_model_that_is_gone_is_noticed(case, monkeypatch):
    assert await notice(case, Announced(gone=True), monkeypatch) == GONE


async def test_a_deprecation_without_an_end_is_told(monkeypatch):
    told = await notice(LISTED[0], Announced(deprecated_on="2026-11-01"), monkeypatch)
    assert told == "is deprecated since 2026-11-01; no date of its end is given yet"


@pytest.mark.parametrize("case", LISTED, ids=by_name)
@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b"{}"), (401, b'{"error":{"type":"x"}}'), (404, b"<html>not here</html>"), (404, b'{"error":{"code":"x"}}')],
)
async def test_what_is_not_the_vendors_word_is_unknown(case, status, body, monkeypatch):
    transport = httpx.MockTransport(lambda request: httpx.Response(status, content=body))
    with pytest.raises(NoticeUnknown, match=f"status {status}"):
        await asked(case, transport, monkeypatch).notice()


@pytest.mark.parametrize("case", LISTED, ids=by_name)
async def test_an_unreachable_list_is_unknown_and_no_key_is_told(case, monkeypatch):
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"no way to {request.headers}")

    with pytest.raises(NoticeUnknown) as caught:
        await asked(case, httpx.MockTransport(fail), monkeypatch).notice()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"\xff", b"{}", b'{"data":[1,"x",null]}', b'{"data":{}}'])
async def test_an_unreadable_list_is_unknown_or_says_nothing(body, monkeypatch):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    for case in LISTED:
        found = asked(case, transport, monkeypatch)
        if case.name == "openrouter":
            with pytest.raises(NoticeUnknown, match="empty or no list"):
                await found.notice()
        else:
            assert await found.notice() is None


async def test_a_variant_of_a_routed_model_is_found_under_its_plain_name(monkeypatch):
    case = next(case for case in LISTED if case.name == "openrouter")
    frontier = Frontier(answer=lambda given: given)
    frontier.announced = {case.model: Announced(shutdown_date=ENDS)}
    variant = replace(case, model=f"{case.model}:nitro")
    assert await asked(variant, frontier.transport(), monkeypatch).notice() == f"will be shut down on {ENDS}"


def test_azure_has_no_list_that_tells(monkeypatch):
    case = next(case for case in CASES if case.name == "azure")
    assert asked(case, httpx.MockTransport(lambda request: httpx.Response(500)), monkeypatch) is None


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"lifecycle": "retired", "retires_at": "2026-01-05T00:00:00Z"}, "was retired on 2026-01-05"),
        ({"lifecycle": "retired"}, "was retired"),
        ({"expiration_date": ENDS}, f"will be shut down on {ENDS}"),
        ({"shutdown_date": None, "lifecycle": "active"}, None),
        ({"shutdown_date": "soon", "lifecycle": 7}, None),
    ],
)
def test_entries_in_words(entry, told):
    assert announcement(entry) == told


async def test_the_vendors_own_clients_read_the_simulated_lists():
    async with Frontier(answer=lambda given: given) as frontier:
        frontier.announced = {"ending": Announced(shutdown_date=ENDS), "gone": Announced(gone=True)}
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=frontier.url, max_retries=0) as claude:
            told = await claude.models.retrieve("ending")
            assert (told.lifecycle, told.retires_at.date().isoformat()) == ("deprecated", ENDS)
            assert (await claude.models.retrieve("staying")).lifecycle == "active"
            with pytest.raises(anthropic.NotFoundError):
                await claude.models.retrieve("gone")
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{frontier.url}/v1", max_retries=0) as gpt:
            assert (await gpt.models.retrieve("ending")).shutdown_date == ENDS
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                await gpt.models.retrieve("gone")
        options = {"base_url": frontier.url, "api_version": "v1beta"}
        with genai.Client(api_key=KEY, http_options=options) as gemini:
            assert (await gemini.aio.models.get(model="staying")).name == "models/staying"
            with pytest.raises(google_errors.ClientError) as caught:
                await gemini.aio.models.get(model="gone")
            assert caught.value.code == 404
            await gemini.aio.aclose()
        await asyncio.sleep(0)
