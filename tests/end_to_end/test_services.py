"""A service asks for its own tokens, a thousand coroutines at a time, while the authority is up, down and between."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from aiomsal import (
    Assertion,
    AuthorityError,
    AuthorityUnavailable,
    Certificate,
    InvalidClient,
    Throttled,
    TokenManager,
)
from aiomsal.testing import EntraError, FederatedCredential

from .support import GRAPH, VAULT, Caller, arrived, crowd, landed, one_token, settle, until

if TYPE_CHECKING:
    from pathlib import Path

    from aiomsal.testing import ClientCertificate

    from .support import House

pytestmark = pytest.mark.anyio

TOKEN = "token.client_credentials"
EXCHANGE = "api://AzureADTokenExchange/.default"
CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1700000000"}}}'

# -- one request, whatever the credential ----------------------------------------------------------------------------


def made_by(kind: str, house: House, certificate: ClientCertificate, directory: Path) -> TokenManager:
    """A manager that proves itself in some way, and everything that way needs."""
    if kind == "secret":
        return house.service()
    if kind in ("PEM text", "PEM file", "PFX file"):
        app = house.entra.add_application(certificates=[certificate.certificate])
        pem = certificate.private_key + certificate.certificate
        key: Any = serialization.load_pem_private_key(certificate.private_key.encode(), None)
        own = x509.load_pem_x509_certificate(certificate.certificate.encode())
        locked = serialization.BestAvailableEncryption(b"the password")
        (directory / "app.pem").write_text(pem)
        (directory / "app.pfx").write_bytes(pkcs12.serialize_key_and_certificates(b"app", key, own, None, locked))
        credential = {
            "PEM text": Certificate(pem),
            "PEM file": Certificate(directory / "app.pem", send_chain=True),
            "PFX file": Certificate(directory / "app.pfx", password="the password"),
        }[kind]
        return house.service(credential, app=app)
    if kind == "token source":
        worker = house.entra.add_application()
        issuer = f"{house.server.authority()}/v2.0"
        app = house.entra.add_application(federated=[FederatedCredential(issuer, worker.object_id)])
        return house.service(Assertion(house.service(app=worker).source(EXCHANGE)), app=app)
    trust = FederatedCredential("https://ci.example", "repo:ours", public_key=certificate.public_key)
    app = house.entra.add_application(federated=[trust])
    claims = {"iss": trust.issuer, "sub": trust.subject, "aud": trust.audience, "exp": time.time() + 60}
    signed = jwt.encode(claims, certificate.private_key, algorithm="RS256")

    async def sign() -> str:
        await anyio.lowlevel.checkpoint()
        return signed

    source: Any = {"string": signed, "callable": lambda: signed, "async callable": sign}[kind]
    return house.service(Assertion(source), app=app)


@pytest.mark.parametrize(
    "kind",
    ["secret", "PEM text", "PEM file", "PFX file", "string", "callable", "async callable", "token source"],
)
async def test_a_thousand_cold_callers_make_one_token_request(
    kind: str, house: House, certificate: ClientCertificate, tmp_path: Path
) -> None:
    tokens = made_by(kind, house, certificate, tmp_path)
    token = one_token(await crowd(1000, tokens.get, GRAPH))
    assert token.expires_at == house.clock() + 3600
    others = 1 if kind == "token source" else 0  # the other manager's own
    assert house.entra.count("token") == 1 + others
    assert house.entra.count("discovery") == 1 + others
    assert tokens.stats().acquired == 1
    assert (await tokens.get(GRAPH)).value == token.value
    assert house.entra.count() == 2 * (1 + others)


async def test_five_hundred_callers_of_five_keys_make_five_requests(house: House) -> None:
    tokens = house.service()
    scopes = [f"api://resource-{number}/.default" for number in range(5)]
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, scope) for _ in range(100) for scope in scopes]
    assert len({caller.token.value for caller in callers}) == 5
    assert (house.entra.count(TOKEN), house.entra.count("discovery")) == (5, 1)


# -- the first caller leaves -----------------------------------------------------------------------------------------


async def by_cancel(call: Any) -> None:
    task = asyncio.ensure_future(call)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    await task


async def by_wait_for(call: Any) -> None:
    await asyncio.wait_for(call, 0.01)


async def by_timeout(call: Any) -> None:
    async with asyncio.timeout(0.01):
        await call


async def by_scope(call: Any) -> None:
    with anyio.fail_after(0.01):
        await call


@pytest.mark.asyncio
@pytest.mark.parametrize("leave", [by_cancel, by_wait_for, by_timeout, by_scope])
@pytest.mark.parametrize("others", [0, 100])
async def test_a_leader_who_leaves_changes_nothing_for_the_others(leave: Any, others: int, house: House) -> None:
    tokens = house.service()
    with house.entra.hold(TOKEN) as gate:
        leader = asyncio.ensure_future(leave(tokens.get(GRAPH)))
        await asyncio.sleep(0)
        rest = [asyncio.ensure_future(tokens.get(GRAPH)) for _ in range(others)]
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await leader
        await arrived(gate)
        assert not any(task.done() for task in rest)
    outcomes = await asyncio.gather(*rest)
    await landed(tokens)
    outcomes.append(await tokens.get(GRAPH))
    one_token(outcomes)
    assert house.entra.count(TOKEN) == 1


# -- the authority fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "requests"),
    [
        ({"error": EntraError(7000215)}, InvalidClient, 1),
        ({"error": EntraError(70011)}, AuthorityError, 1),
        ({"error": EntraError(50076)}, AuthorityError, 1),
        ({"status": 400}, AuthorityUnavailable, 1),
        ({"garbage": True}, AuthorityUnavailable, 1),
        ({"status": 503}, AuthorityUnavailable, 3),
        ({"status": 500}, AuthorityUnavailable, 3),
        ({"reset": True}, AuthorityUnavailable, 3),
        ({"status": 429, "retry_after": 3600}, Throttled, 1),
        ({"status": 503, "retry_after": 3600}, Throttled, 1),
    ],
    ids=str,
)
async def test_all_aboard_share_one_flight_s_failure(
    fault: dict[str, Any], kind: type[AuthorityError], requests: int, house: House
) -> None:
    tokens = house.service()
    house.entra.fault("token", **fault)
    outcomes = await crowd(200, tokens.get, GRAPH)
    assert {type(outcome) for outcome in outcomes} == {kind}
    assert len({id(outcome) for outcome in outcomes}) == 200, "each has an exception of their own"
    assert house.entra.count("token") == requests
    assert (tokens.stats().failed, tokens.stats().refresh_failed, tokens.stats().tokens) == (1, 0, 0)


@pytest.mark.parametrize("fault", [{"status": 503}, {"reset": True}], ids=str)
async def test_a_failure_is_not_remembered_and_the_next_call_works(fault: dict[str, Any], house: House) -> None:
    tokens = house.service()
    house.entra.fault("token", times=3, **fault)
    with pytest.raises(AuthorityUnavailable):
        await tokens.get(GRAPH)
    one_token(await crowd(50, tokens.get, GRAPH))
    assert house.entra.count("token") == 4


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 504}, {"reset": True}], ids=str)
async def test_two_failures_are_made_good_by_the_same_flight(fault: dict[str, Any], house: House) -> None:
    tokens = house.service()
    house.entra.fault("token", times=2, **fault)
    one_token(await crowd(50, tokens.get, GRAPH))
    assert house.entra.count("token") == 3
    assert house.slept == [0.5, 1.0]


async def test_an_authority_that_is_down_at_the_first_call_is_found_when_it_is_back(house: House) -> None:
    tokens = house.service()
    house.entra.fault("discovery", reset=True)
    outcomes = await crowd(100, tokens.get, GRAPH)
    assert {type(outcome) for outcome in outcomes} == {AuthorityUnavailable}
    assert (house.entra.count("discovery"), house.entra.count("token")) == (3, 0)
    house.entra.clear_faults()
    one_token(await crowd(100, tokens.get, GRAPH))
    assert (house.entra.count("discovery"), house.entra.count("token")) == (4, 1)


async def test_a_short_retry_after_is_waited_for_by_the_flight(house: House) -> None:
    tokens = house.service()
    house.entra.fault("token", times=1, status=429, retry_after=7)
    one_token(await crowd(100, tokens.get, GRAPH))
    assert house.entra.count("token") == 2
    assert sum(house.slept) >= 7


async def test_a_long_retry_after_holds_for_the_whole_client_and_names_the_wait(house: House) -> None:
    tokens = house.service()
    held = await tokens.get(VAULT)
    house.entra.fault("token", times=1, status=429, retry_after=600)
    for scope in (GRAPH, GRAPH, "api://other/.default"):
        with pytest.raises(Throttled) as caught:
            await tokens.get(scope)
        assert 590 < caught.value.retry_after <= 600
    assert house.entra.count("token") == 2
    assert (await tokens.get(VAULT)).value == held.value


async def test_the_breaker_opens_at_the_fifth_strike_and_lets_one_probe_through(house: House) -> None:
    tokens = house.service()
    house.entra.fault("token", reset=True)
    counts = []
    for _ in range(4):
        outcomes = await crowd(20, tokens.get, GRAPH)
        assert {type(outcome) for outcome in outcomes} == {AuthorityUnavailable}
        counts.append(house.entra.count("token"))
    assert counts == [3, 5, 5, 5]
    house.entra.clear_faults()
    house.slept.append(5.0)  # the clock of the gate
    one_token(await crowd(20, tokens.get, GRAPH))
    assert house.entra.count("token") == 6


async def test_passengers_of_a_request_that_hangs_are_let_go(house: House) -> None:
    tokens = house.service(acquire_timeout=0.2)
    house.entra.fault("token", times=1, hang=True)
    outcomes = await crowd(50, tokens.get, GRAPH)
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(AuthorityUnavailable, "timeout")}
    assert (house.entra.count("token"), tokens.stats().flights) == (1, 0)
    house.entra.clear_faults()
    await until(lambda: tokens.stats().tokens == 1)  # its answer came late, and is not thrown away
    one_token(await crowd(50, tokens.get, GRAPH))
    assert house.entra.count("token") == 1


async def test_the_http_timeout_ends_a_request_that_hangs(house: House) -> None:
    tokens = house.service(timeout=(5.0, 0.1))
    house.entra.fault("token", hang=True)
    outcomes = await crowd(50, tokens.get, GRAPH)
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(AuthorityUnavailable, "unreachable")}
    assert house.entra.count("token") == 3


# -- the authority is down while tokens live on ----------------------------------------------------------------------


async def test_everybody_is_served_to_the_last_usable_second_while_the_authority_is_down(house: House) -> None:
    tokens = house.service()
    token = await tokens.get(GRAPH)
    house.entra.fault("token", status=503)
    last = token.expires_at - 30
    house.clock.set(token.expires_at - 300)
    rounds = 0
    while house.clock() < last:
        one_token([*(await crowd(100, tokens.get, GRAPH)), token])
        await landed(tokens)
        rounds += 1
        assert tokens.stats().refresh_failed == rounds
        assert house.entra.count("token") == 1 + 3 * rounds
        house.clock.advance(31)
    assert rounds == 9
    house.clock.set(last - 0.001)
    assert (await tokens.get(GRAPH)).value == token.value
    await landed(tokens)
    failed = tokens.stats().failed
    house.clock.set(last)
    outcomes = await crowd(100, tokens.get, GRAPH)
    assert {type(outcome) for outcome in outcomes} == {AuthorityUnavailable}
    assert tokens.stats().failed == failed + 1
    house.entra.clear_faults()
    assert one_token(await crowd(100, tokens.get, GRAPH)).value != token.value


async def test_a_thousand_callers_past_refresh_at_wait_for_nothing_and_one_request_goes_out(house: House) -> None:
    house.entra.configure(refresh_in=1800)
    tokens = house.service()
    old = await tokens.get(GRAPH)
    house.clock.advance(1800)
    with house.entra.hold(TOKEN) as gate:
        for _ in range(1000):
            call = tokens.get(GRAPH)
            with pytest.raises(StopIteration) as returned:  # it did not suspend
                call.send(None)
            assert returned.value.value.value == old.value
        await arrived(gate)
        assert (tokens.stats().flights, gate.waiting) == (1, 1)
    await landed(tokens)
    assert house.entra.count("token") == 2
    assert one_token(await crowd(100, tokens.get, GRAPH)).value != old.value
    assert house.entra.count("token") == 2


async def test_a_refresh_that_hangs_keeps_nobody_waiting(house: House) -> None:
    tokens = house.service(timeout=(5.0, 0.2))
    old = await tokens.get(GRAPH)
    house.clock.advance(3400)
    house.entra.fault("token", hang=True)
    one_token([*(await crowd(500, tokens.get, GRAPH)), old])
    await until(lambda: tokens.stats().refresh_failed == 1)
    assert house.entra.count("token") == 4


# -- a resource says no ----------------------------------------------------------------------------------------------


async def test_fifty_callers_whose_token_was_rejected_make_one_request(house: House) -> None:
    tokens = house.service()
    old = await tokens.get(GRAPH)
    new = one_token(await crowd(50, tokens.get, GRAPH, rejected=old))
    assert new.value != old.value
    assert house.entra.count("token") == 2
    late = await tokens.get(GRAPH, rejected=old)  # its 401 came after the others had seen to it
    assert late.value == new.value
    assert house.entra.count("token") == 2


async def test_a_rejected_token_serves_nobody_who_rejects_it_even_if_the_authority_fails(house: House) -> None:
    tokens = house.service()
    old = await tokens.get(GRAPH)
    house.entra.fault("token", status=503)
    outcomes = await crowd(50, tokens.get, GRAPH, rejected=old)
    assert {type(outcome) for outcome in outcomes} == {AuthorityUnavailable}
    assert house.entra.count("token") == 4
    assert (await tokens.get(GRAPH)).value == old.value


async def test_a_claims_challenge_goes_over_the_wire_once_and_its_token_replaces_the_plain_one(house: House) -> None:
    tokens = house.service()
    plain = await tokens.get(GRAPH)
    challenged = one_token(await crowd(50, tokens.get, GRAPH, claims=CLAIMS))
    assert challenged.value != plain.value
    assert house.entra.count("token") == 2
    assert json.loads(house.entra.requests[-1].claims) == json.loads(CLAIMS)
    assert not house.entra.requests[-2].claims
    assert (await tokens.get(GRAPH)).value == challenged.value
    assert (await tokens.get(GRAPH, claims=CLAIMS)).value == challenged.value
    again = one_token(await crowd(50, tokens.get, GRAPH, claims=CLAIMS, rejected=challenged))
    assert again.value != challenged.value
    assert house.entra.count("token") == 3


async def test_a_plain_refresh_that_left_before_a_challenge_does_not_overwrite_its_token(house: House) -> None:
    tokens = house.service()
    await tokens.get(GRAPH)
    house.clock.advance(3400)
    with house.entra.hold(TOKEN, match=lambda record: not record.claims) as gate:
        await tokens.get(GRAPH)  # stale: a refresh leaves
        await arrived(gate)
        challenged = await tokens.get(GRAPH, claims=CLAIMS)
    await landed(tokens)
    await settle()
    assert house.entra.count("token") == 3
    assert (await tokens.get(GRAPH)).value == challenged.value
