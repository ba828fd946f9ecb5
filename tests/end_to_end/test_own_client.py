"""A user writes a client of their own, from the docstrings of `TokenClient` alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from aiomsal import (
    Acquired,
    Attempt,
    AuthorityError,
    AuthorityUnavailable,
    MemoryStore,
    Token,
    TokenClient,
    TokenManager,
    TokenRequest,
)

from .support import Caller, crowd, landed, one_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiomsal.testing import FakeClock

pytestmark = pytest.mark.anyio


class Provider:
    """What an async HTTP library would be: some provider's token endpoint, behind `post`."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.aloft = 0

    async def post(self, url: str, data: dict[str, Any]) -> tuple[int, str]:
        self.asked.append(data)
        self.aloft += 1
        await anyio.lowlevel.checkpoint()
        self.aloft -= 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            raise OSError("connection refused")
        body = {"access_token": f"token-{len(self.asked)}", "expires_in": 600} if status == 200 else {"error": "no"}
        return status, json.dumps(body)


# -- from here to the next line is what the user writes --------------------------------------------------------------


class OtherProvider:
    """Client credentials at a provider that is not Microsoft's."""

    def __init__(self, http: Provider, name: str, secret: str) -> None:
        self._http, self._name, self._secret = http, name, secret

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        if unknown := options.keys() - {"claims"}:
            raise TypeError(f"OtherProvider takes no {', '.join(sorted(unknown))}")
        claims = options.get("claims", "")
        return TokenRequest(self._name, "https://other.example", "client_credentials", scopes, claims=claims)

    def session_key(self, request: TokenRequest, /) -> str | None:
        return None

    async def prepare(self, request: TokenRequest, attempt: Attempt, /) -> None:
        if attempt.failure is not None and (
            attempt.number > 2 or not isinstance(attempt.failure, AuthorityUnavailable)
        ):
            raise attempt.failure

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        form = {"id": self._name, "secret": self._secret, "scope": " ".join(request.scopes), "claims": request.claims}
        sent = self._http.clock()
        try:
            status, text = await self._http.post(request.authority, form)
        except OSError as error:
            raise AuthorityUnavailable("the provider could not be reached", code="unreachable") from error
        body = json.loads(text)
        if status >= 500:
            raise AuthorityUnavailable("the provider failed", status=status)
        if status != 200:
            raise AuthorityError("the provider refused", code=body["error"])
        expires_at = sent + body["expires_in"]
        return Acquired(Token(body["access_token"], expires_at, expires_at, obtained_at=sent, scopes=request.scopes))


# --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def provider(fake_clock: FakeClock) -> Provider:
    return Provider(fake_clock)


@pytest.fixture
def tokens(provider: Provider, fake_clock: FakeClock) -> TokenManager:
    client: TokenClient = OtherProvider(provider, "us", "a secret of ours")
    return TokenManager(client, clock=fake_clock)


async def test_a_thousand_callers_make_one_request(tokens: TokenManager, provider: Provider) -> None:
    assert one_token(await crowd(1000, tokens.get, "read", "write")).value == "token-1"
    assert [form["scope"] for form in provider.asked] == ["read write"]
    assert (await tokens.get("write", "read")).value == "token-1"
    assert one_token(await crowd(50, tokens.source("read").get)).value == "token-2"


async def test_what_it_calls_an_outage_is_tried_again_and_what_it_calls_a_refusal_is_not(
    tokens: TokenManager, provider: Provider
) -> None:
    provider.statuses = [500, 0, 200, 400, 500, 500, 500]
    assert (await tokens.get("read")).value == "token-3"
    outcomes = await crowd(50, tokens.get, "write")
    assert {(type(outcome), outcome.code) for outcome in outcomes} == {(AuthorityError, "no")}
    assert len(provider.asked) == 4
    outcomes = await crowd(50, tokens.get, "other")
    assert {(type(outcome), outcome.status) for outcome in outcomes} == {(AuthorityUnavailable, 500)}
    assert len(provider.asked) == 7


