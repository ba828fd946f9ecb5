"""A web application asks for its users' tokens, each by a session of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from aiomsal import (
    AccountRequired,
    Assertion,
    AuthorityError,
    AuthorityUnavailable,
    Certificate,
    Classification,
    InteractionRequired,
    InvalidClient,
    SignInClient,
    SignInError,
    TokenManager,
    WebSignInClient,
)
from aiomsal._token import decode_claims
from aiomsal.clients._gate import STRIKES
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.testing import EntraError, FederatedCredential

from .helpers import ANN, BEN, GRAPH, REDIRECT_URI, acquire, answer_to, confidential, first, home, public, visited

if TYPE_CHECKING:
    from aiomsal.testing import Application, ClientCertificate, FakeEntra

pytestmark = pytest.mark.anyio


async def test_it_is_what_the_manager_wants_of_a_client_that_knows_people(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    assert isinstance(client, WebSignInClient)
    assert not isinstance(client, SignInClient)  # it cannot open a browser
    with pytest.raises(TypeError, match="begin_sign_in"):
        await TokenManager(client).sign_in("User.Read")
    assert fake_entra.count() == 0


async def test_a_user_s_refresh_token_serves_any_scope_and_rotates(fake_entra: FakeEntra, website: Application) -> None:
    fake_entra.configure(rotation="strict")
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    ann = acquired.token.account
    for scope in ("Mail.Read", "https://vault.azure.net/user_impersonation", "Mail.Read"):
        before = acquired.session
        acquired = await acquire(client, scope, session=before, account=ann)
        assert acquired.session != before
        assert acquired.token.account == ann
        assert acquired.token.value.encode() not in (acquired.session or b"")
        assert scope in acquired.token.scopes
    assert fake_entra.count("token.refresh_token") == 3
    assert fake_entra.count("discovery") == 1


async def test_without_an_account_a_token_is_the_application_s_own(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    own = await acquire(client, GRAPH, session=acquired.session)
    assert own.session is None
    assert own.token.account is None
    assert decode_claims(own.token.value)["idtyp"] == "app"
    users = await acquire(client, GRAPH, session=acquired.session, account=home(acquired))
    assert users.token.account is not None
    assert decode_claims(users.token.value)["idtyp"] == "user"


async def test_a_claims_challenge_goes_with_the_refresh_token(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website, client_capabilities=["CP1"])
    acquired = await visited(fake_entra, client)
    await acquire(
        client,
        "Mail.Read",
        session=acquired.session,
        account=home(acquired),
        claims='{"access_token": {"nbf": {"value": "1"}}}',
    )
    sent = json.loads(fake_entra.requests[-1].claims)
    assert sent == {"access_token": {"nbf": {"value": "1"}, "xms_cc": {"values": ["CP1"]}}}


@pytest.mark.parametrize("tenant", ["common", "organizations"])
async def test_users_of_whichever_tenant_may_come(tenant: str, fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website, tenant=tenant)
    acquired = await visited(fake_entra, client)
    ann = acquired.token.account
    assert ann is not None
    assert ann.tenant_id == acquired.token.tenant_id == fake_entra.tenant_id
    assert client.accounts(acquired.session or b"") == (ann,), "filed under their own tenant, not under a path"
    again = await acquire(client, "Mail.Read", session=acquired.session, account=ann)
    assert again.token.account == ann
    assert client.accounts(again.session or b"") == (ann,)
    assert [profile.tenant_id for profile in client.profiles(again.session or b"", home(acquired))] == [ann.tenant_id]
    with pytest.raises(ValueError, match="one tenant"):
        client.request((GRAPH,), {})


async def test_a_user_is_whoever_is_in_the_session_and_nobody_else(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    ann, ben = await visited(fake_entra, client), await visited(fake_entra, client, BEN)
    asked = fake_entra.count("token")
    for session, account in ((ann.session, home(ben)), (None, home(ann)), (b"", home(ann))):
        with pytest.raises(AccountRequired, match="has not signed in here") as caught:
            await acquire(client, "Mail.Read", session=session, account=account)
        assert caught.value.candidates == ()
        assert caught.value.classification is Classification.ACQUIRE_TOKEN_SILENT_FAILED
    assert fake_entra.count("token") == asked


def test_that_a_user_has_not_signed_in_is_known_at_once_and_offline() -> None:
    async def never() -> str:
        raise AssertionError

    client = ConfidentialClient("app", Assertion(never), tenant="t")  # of the real authority, which no test may reach
    acquiring = client.acquire(client.request(("User.Read",), {"account": "a.b"}), None)
    with pytest.raises(AccountRequired):
        acquiring.send(None)
    assert not client._desk._processes


@pytest.mark.parametrize("kind", ["public", "confidential"])
async def test_an_answer_about_another_user_is_refused(kind: str, fake_entra: FakeEntra) -> None:
    fake_entra.add_user(ANN)
    fake_entra.add_user(BEN)
    app = fake_entra.add_application(public=kind == "public", redirect_uris=[REDIRECT_URI])
    client = public(fake_entra, app) if kind == "public" else confidential(fake_entra, app)
    acquired = await visited(fake_entra, client)
    fake_entra.fault("token.refresh_token", answer_for=BEN)
    with pytest.raises(AuthorityError, match="another account") as caught:
        await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))
    assert caught.value.code == "account_mismatch"
    assert fake_entra.count("token.refresh_token") == 1


@pytest.mark.parametrize("client_info_at_first", [True, False])
async def test_without_client_info_an_answer_about_another_user_is_known_by_its_id_token(
    client_info_at_first: bool, fake_entra: FakeEntra, website: Application
) -> None:
    fake_entra.configure(client_info=client_info_at_first)
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    fake_entra.configure(client_info=False)
    token, session = await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))
    assert token.account == acquired.token.account  # her own answer is hers without it
    fake_entra.fault("token.refresh_token", answer_for=BEN)
    with pytest.raises(AuthorityError, match="another account"):
        await acquire(client, "Files.Read", session=session, account=home(acquired))
    assert fake_entra.count("token.refresh_token") == 2


async def test_what_a_visitor_sends_that_is_no_text_is_no_trouble_of_the_authority_s(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    for _ in range(2 * STRIKES):
        flow, params = await answer_to(fake_entra, client)
        with pytest.raises(SignInError) as caught:
            await client.complete_sign_in(flow, {**params, "code": "\udc00"})
        assert caught.value.code == "no_code"
        with pytest.raises(ValueError, match="one scope a string"):
            client.request(("\udc00/.default",), {})
        for name in ("account", "login_hint"):
            with pytest.raises(ValueError, match=name):
                client.sign_in_request(("User.Read",), {name: "\udc00"})
    assert fake_entra.count("token") == 0
    assert (await visited(fake_entra, client)).token.account is not None  # the breaker has not opened


async def test_one_user_s_trouble_is_neither_another_s_nor_the_application_s(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    ann, ben = await visited(fake_entra, client), await visited(fake_entra, client, BEN)
    fake_entra.require_interaction(ANN)
    for _ in range(2):
        with pytest.raises(InteractionRequired):
            await acquire(client, "Mail.Read", session=ann.session, account=home(ann))
        assert (await acquire(client, "Mail.Read", session=ben.session, account=home(ben))).token
        assert (await acquire(client, GRAPH)).token
    assert fake_entra.count("token.refresh_token") == 4
    assert fake_entra.count("token.client_credentials") == 2


async def test_the_claims_a_sign_in_has_to_satisfy_are_passed_on(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    fake_entra.require_interaction(error=EntraError(53003, claims='{"access_token": {"capolids": {}}}'))
    with pytest.raises(InteractionRequired) as caught:
        await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))
    assert caught.value.claims == '{"access_token": {"capolids": {}}}'
    assert caught.value.classification is Classification.MESSAGE_ONLY


async def test_a_wrong_secret_is_no_fault_of_the_user_s(fake_entra: FakeEntra, website: Application) -> None:
    acquired = await visited(fake_entra, confidential(fake_entra, website))
    client = confidential(fake_entra, website, "expired")
    with pytest.raises(InvalidClient):
        await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))
    assert fake_entra.count("token.refresh_token") == 1


async def test_a_certificate_signs_for_users_too(fake_entra: FakeEntra, certificate: ClientCertificate) -> None:
    fake_entra.add_user(ANN)
    app = fake_entra.add_application(certificates=[certificate.certificate], redirect_uris=[REDIRECT_URI])
    client = confidential(fake_entra, app, Certificate(certificate.private_key + certificate.certificate))
    acquired = await visited(fake_entra, client)
    assert (await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))).token
    assert (await acquire(client, GRAPH)).token
    assert fake_entra.count("token") == 3


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_assertion_is_asked_for_each_request_and_never_to_begin_a_sign_in(
    is_async: bool, fake_entra: FakeEntra, certificate: ClientCertificate
) -> None:
    fake_entra.add_user(ANN)
    issuer = confidential(fake_entra, fake_entra.add_application())
    made: list[str] = []
    app = fake_entra.add_application(certificates=[certificate.certificate], redirect_uris=[REDIRECT_URI])
    keys = Certificate(certificate.private_key + certificate.certificate)
    await issuer.prepare(issuer.request((GRAPH,), {}), first())
    authority = issuer._desk._here().counters[fake_entra.authority()].application.authority

    def sign() -> str:
        made.append(keys.assertion(app.client_id, authority, None))
        return made[-1]

    async def awaited() -> str:
        return sign()

    client = confidential(fake_entra, app, Assertion(awaited if is_async else sign))
    flow, params = await answer_to(fake_entra, client)
    assert len(made) == 0
    acquired = await client.complete_sign_in(flow, params)
    assert len(made) == 1
    await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))
    assert len(made) == 2
    await acquire(client, GRAPH)
    assert len(made) == 3
    assert fake_entra.count("token") == 3


async def test_an_assertion_that_cannot_be_had_sends_no_code(fake_entra: FakeEntra, website: Application) -> None:
    async def broken() -> str:
        raise OSError("no key vault")

    client = confidential(fake_entra, website, Assertion(broken))
    flow, params = await answer_to(fake_entra, client)
    with pytest.raises(InvalidClient, match="no key vault"):
        await client.complete_sign_in(flow, params)
    assert fake_entra.count("token") == 0


async def test_a_federated_application_signs_people_in(fake_entra: FakeEntra) -> None:
    fake_entra.add_user(ANN)
    issuer = fake_entra.add_application()
    token = (await acquire(confidential(fake_entra, issuer), "api://AzureADTokenExchange/.default")).token
    claims = decode_claims(token.value)
    trust = FederatedCredential(issuer=claims["iss"], subject=claims["sub"], audience=claims["aud"])
    app = fake_entra.add_application(federated=[trust], redirect_uris=[REDIRECT_URI])
    client = confidential(fake_entra, app, Assertion(token.value))
    acquired = await visited(fake_entra, client)
    assert (await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))).token


def test_each_user_has_a_session_that_is_named_for_cloud_application_and_account() -> None:
    def key(client: ConfidentialClient, account: str = "ann.home") -> str | None:
        asked = client.request(("User.Read",), {"account": account})
        assert client.session_key(asked) == client.session_of(account)
        return client.session_key(asked)

    client = ConfidentialClient("app", "secret", tenant="t")
    assert key(client) == "user/login.microsoftonline.com/app/ann.home"
    assert client.session_of(None) is None
    assert client.session_of("") is None
    assert client.session_key(client.request((GRAPH,), {})) is None
    assert client.session_key(client.sign_in_request(("User.Read",), {}).request) is None, "nobody is named yet"
    same = [
        ConfidentialClient("app", "rotated", tenant="t"),
        ConfidentialClient("app", Assertion("jwt"), tenant="another", azure_region="westeurope"),
    ]
    assert {key(client), *map(key, same)} == {key(client)}, (
        "refresh tokens outlive secrets, and are good in all tenants"
    )
    keys = [
        key(client),
        key(client, "ben.home"),
        key(ConfidentialClient("app2", "s", tenant="t")),
        key(ConfidentialClient("app", "s", tenant="t", cloud="china")),
        key(ConfidentialClient("app", "s", oidc_authority="https://login.microsoftonline.com/t")),
        key(ConfidentialClient("b/c", "s", oidc_authority="https://h/a")),  # names may hold what separates them
        key(ConfidentialClient("c", "s", oidc_authority="https://h/a/b")),
        key(ConfidentialClient("c", "s", oidc_authority="https://h/a/b"), "d"),
        key(ConfidentialClient("b", "s", oidc_authority="https://h/a"), "c/d"),
    ]
    assert len(set(keys)) == len(keys)


async def test_what_goes_away_is_one_user(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    assert client.without(acquired.session or b"", home(acquired)) is None
    again = await visited(fake_entra, client)
    merged = json.loads(client.merge(acquired.session, again.session or b"", sign_in=True))
    assert merged["RefreshToken"] == json.loads(again.session or b"")["RefreshToken"]


async def test_a_crowd_of_a_user_s_requests_and_its_sign_in_by_way_of_a_manager(
    fake_entra: FakeEntra, website: Application
) -> None:
    tokens = TokenManager(confidential(fake_entra, website))
    flow = await tokens.begin_sign_in("User.Read", redirect_uri=REDIRECT_URI)
    token = await tokens.complete_sign_in(flow, fake_entra.authorize(flow.auth_uri, ANN).params)
    assert token.account is not None
    assert await tokens.get("User.Read", account=token.account) is token
    got: list[str] = []

    async def call() -> None:
        got.append((await tokens.get("Mail.Read", account=token.account)).value)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(call)
    assert len(set(got)) == 1
    assert len(got) == 50
    assert fake_entra.count("token.authorization_code") == 1
    assert fake_entra.count("token.refresh_token") == 1
    await tokens.sign_out(token.account)
    with pytest.raises(AccountRequired):
        await tokens.get("Mail.Read", account=token.account)
    assert fake_entra.count("token") == 2


async def test_a_lost_answer_to_a_refresh_is_asked_for_again(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    fake_entra.fault("token.refresh_token", reset=True, times=1)
    assert (await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))).token
    assert fake_entra.count("token.refresh_token") == 2
    fake_entra.fault("token.refresh_token", status=503)
    with pytest.raises(AuthorityUnavailable):
        await acquire(client, "Mail.Read", session=acquired.session, account=home(acquired))
    assert fake_entra.count("token.refresh_token") == 5


async def test_a_guest_has_a_profile_in_each_tenant(fake_entra: FakeEntra, website: Application) -> None:
    other = fake_entra.add_tenant("elsewhere.example")
    at_home = confidential(fake_entra, website)
    elsewhere = confidential(fake_entra, website, authority=fake_entra.authority(other.tenant_id))
    first = await visited(fake_entra, at_home)
    assert at_home.profiles(first.session or b"", home(first)) == (
        (fake_entra.tenant_id, home(first).partition(".")[0], ANN, True),
    )
    there = await acquire(elsewhere, "Mail.Read", session=first.session, account=home(first))
    assert there.token.tenant_id == other.tenant_id
    mine, theirs = elsewhere.profiles(there.session or b"", home(first))
    assert (mine.tenant_id, mine.is_home) == (fake_entra.tenant_id, True)
    assert (theirs.tenant_id, theirs.is_home, theirs.username) == (other.tenant_id, False, ANN)
    assert elsewhere.accounts(there.session or b"") == (first.token.account,)
    assert elsewhere.profiles(there.session or b"", "somebody.else") == ()
