"""A program asks for its users' tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal import (
    Account,
    AccountRequired,
    AuthorityError,
    Classification,
    InteractionRequired,
    SignInClient,
    SignInError,
    Throttled,
    WebSignInClient,
)
from aiomsal._token import decode_claims
from aiomsal.clients.public import PublicClient
from aiomsal.testing import EntraError

from .helpers import acquire, public, signed_in

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

pytestmark = pytest.mark.anyio


async def test_it_is_what_the_manager_wants_of_a_client_that_knows_people(
    fake_entra: FakeEntra, program: Application
) -> None:
    assert isinstance(public(fake_entra, program), SignInClient)
    assert isinstance(public(fake_entra, program), WebSignInClient)
    assert public(fake_entra, program).can_ask
    assert not PublicClient(program.client_id).can_ask


async def test_a_sign_in_brings_a_token_its_account_and_a_session_without_an_access_token(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    acquired = await signed_in(fake_entra, client)
    token = acquired.token
    assert token.account is not None
    assert token.account.username == "ann@home.example"
    assert token.account.tenant_id == fake_entra.tenant_id
    assert token.account.environment == "login.microsoftonline.com"
    assert token.id_token_claims["preferred_username"] == "ann@home.example"
    assert token.scopes == ("User.Read", "openid", "profile")
    assert acquired.session is not None
    assert token.value.encode() not in acquired.session
    assert client.accounts(acquired.session) == (token.account,)


async def test_a_refresh_token_serves_any_scope_of_its_account(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    session = (await signed_in(fake_entra, client)).session
    token = (await acquire(client, "Mail.Read", session=session)).token
    assert decode_claims(token.value)["scp"] == "Mail.Read"
    assert token.account == client.accounts(session or b"")[0]
    assert fake_entra.count("devicecode") == 1


async def test_a_rotated_refresh_token_is_in_the_session_that_comes_back(
    fake_entra: FakeEntra, program: Application
) -> None:
    fake_entra.configure(rotation="strict")
    client = public(fake_entra, program)
    acquired = await signed_in(fake_entra, client)
    for _ in range(3):
        before = acquired.session
        acquired = await acquire(client, "Mail.Read", session=before)
        assert acquired.session != before
        assert acquired.token.value.encode() not in (acquired.session or b"")
    refresh_tokens = json.loads(acquired.session or b"")["RefreshToken"]
    assert len(refresh_tokens) == 1, "one that was left behind would be sent later, as if stolen"


async def test_two_sign_ins_of_one_account_leave_one_refresh_token(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    one = await signed_in(fake_entra, client)
    two = await client.sign_in(client.sign_in_request(("Mail.Read",), {}))
    merged = client.merge(one.session, two.session or b"", sign_in=True)
    assert len(json.loads(merged)["RefreshToken"]) == 1
    assert json.loads(merged)["RefreshToken"] == json.loads(two.session or b"")["RefreshToken"]


@pytest.mark.parametrize("answer", ["refresh_in", "id_token", "client_info", "expires_in", "scope"])
async def test_nothing_odd_in_an_answer_loses_the_rotated_refresh_token(
    answer: str, fake_entra: FakeEntra, program: Application
) -> None:
    fake_entra.configure(rotation="strict")
    client = public(fake_entra, program, http_client=Odd(fake_entra, {answer: ["odd"]}))
    acquired = await signed_in(fake_entra, public(fake_entra, program))
    for _ in range(2):
        acquired = await acquire(client, "Mail.Read", session=acquired.session)
        assert acquired.token.account == client.accounts(acquired.session or b"")[0]


async def test_a_claims_challenge_is_sent_with_the_refresh_token(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program, client_capabilities=["CP1"])
    session = (await signed_in(fake_entra, client)).session
    await acquire(client, "Mail.Read", session=session, claims='{"access_token": {"nbf": {"value": "1"}}}')
    sent = json.loads(fake_entra.requests[-1].claims)
    assert sent == {"access_token": {"nbf": {"value": "1"}, "xms_cc": {"values": ["CP1"]}}}


@pytest.mark.parametrize(
    ("error", "classification"),
    [
        (EntraError(50076, suberror="basic_action"), Classification.BASIC_ACTION),
        (EntraError(50079, suberror="additional_action"), Classification.ADDITIONAL_ACTION),
        (EntraError(53003, suberror="message_only"), Classification.MESSAGE_ONLY),
        (EntraError(65001, suberror="consent_required"), Classification.CONSENT_REQUIRED),
        (
            EntraError(50055, error="invalid_grant", suberror="user_password_expired"),
            Classification.USER_PASSWORD_EXPIRED,
        ),
        (EntraError(70000, suberror="bad_token"), Classification.NONE),
        (EntraError(1, error="interaction_required"), Classification.NONE),
        (EntraError(1, error="consent_required"), Classification.CONSENT_REQUIRED),
    ],
    ids=lambda value: getattr(value, "suberror", str(value)),
)
async def test_what_only_the_user_can_resolve_is_classified_as_msal_net_does(
    error: EntraError, classification: Classification, fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    session = (await signed_in(fake_entra, client)).session
    fake_entra.require_interaction(scope="Mail.Read", error=error)
    with pytest.raises(InteractionRequired) as caught:
        await acquire(client, "Mail.Read", session=session)
    assert caught.value.classification is classification
    assert caught.value.error_codes == (error.code,)
    assert fake_entra.count("token.refresh_token") == 1
    assert fake_entra.count("instance_discovery") == 0


async def test_the_claims_a_sign_in_has_to_satisfy_are_passed_on(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    session = (await signed_in(fake_entra, client)).session
    fake_entra.require_interaction(error=EntraError(50076, claims='{"access_token": {"capolids": {}}}'))
    with pytest.raises(InteractionRequired) as caught:
        await acquire(client, "Mail.Read", session=session)
    assert caught.value.claims == '{"access_token": {"capolids": {}}}'


async def both(entra: FakeEntra, client: PublicClient) -> tuple[bytes, Account, Account]:
    ann, ben = await signed_in(entra, client), await signed_in(entra, client, "ben@home.example")
    session = client.merge(ann.session, ben.session or b"", sign_in=True)
    assert ann.token.account is not None
    assert ben.token.account is not None
    return session, ann.token.account, ben.token.account


async def test_one_account_is_taken_and_of_two_the_one_that_is_named(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    session, ann, ben = await both(fake_entra, client)
    assert set(client.accounts(session)) == {ann, ben}
    named: list[tuple[dict[str, Any], Account]] = [
        ({"account": ann}, ann),
        ({"account": ben.home_account_id}, ben),
        ({"login_hint": "BEN@home.example"}, ben),
    ]
    for options, who in named:
        assert (await acquire(client, "Mail.Read", session=session, **options)).token.account == who
    with pytest.raises(AccountRequired, match="2 accounts") as caught:
        await acquire(client, "Mail.Read", session=session)
    assert set(caught.value.candidates) == {ann, ben}
    assert caught.value.classification is Classification.ACQUIRE_TOKEN_SILENT_FAILED
    rest = client.without(session, ann.home_account_id)
    assert (await acquire(client, "Mail.Read", session=rest)).token.account == ben


async def test_who_is_not_there_is_told_so_without_a_request(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    session, ann, _ = await both(fake_entra, client)
    session = client.without(session, ann.home_account_id) or b""
    asked = fake_entra.count("token")
    cases: list[tuple[bytes | None, dict[str, Any], str]] = [
        (None, {}, "nobody has signed in"),
        (session, {"account": ann}, "has not signed in here"),
        (session, {"login_hint": "ann@home.example"}, "nobody has signed in as ann"),
    ]
    for held, options, words in cases:
        with pytest.raises(AccountRequired, match=words) as caught:
            await acquire(client, "Mail.Read", session=held, **options)
        assert caught.value.candidates == ()
    assert fake_entra.count("token") == asked


@pytest.mark.parametrize("options", [{}, {"account": "a.b"}, {"login_hint": "ann@home.example"}], ids=str)
def test_that_nobody_has_signed_in_is_known_at_once_and_offline(options: dict[str, Any]) -> None:
    client = PublicClient("app")  # of the real authority, which no test may reach
    acquiring = client.acquire(client.request(("User.Read",), options), None)
    with pytest.raises(AccountRequired) as caught:
        acquiring.send(None)  # not even a `prepare` before it
    assert caught.value.candidates == ()
    assert not client._desk._processes, "neither gate nor thread nor application was made"


async def test_what_the_tokens_of_one_user_have_in_common_is_held_once(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    session = (await signed_in(fake_entra, client)).session
    one, two = [(await acquire(client, "Mail.Read", session=session)).token for _ in range(2)]
    assert one.account is not None
    assert one.account is two.account
    assert one.account.tenant_id is one.tenant_id
    assert one.tenant_id is two.tenant_id
    assert one.scopes == ("Mail.Read", "openid", "profile")
    assert one.scopes is two.scopes
    other = (await acquire(client, "User.Read", session=session)).token
    assert other.scopes[1:] == one.scopes[1:]
    assert all(mine is theirs for mine, theirs in zip(other.scopes[1:], one.scopes[1:], strict=True))


async def test_an_account_without_a_refresh_token_has_to_sign_in(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    session = json.loads((await signed_in(fake_entra, client)).session or b"")
    session["RefreshToken"] = []
    with pytest.raises(AccountRequired, match=r"no refresh token of ann@home\.example"):
        await acquire(client, "Mail.Read", session=json.dumps(session).encode())


async def test_a_token_for_one_account_is_never_taken_for_another_s(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    _, ann, ben = await both(fake_entra, client)  # whoever signs in next is Ben
    with pytest.raises(SignInError, match=r"ben@home\.example signed in"):
        await client.sign_in(client.sign_in_request(("User.Read",), {"account": ann}))
    assert (await client.sign_in(client.sign_in_request(("User.Read",), {"account": ben}))).token.account == ben


async def test_an_answer_about_another_account_is_refused(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    session, ann, ben = await both(fake_entra, client)
    entries = json.loads(session)
    for entry in entries["RefreshToken"]:  # each has the other's
        others = ben if entry["home_account_id"] == ann.home_account_id else ann
        entry["home_account_id"] = others.home_account_id
    with pytest.raises(AuthorityError, match="another account"):
        await acquire(client, "Mail.Read", session=json.dumps(entries).encode(), account=ann)


async def test_a_lost_answer_is_asked_for_again_with_the_same_refresh_token(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    session = (await signed_in(fake_entra, client)).session
    fake_entra.fault("token.refresh_token", reset=True, times=1)
    assert (await acquire(client, "Mail.Read", session=session)).token
    assert fake_entra.count("token.refresh_token") == 2


async def test_a_code_is_asked_for_with_the_patience_the_authority_wants(
    fake_entra: FakeEntra, program: Application
) -> None:
    client = public(fake_entra, program)
    await signed_in(fake_entra, client)
    client._desk.gate.note(429, 100.0)
    with pytest.raises(Throttled) as caught:
        await signed_in(fake_entra, client)
    assert 99 < caught.value.retry_after <= 100
    assert fake_entra.count("devicecode") == 1


async def test_one_user_s_trouble_is_not_another_s(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    session, ann, ben = await both(fake_entra, client)
    fake_entra.require_interaction("ann@home.example")
    for _ in range(2):
        with pytest.raises(InteractionRequired):
            await acquire(client, "Mail.Read", session=session, account=ann)
        assert (await acquire(client, "Mail.Read", session=session, account=ben)).token.account == ben


def test_the_session_is_named_for_the_cloud_and_the_application() -> None:
    scope = ("User.Read",)
    client = PublicClient("app")
    key = client.session_key(client.request(scope, {}))
    assert key == "public/login.microsoftonline.com/app"
    assert client.session_of(None) == client.session_of("a.b") == key
    assert client.session_key(client.request(scope, {"account": "a.b"})) == key
    assert PublicClient("app", tenant="contoso.com").session_of(None) == key, "refresh tokens are good in all tenants"
    assert PublicClient("app", cloud="china").session_of(None) != key
    assert PublicClient("other").session_of(None) != key
    elsewhere = {
        PublicClient("app", oidc_authority=f"https://id.example/{realm}").session_of(None) for realm in ("a", "b")
    }
    assert len(elsewhere) == 2, "another provider's realms have nothing in common"


@pytest.mark.parametrize(
    ("scopes", "options", "kind", "advice"),
    [
        (("openid", "User.Read"), {}, ValueError, "leave out openid"),
        (("offline_access",), {}, ValueError, "always asked for"),
        (("User.Read",), {"account": "a.b", "login_hint": "ann"}, TypeError, "pass one"),
        (("User.Read",), {"account": 7}, TypeError, "Account"),
        (("User.Read",), {"login_hint": 7}, TypeError, "user name"),
        (("User.Read",), {"on_behalf_of": "jwt"}, TypeError, "on_behalf_of="),
        (("User.Read",), {"claims": "[]"}, ValueError, "JSON object"),
        (("User.Read",), {"claims": '{"access_token": null}'}, ValueError, "access_token"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused_before_anything_is_sent(
    scopes: Any, options: dict[str, Any], kind: type[Exception], advice: str
) -> None:
    with pytest.raises(kind, match=advice):
        PublicClient("app").request(scopes, options)


def test_what_is_no_strategy_is_refused() -> None:
    wrong: Any = print
    with pytest.raises(TypeError, match="DeviceCode"):
        PublicClient("app", sign_in=wrong)


class Odd:
    """An authority whose answers to refresh tokens have something odd in them."""

    def __init__(self, entra: FakeEntra, oddity: dict[str, Any]) -> None:
        self._client = entra.http_client()
        self._oddity = oddity

    def get(self, url: str, **options: Any) -> Any:
        return self._client.get(url, **options)

    def post(self, url: str, **options: Any) -> Any:
        response = self._client.post(url, **options)
        body = json.loads(response.text)
        if "refresh_token" in body:
            response.text = json.dumps({**body, **self._oddity})
        return response