async def test_a_token_that_is_due_is_refreshed_behind_its_callers(
    tokens: TokenManager, provider: Provider, fake_clock: FakeClock
) -> None:
    old = await tokens.get("read")
    fake_clock.set(old.expires_at - 299)  # its life is 600 s: refresh_ahead is at most half of it
    one_token([*(await crowd(100, tokens.get, "read")), old])
    await landed(tokens)
    assert (await tokens.get("read")).value == "token-2"
    assert len(provider.asked) == 2


async def test_a_rejected_token_and_a_claims_challenge_reach_it(tokens: TokenManager, provider: Provider) -> None:
    old = await tokens.get("read")
    assert one_token(await crowd(50, tokens.get, "read", rejected=old)).value == "token-2"
    assert one_token(await crowd(50, tokens.get, "read", claims='{"a":1}')).value == "token-3"
    assert [form["claims"] for form in provider.asked] == ["", "", '{"a":1}']
    assert (await tokens.get("read")).value == "token-3"


async def test_its_callers_may_leave(tokens: TokenManager, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer, post = anyio.Event(), anyio.Event(), provider.post

    async def held(url: str, data: dict[str, Any]) -> tuple[int, str]:
        asked.set()
        await answer.wait()
        return await post(url, data)

    monkeypatch.setattr(provider, "post", held)
    async with anyio.create_task_group() as group:
        callers = [Caller(group, tokens.get, "read") for _ in range(10)]
        await asked.wait()
        for caller in callers[:5]:
            caller.scope.cancel()
        answer.set()
    assert [caller.outcome for caller in callers[:5]] == [None] * 5
    one_token([caller.outcome for caller in callers[5:]])
    assert len(provider.asked) == 1


async def test_an_error_it_did_not_translate_reaches_everybody_and_nothing_is_remembered(
    tokens: TokenManager, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(url: str, data: dict[str, Any]) -> tuple[int, str]:
        await anyio.lowlevel.checkpoint()
        return 200, "<html>"

    with monkeypatch.context() as patched:
        patched.setattr(provider, "post", broken)
        outcomes = await crowd(50, tokens.get, "read")
        assert {type(outcome) for outcome in outcomes} == {json.JSONDecodeError}
        assert tokens.stats().failed == 1
    assert (await tokens.get("read")).value == "token-1"


@pytest.mark.parametrize("call", ["accounts", "sign_in", "sign_out"])
async def test_it_knows_no_people_and_the_manager_says_so(call: str, tokens: TokenManager) -> None:
    arguments = {"accounts": (), "sign_in": ("read",), "sign_out": ("somebody",)}[call]
    with pytest.raises(TypeError, match="OtherProvider knows no people"):
        await getattr(tokens, call)(*arguments)
    with pytest.raises(TypeError, match="takes no account"):
        await tokens.get("read", account="somebody")


class Terse(OtherProvider):
    """`Token.obtained_at` has a default, so somebody will leave it out."""

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        acquired = await super().acquire(request, session)
        return Acquired(Token(acquired.token.value, acquired.token.expires_at, acquired.token.refresh_at))


@pytest.mark.parametrize("kind", [OtherProvider, Terse])
async def test_two_managers_on_one_store_make_one_request(
    kind: type[OtherProvider], provider: Provider, fake_clock: FakeClock
) -> None:
    class Store:
        """What two processes share; a MemoryStore itself is given no tokens to keep."""

        def __init__(self) -> None:
            self._inner = MemoryStore()
            self.get, self.set = self._inner.get, self._inner.set
            self.delete, self.lock = self._inner.delete, self._inner.lock

    store = Store()
    one, two = (TokenManager(kind(provider, "us", "secret"), store=store, clock=fake_clock) for _ in range(2))
    assert (await one.get("read")).value == (await two.get("read")).value
    assert len(provider.asked) == 1


async def test_tokens_that_carry_no_time_of_receipt_are_held_too(provider: Provider, fake_clock: FakeClock) -> None:
    tokens = TokenManager(Terse(provider, "us", "secret"), clock=fake_clock)
    old = one_token(await crowd(100, tokens.get, "read"))
    assert one_token(await crowd(100, tokens.get, "read")).value == old.value
    assert len(provider.asked) == 1
