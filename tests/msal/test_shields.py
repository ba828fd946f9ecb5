"""What MSAL would do and does not do here; and how to have it back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msal as real
import pytest
from requests.exceptions import RequestException

from aiomsal import msal
from aiomsal.msal._throttle import HttpCache, Throttled

from .support import ANN, GRAPH, MAIL, Desk, confidential, outcome, public, signed_in, token

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

CREDENTIALS = "token.client_credentials"


@pytest.fixture
def aging(fake_entra: FakeEntra) -> None:
    """Tokens whose time to refresh is past when they arrive."""
    fake_entra.configure(expires_in=3600, refresh_in=-1)


async def test_a_5xx_past_refresh_on_returns_the_token_that_is_held(
    fake_entra: FakeEntra, service: Application, aging: None
) -> None:
    app = confidential(fake_entra, service)
    first = await app.acquire_token_for_client(GRAPH)
    fake_entra.fault("token", status=503)
    again = await app.acquire_token_for_client(GRAPH)
    assert (again["access_token"], again["token_source"]) == (first["access_token"], "cache")
    assert fake_entra.count(CREDENTIALS) == 2


async def test_so_it_does_for_a_user(fake_entra: FakeEntra, program: Application, aging: None) -> None:
    app = public(fake_entra, program)
    account = await signed_in(fake_entra, app)
    fake_entra.fault("token", status=503)
    for method in (app.acquire_token_silent, app.acquire_token_silent_with_error):
        result = await method(MAIL, account)
        assert result is not None
        assert result["token_source"] == "cache"


async def test_http_exceptions_bring_msals_way_back(fake_entra: FakeEntra, service: Application, aging: None) -> None:
    app = confidential(fake_entra, service)
    await app.acquire_token_for_client(GRAPH)
    fake_entra.fault("token", status=503)
    failure = await outcome(app.acquire_token_for_client(GRAPH, http_exceptions=(RequestException,)))
    assert type(failure).__name__ == "MsalServiceError"


async def test_a_5xx_with_nothing_held_is_msals_exception(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    fake_entra.fault("token", status=503, times=1)
    failure = await outcome(app.acquire_token_for_client(GRAPH))
    assert type(failure).__name__ == "MsalServiceError"


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, (5.0, 25.0)), ({"timeout": 7}, 7), ({"timeout": (None, None)}, (None, None))],
)
async def test_requests_have_an_end_unless_told_otherwise(
    fake_entra: FakeEntra,
    service: Application,
    options: dict[str, Any],
    expected: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    def request(_: object, method: str, url: str, *, timeout: object, **rest: Any) -> Any:
        seen.append(timeout)
        rest = {name: rest.get(name) for name in ("params", "headers", "data")}
        client = fake_entra.http_client()
        if method == "get":
            del rest["data"]
        return getattr(client, method.lower())(url, **rest)

    monkeypatch.setattr("requests.Session.request", request)
    app = msal.ConfidentialClientApplication(
        service.client_id, service.client_secret, authority=fake_entra.authority(), **options
    )
    assert "access_token" in await app.acquire_token_for_client(GRAPH)
    assert set(seen) == {expected}
    assert len(seen) == 2


async def test_a_refusal_of_one_user_is_not_anothers(fake_entra: FakeEntra, service: Application) -> None:
    def answer(data: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if data["assertion"] == "ann":
            return 429, {"error": "throttled", "headers": {"Retry-After": "60"}}
        return 200, token(f"for {data['assertion']}", headers={"Retry-After": "60"})

    desk = Desk(fake_entra, answer)
    app = confidential(fake_entra, service, http_client=desk)
    for _ in range(2):  # the second time Ann's is not asked again, and Ben's is
        assert (await app.acquire_token_on_behalf_of("ann", MAIL))["error"] == "throttled"
        assert (await app.acquire_token_on_behalf_of("ben", MAIL))["access_token"] == "for ben"
        assert (await app.acquire_token_on_behalf_of("eve", MAIL))["access_token"] == "for eve"
    assert [each["assertion"] for each in desk.posts] == ["ann", "ben", "eve", "ben", "eve"]


async def test_an_http_cache_brings_msals_own_throttling_back(fake_entra: FakeEntra, service: Application) -> None:
    desk = Desk(fake_entra, lambda data: (429, {"error": data["assertion"], "headers": {"Retry-After": "60"}}))
    http_cache: dict[str, Any] = {}
    app = confidential(fake_entra, service, http_client=desk, http_cache=http_cache)
    assert (await app.acquire_token_on_behalf_of("ann", MAIL))["error"] == "ann"
    assert (await app.acquire_token_on_behalf_of("ben", MAIL))["error"] == "ann"
    assert len(desk.posts) == 1
    assert len(http_cache) > 1


async def test_what_msal_keeps_besides_is_kept(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service, client_credential="wrong")  # a 401
    desk = Desk(fake_entra, lambda data: (400, {"error": "invalid_grant"}))
    other = confidential(fake_entra, service, http_client=desk)
    for _ in range(2):
        assert (await app.acquire_token_for_client(GRAPH))["error"] == "invalid_client"
        assert (await other.acquire_token_on_behalf_of("ann", MAIL))["error"] == "invalid_grant"
    assert fake_entra.count(CREDENTIALS) == 2
    assert len(desk.posts) == 1


async def test_the_http_client_that_was_given_is_reached_for_all_else(
    fake_entra: FakeEntra, service: Application
) -> None:
    client = fake_entra.http_client()
    app = confidential(fake_entra, service, http_client=client)
    await app.ready()
    app.http_client.close()
    assert client.closed


class Refusing:
    """It refuses whatever it is asked, and remembers what that was."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        self.status_code = status
        self.headers = {} if retry_after is None else {"Retry-After": retry_after}
        self.asked = 0

    def post(self, url: str, **_: Any) -> Any:
        self.asked += 1
        return self


