"""What people get wrong at first, and whether they are told what to write instead, before anything is sent."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aiomsal import AuthorityUnavailable, ConfidentialClient, PublicClient, Token, TokenManager
from aiomsal.testing import FakeClock, ScriptedClient


@pytest.mark.parametrize(
    ("options", "error", "advice"),
    [
        ({"proxies": "http://proxy:1"}, TypeError, "proxies is a dict"),
        ({"timeout": None}, TypeError, "number of seconds"),
    ],
)
def test_a_client_is_told_what_to_pass(options: dict[str, Any], error: type[Exception], advice: str) -> None:
    with pytest.raises(error, match=advice):
        ConfidentialClient("client", "a secret", tenant="tenant", **options)


@pytest.mark.parametrize("secret", ["a secret\n", " a secret"])
def test_a_secret_with_a_newline_from_a_file_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="white space") as raised:
        ConfidentialClient("client", secret, tenant="tenant")
    assert "a secret" not in str(raised.value)


async def test_a_user_name_is_no_account() -> None:
    with pytest.raises(ValueError, match="login_hint="):
        await TokenManager(PublicClient("client")).get("User.Read", account="alice@contoso.com")


@pytest.mark.parametrize(
    ("client", "options", "advice"),
    [
        (ScriptedClient, {}, "not its class"),
        (ScriptedClient(), {"store": "tokens.json"}, "store is a TokenStore"),
    ],
)
def test_a_manager_is_told_what_to_pass(client: Any, options: dict[str, Any], advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        TokenManager(client, **options)


async def test_scopes_come_by_position() -> None:
    with pytest.raises(TypeError, match="by position"):
        await TokenManager(ScriptedClient()).get(scopes=["User.Read"])  # type: ignore[call-arg] -- the mistake itself


async def test_a_token_that_came_expired_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    client = ScriptedClient(script=lambda acquisition: acquisition.land("relative", expires_in=-5))
    tokens = TokenManager(client)
    with caplog.at_level(logging.WARNING, "aiomsal"):
        for _ in range(3):
            assert isinstance(await tokens.get("scope"), Token)
    assert ["epoch seconds" in record.getMessage() for record in caplog.records] == [True]


async def test_a_client_that_always_wants_another_attempt_at_once_ends_at_the_deadline() -> None:
    def fail(acquisition: Any) -> None:
        acquisition.fail(AuthorityUnavailable("down"))

    client = ScriptedClient(clock=FakeClock(), script=fail, retries=10**9)
    with pytest.raises(AuthorityUnavailable):
        await TokenManager(client, acquire_timeout=0.2).get("scope")
