# pyright: reportUnnecessaryTypeIgnoreComment=true
"""The public face as an editor sees it, and the same at run time.

Checked three times: pytest runs it, and mypy and basedpyright check it with `src`. `assert_type` says what a checker
must infer. Each `type: ignore` names what a checker must refuse, and the `raises` above it what happens to those who
have none; an ignore that is not needed any more is an error too.
"""

from __future__ import annotations

from typing import Any, assert_type

import pytest

import aiomsal
import aiomsal.testing
from aiomsal import (
    Account,
    Assertion,
    ConfidentialClient,
    DeviceCode,
    DevicePrompt,
    MemoryStore,
    PublicClient,
    SignInClient,
    Stats,
    Token,
    TokenClient,
    TokenManager,
    TokenSource,
    TokenStore,
    WebSignInClient,
    msal,
)
from aiomsal.testing import FakeClock, FakeEntra, ScriptedAcquisition, ScriptedClient, ScriptedUserClient

SCOPE = "https://graph.example/.default"
AUTHORITY = "https://login.example/tenant"


ALICE = Account("alice-id.tenant")


def land(acquisition: ScriptedAcquisition) -> None:
    acquisition.land(account=ALICE)


@pytest.fixture
def tokens() -> TokenManager:
    return TokenManager(ScriptedUserClient(script=land))


# -- what comes back -------------------------------------------------------------------------------------------------


async def test_every_way_to_ask_brings_a_token(tokens: TokenManager) -> None:
    signed_in = assert_type(await tokens.sign_in(SCOPE), Token)
    assert signed_in.account == ALICE
    assert_type(await tokens.get(SCOPE, "User.Read"), Token)
    assert_type(await tokens.get(SCOPE, account=ALICE, rejected=signed_in), Token)
    assert_type(await tokens.get_silent(SCOPE, account=ALICE.home_account_id), Token)
    source = assert_type(tokens.source(SCOPE, account=ALICE), TokenSource)
    assert_type(await source.get(), Token)
    assert_type(await tokens.accounts(), tuple[Account, ...])
    assert_type(tokens.stats(), Stats)
    async with tokens as entered:
        assert_type(entered, TokenManager)


async def test_a_token_says_what_it_is(tokens: TokenManager) -> None:
    token = await tokens.sign_in(SCOPE)
    assert_type(token.authorization, str)
    assert_type(token.expires_at, float)
    assert_type(token.refresh_at, float)
    assert_type(token.scopes, tuple[str, ...])
    assert_type(token.account, Account | None)
    with pytest.raises(AttributeError):
        token.value = "another"  # type: ignore[misc]


# -- what is refused -------------------------------------------------------------------------------------------------


async def test_an_unknown_keyword_is_refused(tokens: TokenManager) -> None:
    with pytest.raises(TypeError, match="acount"):
        await tokens.get(SCOPE, acount="alice")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="acount"):
        tokens.source(SCOPE, acount="alice")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="one call"):
        tokens.source(SCOPE, rejected=Token("it", 1.0, 1.0))  # type: ignore[call-arg]


async def test_none_is_not_an_account(tokens: TokenManager) -> None:
    nobody: str | None = {"alice": "alice-id.tenant"}.get("bob")  # as a web application's session might say
    with pytest.raises(TypeError, match="leave the keyword out"):
        await tokens.get(SCOPE, account=nobody)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="leave the keyword out"):
        await tokens.get(SCOPE, account=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="leave the keyword out"):
        await tokens.get(SCOPE, claims=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="leave the keyword out"):
        await tokens.sign_in(SCOPE, login_hint=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await tokens.sign_out(None)  # type: ignore[arg-type]


async def test_a_scope_is_a_string(tokens: TokenManager) -> None:
    with pytest.raises(TypeError, match="several arguments"):
        await tokens.get([SCOPE, "User.Read"])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await tokens.get(SCOPE, None)  # type: ignore[arg-type]


def test_a_manager_needs_a_client() -> None:
    with pytest.raises(TypeError):
        TokenManager()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="TokenClient"):
        TokenManager("client-id")  # type: ignore[arg-type]


def test_a_confidential_client_needs_a_credential() -> None:
    with pytest.raises(TypeError):
        ConfidentialClient("client-id", authority=AUTHORITY)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="credential"):
        ConfidentialClient("client-id", None, authority=AUTHORITY)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ConfidentialClient("client-id", "secret", authorty=AUTHORITY)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="cloud"):
        ConfidentialClient("client-id", "secret", tenant="tenant", cloud="mars")  # type: ignore[arg-type]


# -- the seams -------------------------------------------------------------------------------------------------------


async def assertion() -> str:
    return "signed"


async def show(prompt: DevicePrompt) -> None:
    assert_type(prompt.user_code, str)


def test_what_is_in_the_package_fits_its_protocols() -> None:
    clients: list[TokenClient] = [
        ConfidentialClient("client-id", "secret", authority=AUTHORITY),
        ConfidentialClient("client-id", Assertion(assertion), tenant="tenant"),
        ScriptedClient(clock=FakeClock()),
    ]
    people: list[SignInClient] = [
        PublicClient("client-id", authority=AUTHORITY, sign_in=DeviceCode(show)),
        PublicClient("client-id", sign_in=DeviceCode(print)),
        ScriptedUserClient(),
    ]
    websites: list[WebSignInClient] = [
        ConfidentialClient("client-id", "secret", authority=AUTHORITY),
        PublicClient("client-id"),
        ScriptedUserClient(),
    ]
    stores: list[TokenStore] = [MemoryStore()]
    for client in (*clients, *people, *websites):
        assert_type(TokenManager(client, store=stores[0], clock=FakeClock()), TokenManager)
    assert all(isinstance(each, SignInClient) for each in people)
    assert all(isinstance(each, WebSignInClient) for each in websites)
    not_people: SignInClient = ScriptedClient()  # type: ignore[assignment]
    assert not isinstance(not_people, SignInClient)


# -- names that are loaded when they are first used ------------------------------------------------------------------


def test_a_name_that_is_loaded_late_has_its_type() -> None:
    assert_type(aiomsal.ConfidentialClient("client-id", "secret", authority=AUTHORITY), ConfidentialClient)
    assert_type(aiomsal.PublicClient("client-id"), PublicClient)
    assert_type(aiomsal.DeviceCode(show), DeviceCode)
    assert_type(aiomsal.testing.FakeClock(), FakeClock)
    assert_type(aiomsal.testing.FakeEntra(), FakeEntra)


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AttributeError):
        _ = aiomsal.ConfidentialCleint  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = aiomsal.testing.FakeEntro  # type: ignore[attr-defined]


async def types_of_msal_awaited(app: msal.PublicClientApplication) -> None:
    assert_type(app, msal.PublicClientApplication)
    assert_type(await app.ready(), msal.PublicClientApplication)
    [account] = assert_type(await app.get_accounts(), list[dict[str, Any]])
    assert_type(await app.acquire_token_silent(["User.Read"], account), dict[str, Any] | None)
    assert_type(await app.acquire_token_interactive(["User.Read"]), dict[str, Any])
    assert_type(await app.is_pop_supported(), bool)
