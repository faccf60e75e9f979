"""Clients are lent by load, made as needed, and closed by whoever made them."""

from contextlib import ExitStack

import httpx

from apprentice.remote.clients import CLIENTS_MAX, ClientPool


async def test_calls_in_turn_share_one_client():
    pool = ClientPool()
    seen = set()
    for _ in range(5):
        with pool.lend() as client:
            seen.add(client)
    assert len(seen) == pool.clients == 1
    await pool.aclose()


async def test_calls_at_once_are_spread_evenly_and_over_no_more_than_the_limit():
    pool = ClientPool()
    with ExitStack() as calls:
        lent = [calls.enter_context(pool.lend()) for _ in range(3 * CLIENTS_MAX)]
    assert pool.clients == CLIENTS_MAX
    assert {lent.count(client) for client in lent} == {3}
    await pool.aclose()


async def test_a_client_comes_free_when_its_call_fails():
    pool = ClientPool()
    try:
        with pool.lend() as first:
            raise httpx.ReadError("cut")
    except httpx.ReadError:
        pass
    with pool.lend() as second:
        assert second is first
    await pool.aclose()


async def test_closing_closes_every_client_made_here():
    pool = ClientPool()
    with pool.lend() as one, pool.lend() as two:
        assert one is not two
    await pool.aclose()
    assert one.is_closed
    assert two.is_closed


async def test_a_client_from_outside_is_the_only_one_and_stays_open():
    async with httpx.AsyncClient() as client:
        pool = ClientPool(client)
        with pool.lend() as one, pool.lend() as two:
            assert one is two is client
        await pool.aclose()
        assert not client.is_closed
    assert pool.clients == 1


async def test_where_nothing_is_encrypted_no_certificates_are_read(monkeypatch):
    asked = []
    make = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda verify: asked.append(verify) or make(verify=verify))
    for encrypted in (True, False):
        pool = ClientPool(encrypted=encrypted)
        with pool.lend():
            pass
        await pool.aclose()
    assert asked == [True, False]
