"""A service asks for its own tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import AuthorityError, AuthorityUnavailable, InvalidClient, Throttled
from aiomsal._token import decode_claims
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.testing import EntraError

from .helpers import GRAPH, Listening, acquire, confidential, first

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeClock, FakeEntra

pytestmark = pytest.mark.anyio


async def test_a_secret_gets_a_token_that_says_all_there_is_to_say(
    fake_clock: FakeClock, fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service, clock=fake_clock)
    acquired = await acquire(client, GRAPH)
    token = acquired.token
    assert decode_claims(token.value)["appid"] == service.client_id
    assert token.expires_at == fake_clock() + 3600
    assert token.refresh_at == token.expires_at, "the authority gave no advice"
    assert token.obtained_at == fake_clock()
    assert token.token_type == "Bearer"
    assert token.scopes == (GRAPH,)
    assert token.tenant_id == fake_entra.tenant_id
    assert token.account is None
    assert acquired.session is None
    assert fake_entra.requests[-1].headers["client-request-id"] == token.correlation_id


async def test_the_authority_s_advice_when_to_refresh_is_taken(
    fake_clock: FakeClock, fake_entra: FakeEntra, service: Application
) -> None:
    fake_entra.configure(refresh_in=1800)
    token = (await acquire(confidential(fake_entra, service, clock=fake_clock), GRAPH)).token
    assert token.refresh_at == fake_clock() + 1800


async def test_each_acquisition_asks_the_authority_and_discovery_is_asked_once(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service)
    values = {(await acquire(client, GRAPH)).token.value for _ in range(3)}
    assert len(values) == 3
    assert fake_entra.count("token") == 3
    assert fake_entra.count("discovery") == 1


async def test_many_who_come_first_build_msal_s_application_once(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service)
    with fake_entra.hold("discovery") as gate:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(acquire, client, GRAPH)
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            gate.release()
    assert fake_entra.count("discovery") == 1
    assert fake_entra.count("token") == 20


async def test_a_failed_building_is_not_remembered(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service)
    fake_entra.fault("discovery", status=503, times=3)
    with pytest.raises(AuthorityUnavailable) as caught:
        await acquire(client, GRAPH)
    assert caught.value.status == 503
    assert fake_entra.count("discovery") == 3
    assert (await acquire(client, GRAPH)).token


async def test_claims_and_capabilities_reach_the_wire_together(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service, client_capabilities=["CP1"])
    await acquire(client, GRAPH, claims='{"access_token": {"nbf": {"essential": true, "value": "1"}}}')
    sent = json.loads(fake_entra.requests[-1].claims)["access_token"]
    assert sent["xms_cc"] == {"values": ["CP1"]}
    assert sent["nbf"]["value"] == "1"


async def test_a_wrong_secret_is_an_invalid_client_asked_once(fake_entra: FakeEntra, service: Application) -> None:
    with pytest.raises(InvalidClient) as caught:
        await acquire(confidential(fake_entra, service, "not-the-secret"), GRAPH)
    error = caught.value
    assert error.code == "invalid_client"
    assert error.error_codes == (7000215,)
    assert error.correlation_id == fake_entra.requests[-1].headers["client-request-id"]
    assert error.trace_id
    assert error.response["error_codes"] == [7000215]
    assert fake_entra.count("token") == 1
    assert fake_entra.count("instance_discovery") == 0, "nobody else is asked after a refusal"


async def test_an_unknown_tenant_is_told_with_the_authority_s_own_words(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service, tenant="nowhere.example")
    with pytest.raises(AuthorityError, match=r"nowhere\.example") as caught:
        await acquire(client, GRAPH)
    assert caught.value.error_codes == (90002,)
    assert fake_entra.count() == 1


async def test_nobody_can_sign_an_application_in_so_it_is_never_asked_to(
    fake_entra: FakeEntra, service: Application
) -> None:
    fake_entra.fault("token", error=EntraError(53003, claims='{"access_token": {}}'))
    with pytest.raises(AuthorityError) as caught:
        await acquire(confidential(fake_entra, service), GRAPH)
    assert type(caught.value) is AuthorityError
    assert caught.value.claims == '{"access_token": {}}'


class Nowhere(Listening):
    """A machine that does not know its region."""

    def get(self, url: str, **options: Any) -> Any:
        response = super().get(url, **options)
        if "169.254" in url:
            raise ConnectionError("no such machine")
        return response


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"status": 408}, {"reset": True}], ids=str)
async def test_a_passing_failure_is_retried(fault: dict[str, Any], fake_entra: FakeEntra, service: Application) -> None:
    fake_entra.fault("token", times=2, **fault)
    assert (await acquire(confidential(fake_entra, service), GRAPH)).token
    assert fake_entra.count("token") == 3


@pytest.mark.parametrize(
    ("fault", "status"), [({"status": 500}, 500), ({"status": 408}, 408), ({"reset": True}, None)], ids=str
)
async def test_a_failure_that_stays_is_told_after_three_attempts(
    fault: dict[str, Any], status: int | None, fake_entra: FakeEntra, service: Application
) -> None:
    fake_entra.fault("token", **fault)
    with pytest.raises(AuthorityUnavailable) as caught:
        await acquire(confidential(fake_entra, service), GRAPH)
    assert caught.value.status == status
    assert fake_entra.count("token") == 3


@pytest.mark.parametrize(("fault", "status"), [({"status": 400}, 400), ({"garbage": True}, 200)], ids=str)
async def test_an_answer_nobody_can_use_is_told_after_one(
    fault: dict[str, Any], status: int, fake_entra: FakeEntra, service: Application
) -> None:
    fake_entra.fault("token", **fault)
    with pytest.raises(AuthorityUnavailable) as caught:
        await acquire(confidential(fake_entra, service), GRAPH)
    assert caught.value.status == status
    assert fake_entra.count("token") == 1


async def test_a_discovery_nobody_can_use_is_told_after_one(fake_entra: FakeEntra, service: Application) -> None:
    fake_entra.fault("discovery", garbage=True)
    with pytest.raises(AuthorityUnavailable):
        await acquire(confidential(fake_entra, service), GRAPH)
    assert fake_entra.count("discovery") == 1


async def test_no_answer_within_the_timeout_is_an_outage(fake_entra: FakeEntra, service: Application) -> None:
    fake_entra.fault("token", hang=True)
    client = confidential(fake_entra, service, http_client=fake_entra.http_client(timeout=0.05))
    with pytest.raises(AuthorityUnavailable, match="did not answer"):
        await acquire(client, GRAPH)
    assert fake_entra.count("token") == 3


async def test_patience_beyond_the_deadline_fails_at_once_and_holds_back_the_next(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service)
    fake_entra.fault("token", status=429, retry_after=100, times=1)
    with pytest.raises(Throttled) as caught:
        await acquire(client, GRAPH)
    assert 99 < caught.value.retry_after <= 100
    with pytest.raises(Throttled):
        await acquire(client, "https://vault.azure.net/.default")
    assert fake_entra.count("token") == 1


async def test_a_500_holds_back_nobody_else(fake_entra: FakeEntra, service: Application) -> None:
    client = confidential(fake_entra, service)
    fake_entra.fault("token", status=500, match=lambda record: record.scope == GRAPH)
    for _ in range(5):
        with pytest.raises(AuthorityUnavailable):
            await acquire(client, GRAPH)
    assert (await acquire(client, "https://vault.azure.net/.default")).token


async def test_the_breaker_opens_after_five_requests_in_a_row_that_find_nobody(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = confidential(fake_entra, service)
    await acquire(client, GRAPH)
    fake_entra.fault("token", reset=True)
    for _ in range(2):
        with pytest.raises(AuthorityUnavailable):
            await acquire(client, GRAPH)
    asked = fake_entra.count("token")
    assert asked == 1 + 5, "the sixth was refused before it left"
    with pytest.raises(AuthorityUnavailable, match=r"left alone for \d"):
        await acquire(client, GRAPH)
    assert fake_entra.count("token") == asked


async def test_an_oidc_authority_is_found_by_its_own_discovery(fake_entra: FakeEntra, service: Application) -> None:
    authority, http_client = f"https://id.example/{fake_entra.tenant_id}/v2.0", Listening(fake_entra)
    await acquire(confidential(fake_entra, service, oidc_authority=authority, http_client=http_client), GRAPH)
    assert http_client.urls[0] == f"{authority}/.well-known/openid-configuration"


async def test_a_region_is_asked_instead_of_the_world(fake_entra: FakeEntra, service: Application) -> None:
    http_client = Listening(fake_entra)
    await acquire(confidential(fake_entra, service, azure_region="westeurope", http_client=http_client), GRAPH)
    assert http_client.urls[-1].startswith("https://westeurope.login.microsoft.com/")
    assert not any("169.254" in url for url in http_client.urls), "the machine is asked for its region only if told to"


async def test_the_machine_is_asked_for_its_region_if_told_to(fake_entra: FakeEntra, service: Application) -> None:
    http_client = Nowhere(fake_entra)
    client = confidential(fake_entra, service, azure_region=True, http_client=http_client)
    await client.prepare(client.request((GRAPH,), {}), first())
    assert client._desk.gate._strikes == 0, "the authority was there"
    await acquire(client, GRAPH)
    assert any("169.254" in url for url in http_client.urls)
    assert fake_entra.count("token") == 1, "a machine that does not know its region stops nobody"


async def test_a_host_that_microsoft_does_not_know_is_refused_at_once_with_advice(
    fake_entra: FakeEntra, service: Application
) -> None:
    fake_entra.fault("instance_discovery", error=EntraError(50049, error="invalid_instance"))
    client = confidential(fake_entra, service, authority=f"https://login.example/{fake_entra.tenant_id}")
    with pytest.raises(AuthorityError, match="instance_discovery=False") as caught:
        await acquire(client, GRAPH)
    assert caught.value.code == "invalid_instance"
    assert fake_entra.count() == 1


async def test_without_instance_discovery_an_unknown_host_is_taken_as_it_is(
    fake_entra: FakeEntra, service: Application
) -> None:
    authority = f"https://login.example/{fake_entra.tenant_id}"
    await acquire(confidential(fake_entra, service, authority=authority, instance_discovery=False), GRAPH)
    assert fake_entra.count("instance_discovery") == 0
    await acquire(confidential(fake_entra, service, authority=authority), GRAPH)
    assert fake_entra.count("instance_discovery") == 1


WRONG_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "which tenant"),
    ({"tenant": "t", "authority": "https://h/t"}, ValueError, "authority and tenant"),
    ({"authority": "http://login.microsoftonline.com/t"}, ValueError, "https"),
    ({"authority": "https://login.microsoftonline.com"}, ValueError, "lacks the tenant"),
    ({"authority": "https://login.microsoftonline.com/t/v2.0"}, ValueError, "leave out /v2.0"),
    ({"authority": "https://me:pw@login.microsoftonline.com/t"}, ValueError, "without credentials"),
    ({"authority": "https://h/t", "cloud": "china"}, ValueError, "names its cloud"),
    ({"tenant": "https://h/t"}, ValueError, "GUID or a domain"),
    ({"tenant": "t", "cloud": "mars"}, ValueError, "'public'"),
    ({"tenant": 7}, TypeError, "string"),
    ({"tenant": "t", "client_id": ""}, ValueError, "empty"),
    ({"tenant": "t", "client_id": None}, TypeError, "client_id"),
    ({"tenant": "t", "credential": ""}, ValueError, "empty"),
    ({"tenant": "t", "credential": {"client_assertion": "x"}}, TypeError, "Assertion"),
    ({"tenant": "t", "client_capabilities": "CP1"}, TypeError, r"\[\"CP1\"\]"),
    ({"tenant": "t", "azure_region": "West Europe"}, ValueError, "westeurope"),
    ({"tenant": "t", "threads": 0}, ValueError, "1 or more"),
    ({"tenant": "t", "timeout": -1}, ValueError, "timeout"),
    ({"tenant": "t", "http_client": object()}, TypeError, "get"),
]


@pytest.mark.parametrize(("arguments", "kind", "advice"), WRONG_ARGUMENTS, ids=lambda value: str(value)[:60])
def test_a_wrong_argument_is_refused_by_the_constructor_with_advice(
    arguments: dict[str, Any], kind: type[Exception], advice: str
) -> None:
    given: dict[str, Any] = {"client_id": "app", "credential": "secret", **arguments}
    with pytest.raises(kind, match=advice) as caught:
        ConfidentialClient(**given)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("scopes", "options", "kind", "advice"),
    [
        ((), {}, ValueError, "name at least one scope"),
        ((["a"],), {}, TypeError, "several arguments"),
        (("User.Read",), {}, ValueError, ".default"),
        (("openid",), {}, ValueError, "for users"),
        (("User.Read",), {}, ValueError, "for a user, pass account="),
        (("User.Read",), {"claims": "{}"}, ValueError, "for a user, pass account="),
        (("User.Read",), {"login_hint": "ann@home.example"}, TypeError, "pass account="),
        (("User.Read",), {"account": "a.b", "login_hint": "ann"}, TypeError, "pass account="),
        (("User.Read",), {"account": "ann@home.example"}, ValueError, "home account id"),
        (("openid", "User.Read"), {"account": "a.b"}, ValueError, "leave out openid"),
        ((GRAPH,), {"tenant": "t"}, TypeError, "understands account, claims"),
        ((GRAPH,), {"claims": "{"}, ValueError, "JSON object"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused_before_anything_is_sent(
    scopes: Any, options: dict[str, Any], kind: type[Exception], advice: str
) -> None:
    client = ConfidentialClient("app", "secret", tenant="t")
    with pytest.raises(kind, match=advice):
        client.request(scopes, options)


@pytest.mark.parametrize("tenant", ["common", "organizations", "consumers", "Common"])
def test_an_application_cannot_act_in_whichever_tenant(tenant: str) -> None:
    for where in ({"tenant": tenant}, {"authority": f"https://login.example/{tenant}"}):
        client = ConfidentialClient("app", "secret", **where)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"one tenant.*for a user, pass account="):
            client.request((GRAPH,), {})
        assert client.request(("User.Read",), {"account": "a.b"}).authority.endswith(tenant), "its users may"
    elsewhere = ConfidentialClient("app", "secret", oidc_authority=f"https://login.example/{tenant}")
    assert elsewhere.request(("any",), {}).scopes == ("any",), "to another provider it is a path like any other"


def test_what_is_equal_on_the_wire_is_one_request_and_what_is_not_is_two() -> None:
    client = ConfidentialClient("app", "secret", tenant="t")
    url = "https://login.microsoftonline.com/t"
    other = "https://vault.azure.net/.default"
    assert client.request((other, GRAPH, other), {}) == client.request((GRAPH, other), {})
    same = [
        client.request((GRAPH, GRAPH), {}),
        ConfidentialClient("app", "another secret", authority=f"{url}/").request((GRAPH,), {}),
        ConfidentialClient(
            "app", "secret", authority=url.upper().replace("HTTPS", "https").replace("/T", "/t")
        ).request((GRAPH,), {}),
    ]
    assert len(set(same)) == 1
    others = [
        client.request(("https://vault.azure.net/.default",), {}),
        client.request((GRAPH,), {"claims": '{"access_token": {}}'}),
        ConfidentialClient("app2", "secret", tenant="t").request((GRAPH,), {}),
        ConfidentialClient("app", "secret", tenant="t2").request((GRAPH,), {}),
        ConfidentialClient("app", "secret", tenant="t", cloud="china").request((GRAPH,), {}),
        ConfidentialClient("app", "secret", tenant="t", azure_region="westeurope").request((GRAPH,), {}),
        ConfidentialClient("app", "secret", tenant="t", client_capabilities=["CP1"]).request((GRAPH,), {}),
        ConfidentialClient("app", "secret", oidc_authority=url).request((GRAPH,), {}),
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_an_application_s_own_tokens_have_no_session() -> None:
    client = ConfidentialClient("app", "secret", tenant="t")
    assert client.session_key(client.request((GRAPH,), {})) is None