@pytest.mark.parametrize(
    ("status", "retry_after", "seconds"),
    [
        (429, "30", 30),
        (503, None, 5),
        (400, "30", 30),
        (400, None, 0),
        (200, "30", 0),
        (429, "0", 0),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", 5),
        (503, "99999", 3600),
    ],
)
def test_a_refusal_is_repeated_for_as_long_as_it_says(status: int, retry_after: str | None, seconds: int) -> None:
    now = [time.time()]
    client = Refusing(status, retry_after)
    throttled = Throttled(client, 5, clock=lambda: now[0])

    def asked(**data: Any) -> int:
        throttled.post("https://authority.example", data=data)
        return client.asked

    assert asked(user="ann", client_assertion="new each time") == 1
    assert asked(user="ann", client_assertion="new again") == (1 if seconds else 2)
    before = client.asked
    assert asked(user="ben") == before + 1
    now[0] += seconds - 0.1
    assert asked(user="ann") == before + (1 if seconds else 2)
    now[0] += 0.2
    asked_again = client.asked
    assert asked(user="ann") == asked_again + 1
    now[0] -= 10_000  # a clock that is set back
    asked_again = client.asked
    assert asked(user="ann") == asked_again + 1


def test_refusals_are_bounded() -> None:
    throttled = Throttled(Refusing(429, "60"), 5)
    for number in range(1_100):
        throttled.post("https://authority.example", data={"user": str(number)})
    assert len(throttled._refusals) == 1_024


def test_msals_memory_of_refusals_is_not_kept() -> None:
    cache = HttpCache()
    cache["POST https://a client_id=b scope=c hash=d 429/5xx/Retry-After"] = 1
    cache["POST https://a hash=d 400"] = cache["GET https://a hash=d 2xx"] = cache["_index_"] = 2
    assert set(cache.values()) == {2}
    assert len(cache) == 3


async def test_the_keys_are_as_msal_makes_them(fake_entra: FakeEntra, service: Application) -> None:
    """A new MSAL that names them otherwise must be noticed."""
    desk = Desk(fake_entra, lambda data: (429, {"error": "throttled", "headers": {"Retry-After": "60"}}))
    http_cache: dict[str, Any] = {}
    app = real.ConfidentialClientApplication(
        service.client_id,
        service.client_secret,
        authority=fake_entra.authority(),
        http_client=desk,
        http_cache=http_cache,
    )
    app.acquire_token_for_client(GRAPH)
    kept = HttpCache()
    for key, value in http_cache.items():
        kept[key] = value
    assert [key for key in http_cache if key.startswith("POST ")] != []
    assert [key for key in kept if key.startswith("POST ")] == []
    assert ANN not in repr(kept)
