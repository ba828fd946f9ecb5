"""Each method, against FakeEntra: what it returns, and that MSAL's arguments arrive."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import msal as real
import pytest

from aiomsal import msal

from .support import (
    ANN,
    BEN,
    GRAPH,
    MAIL,
    REDIRECT_URI,
    Desk,
    Machine,
    confidential,
    outcome,
    public,
    signed_in,
    token,
)

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

CLAIMS = '{"access_token":{"nbf":{"essential":true,"value":"1"}}}'
NEWEST = hasattr(real.ClientApplication, "ACQUIRE_TOKEN_BY_USER_FIC_ID")
newest = pytest.mark.skipif(not NEWEST, reason="an older MSAL")


async def test_a_token_for_the_client_comes_from_the_authority_and_then_from_msals_cache(
    fake_entra: FakeEntra, service: Application
) -> None:
    app = confidential(fake_entra, service)
    first = await app.acquire_token_for_client(GRAPH)
    assert first["token_source"] == "identity_provider"
    again = await app.acquire_token_for_client(GRAPH)
    assert (again["access_token"], again["token_source"]) == (first["access_token"], "cache")
    await app.acquire_token_for_client(GRAPH, claims_challenge=CLAIMS)
    assert [each.claims for each in fake_entra.requests if each.kind == "token.client_credentials"] == ["", CLAIMS]


async def test_remove_tokens_for_client_empties_the_cache(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    await app.acquire_token_for_client(GRAPH)
    assert await app.remove_tokens_for_client() is None  # type: ignore[func-returns-value]
    assert (await app.acquire_token_for_client(GRAPH))["token_source"] == "identity_provider"


async def test_an_error_of_the_authority_is_a_dict(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service, client_credential="not the secret")
    result = await app.acquire_token_for_client(GRAPH)
    assert result["error"] == "invalid_client"


async def test_what_msal_rejects_is_rejected_with_its_exception(fake_entra: FakeEntra, service: Application) -> None:
    ours = confidential(fake_entra, service)
    theirs = real.ConfidentialClientApplication(
        service.client_id,
        service.client_secret,
        authority=fake_entra.authority(),
        http_client=fake_entra.http_client(),
    )
    for name, args, options in (
        ("acquire_token_for_client", ("a scope",), {}),
        ("acquire_token_for_client", (GRAPH,), {"force_refresh": True}),
        ("acquire_token_for_client", (GRAPH,), {"data": {"token_type": "ssh-cert"}}),
        ("acquire_token_for_client", ([[]],), {}),
        ("acquire_token_on_behalf_of", ("assertion", "User.Read"), {}),
        ("acquire_token_on_behalf_of", ("assertion", ["openid"]), {}),
        ("initiate_auth_code_flow", (["openid"],), {}),
        ("acquire_token_silent", ("User.Read", {"home_account_id": "a.b"}), {}),
        ("remove_account", ({},), {}),
        ("acquire_token_by_auth_code_flow", ({}, {}), {}),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = getattr(theirs, name)(*args, **options)
            except Exception as error:
                expected = error
            failure = await outcome(getattr(ours, name)(*args, **options))
        assert (type(failure), str(failure)) == (type(expected), str(expected)), name
        assert isinstance(failure, Exception)


async def test_an_authorization_code_flow_signs_in_and_silent_calls_follow(
    fake_entra: FakeEntra, website: Application
) -> None:
    app = confidential(fake_entra, website)
    flow = await app.initiate_auth_code_flow(
        MAIL, REDIRECT_URI, "my state", "login", ANN, "home.example", CLAIMS, 600, "form_post"
    )
    asked = {name: value for name, [value] in parse_qs(urlsplit(flow["auth_uri"]).query).items()}
    assert (
        asked.items()
        >= {
            "redirect_uri": REDIRECT_URI,
            "state": "my state",
            "prompt": "login",
            "login_hint": ANN,
            "domain_hint": "home.example",
            "claims": CLAIMS,
            "max_age": "600",
            "response_mode": "form_post",
        }.items()
    )
    result = await app.acquire_token_by_auth_code_flow(flow, fake_entra.authorize(flow["auth_uri"], ANN).params)
    assert result["id_token_claims"]["preferred_username"] == ANN
    [account] = await app.get_accounts()
    assert account["username"] == ANN
    assert await app.get_accounts(username=BEN) == []
    silent = await app.acquire_token_silent(MAIL, account)
    assert silent is not None
    assert silent["access_token"] == result["access_token"]
    forced = await app.acquire_token_silent_with_error(MAIL, account, None, True)
    assert forced is not None
    assert forced["token_source"] == "identity_provider"
    assert await app.acquire_token_silent(MAIL, None) is None
    assert await app.acquire_token_silent_with_error(MAIL, None) is None


async def test_silent_hides_an_error_that_silent_with_error_shows(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    account = await signed_in(fake_entra, app)
    fake_entra.revoke_refresh_tokens(ANN)
    assert await app.acquire_token_silent(["User.Read"], account) is None
    shown = await app.acquire_token_silent_with_error(["User.Read"], account)
    assert shown is not None
    assert shown["error"] == "invalid_grant"


async def test_an_account_that_is_removed_is_gone(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)
    ann, ben = await signed_in(fake_entra, app), await signed_in(fake_entra, app, BEN)
    assert await app.remove_account(ann) is None  # type: ignore[func-returns-value]
    assert await app.get_accounts() == [ben]
    assert await app.acquire_token_silent(MAIL, ann) is None
    assert await app.acquire_token_silent(MAIL, ben) is not None


async def test_the_deprecated_code_methods_work_and_warn_as_msals(fake_entra: FakeEntra, website: Application) -> None:
    app = confidential(fake_entra, website)
    with pytest.warns(DeprecationWarning, match="initiate_auth_code_flow"):
        url = await app.get_authorization_request_url(
            MAIL, ANN, "a state", REDIRECT_URI, "code", "login", "a nonce", "home.example", CLAIMS
        )
    asked = {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}
    assert (
        asked.items()
        >= {
            "login_hint": ANN,
            "state": "a state",
            "response_type": "code",
            "prompt": "login",
            "nonce": "a nonce",
            "domain_hint": "home.example",
            "claims": CLAIMS,
        }.items()
    )
    code = fake_entra.authorize(url, ANN).params["code"]
    with pytest.warns(DeprecationWarning, match="acquire_token_by_auth_code_flow"):
        result = await app.acquire_token_by_authorization_code(code, MAIL, REDIRECT_URI, "a nonce", CLAIMS)
    assert result["id_token_claims"]["nonce"] == "a nonce"
    assert fake_entra.requests[-1].claims == CLAIMS


async def test_a_refresh_token_from_elsewhere_is_taken_in(fake_entra: FakeEntra, program: Application) -> None:
    first, second = public(fake_entra, program), public(fake_entra, program)
    await signed_in(fake_entra, first)
    [entry] = first.token_cache.search("RefreshToken")
    result = await second.acquire_token_by_refresh_token(entry["secret"], MAIL)
    assert result["token_source"] == "identity_provider"
    assert [each["username"] for each in await second.get_accounts()] == [ANN]


async def test_a_username_and_password_are_exchanged(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program, instance_discovery=False)
    await app.ready()
    app.authority.user_realm_discovery = lambda *_, **__: {"account_type": "Managed"}  # not in FakeEntra
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer ones
        result = await app.acquire_token_by_username_password(ANN, "correct horse", MAIL, CLAIMS)
        wrong = await app.acquire_token_by_username_password(ANN, "password", MAIL)
    assert result["id_token_claims"]["preferred_username"] == ANN
    assert fake_entra.requests[-2].claims == CLAIMS
    assert wrong["error"] == "invalid_grant"


async def test_pop_is_supported_by_brokers_only(fake_entra: FakeEntra, program: Application) -> None:
    assert await public(fake_entra, program).is_pop_supported() is None  # as MSAL


async def test_on_behalf_of_sends_the_users_assertion(fake_entra: FakeEntra, service: Application) -> None:
    desk = Desk(fake_entra, lambda data: (200, token(f"for {data['assertion']}")))
    app = confidential(fake_entra, service, http_client=desk)
    result = await app.acquire_token_on_behalf_of("incoming", MAIL, CLAIMS, data={"extra": "1"})
    assert result["access_token"] == "for incoming"
    [sent] = desk.posts
    assert (
        sent.items()
        >= {
            "requested_token_use": "on_behalf_of",
            "assertion": "incoming",
            "claims": CLAIMS,
            "extra": "1",
        }.items()
    )


@newest
async def test_a_user_federated_identity_credential_sends_its_assertion(
    fake_entra: FakeEntra, service: Application
) -> None:
    desk = Desk(fake_entra, lambda data: (200, token()))
    app = confidential(fake_entra, service, http_client=desk)
    method = app.acquire_token_by_user_federated_identity_credential
    assert "access_token" in await method(MAIL, "an assertion", ANN, None, CLAIMS)
    assert "access_token" in await method(MAIL, "an assertion", user_object_id="object")
    assert desk.posts[0].items() >= {"user_federated_identity_credential": "an assertion", "username": ANN}.items()
    assert desk.posts[1]["user_id"] == "object"
    with pytest.raises(ValueError, match="mutually exclusive"):
        await method(MAIL, "an assertion", ANN, "object")


@newest
async def test_newer_arguments_arrive(fake_entra: FakeEntra, service: Application) -> None:
    desk = Desk(fake_entra, lambda data: (200, token()))
    app = confidential(fake_entra, service, http_client=desk)
    await app.acquire_token_for_client(GRAPH, fmi_path="a/b", forwarded_client_claims='{"x":{"values":["y"]}}')
    assert desk.posts[0]["fmi_path"] == "a/b"
    assert '"x"' in desk.posts[0]["claims"]


async def test_kwargs_pass_verbatim(fake_entra: FakeEntra, service: Application) -> None:
    seen: list[dict[str, Any]] = []
    client = fake_entra.http_client()

    def post(url: str, **options: Any) -> Any:
        seen.append(options)
        return client.post(url, **options)

    app = confidential(fake_entra, service)
    await app.acquire_token_for_client(GRAPH, post=post, timeout=7, data={"key_id": "k"})
    assert seen[0]["timeout"] == 7
    assert seen[0]["data"]["key_id"] == "k"


async def test_a_managed_identity_gets_its_token_and_caches_it(fake_entra: FakeEntra) -> None:
    machine = Machine()
    client = msal.ManagedIdentityClient(msal.UserAssignedManagedIdentity(client_id="mine"), http_client=machine)
    first = await client.acquire_token_for_client(resource="https://vault.example")
    again = await client.acquire_token_for_client(resource="https://vault.example")
    assert (first["token_source"], again["token_source"]) == ("identity_provider", "cache")
    [(url, params)] = machine.gets
    assert url.startswith("http://169.254.169.254/")
    assert params.items() >= {"resource": "https://vault.example", "client_id": "mine"}.items()


async def test_a_wrong_managed_identity_is_msals_error() -> None:
    client = msal.ManagedIdentityClient({"ManagedIdentityIdType": "nonsense"}, http_client=Machine())
    with pytest.raises(msal.ManagedIdentityError, match="Incorrect managed_identity"):
        await client.acquire_token_for_client(resource="https://vault.example")
