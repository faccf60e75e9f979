"""Fixtures of the contract suites of the remote side: every provider of the registry, one after the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from remote_rig import CASES, KEY, KEY_VARIABLE, OUTPUT, Case, JumpingClock, Rig, build

from apprentice.remote import RateLimiter
from apprentice.testing import Frontier


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request, monkeypatch) -> Case:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return request.param


@pytest.fixture
def open_rig(case):
    @asynccontextmanager
    async def opened(answer=lambda asked: OUTPUT, *, max_concurrent: int = 64, **options) -> AsyncIterator[Rig]:
        clock = JumpingClock()
        limiter = RateLimiter(clock, max_concurrent=max_concurrent)
        frontier = Frontier(answer, clock=clock, price=case.price, api_key=KEY, **options)
        if case.in_memory:
            async with httpx.AsyncClient(transport=frontier.transport()) as client:
                yield Rig(build(case, "http://frontier.invalid", clock, limiter, client), frontier, clock, limiter)
        else:
            async with frontier, httpx.AsyncClient(trust_env=False) as client:
                yield Rig(build(case, frontier.url, clock, limiter, client), frontier, clock, limiter)

    return opened
