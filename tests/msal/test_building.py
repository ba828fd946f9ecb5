"""Building: not before it is needed, once, in a worker thread; and what is there before and after."""

from __future__ import annotations

import asyncio
import copy
import os
import threading
from typing import TYPE_CHECKING, Any

import msal as real
import pytest

from aiomsal import msal

from .support import GRAPH, arrived, confidential, crowd, outcome, public

if TYPE_CHECKING:
    from aiomsal.testing import Application, FakeEntra

DISCOVERY = "discovery"


def test_the_constructor_asks_nobody(fake_entra: FakeEntra, service: Application) -> None:
    before = threading.active_count()
    app = confidential(fake_entra, service)
    assert fake_entra.count() == 0
    assert threading.active_count() == before
    assert not hasattr(app, "token_cache")


def test_an_attribute_of_msals_says_how_to_get_it_before_it_is_built(
    fake_entra: FakeEntra, service: Application
) -> None:
    with pytest.raises(AttributeError, match=r"attribute 'authority'.*`await app\.ready\(\)` first"):
        confidential(fake_entra, service).authority  # noqa: B018


async def test_ready_builds_it_in_a_worker_thread_and_brings_msals_attributes(
    fake_entra: FakeEntra, service: Application
) -> None:
    threads: list[threading.Thread] = []

    class Client(type(fake_entra.http_client())):  # type: ignore[misc]
        def get(self, *args: Any, **options: Any) -> Any:
            threads.append(threading.current_thread())
            return super().get(*args, **options)

    cache = real.TokenCache()
    app = confidential(fake_entra, service, http_client=Client(fake_entra, None), token_cache=cache)
    assert await app.ready() is app
    assert app.token_cache is cache
    assert app.authority.tenant == fake_entra.tenant_id
    assert app.client_id == service.client_id
    assert {each.name.startswith("aiomsal-msal") for each in threads} == {True}
    with pytest.raises(AttributeError, match="nothing"):
        app.nothing  # noqa: B018


async def test_who_comes_meanwhile_shares_the_building(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    with fake_entra.hold("discovery") as gate:
        waiting = asyncio.gather(crowd(app.ready), crowd(app.is_pop_supported), crowd(app.get_accounts))
        await arrived(gate)
    built, pop, accounts = await waiting
    assert built == [app] * 20
    assert pop == [None] * 20
    assert accounts == [[]] * 20
    once = fake_entra.count(DISCOVERY)
    await app.ready()
    assert fake_entra.count(DISCOVERY) == once == 1


async def test_a_failure_is_for_all_who_wait_and_the_next_call_tries_again(
    fake_entra: FakeEntra, service: Application
) -> None:
    app = confidential(fake_entra, service)
    fake_entra.fault("discovery", reset=True, times=1)
    with fake_entra.hold("discovery") as gate:
        waiting = asyncio.ensure_future(crowd(lambda: app.acquire_token_for_client(GRAPH)))
        waiting_too = asyncio.ensure_future(crowd(app.ready))
        await arrived(gate)
    failures = [*await waiting, *await waiting_too]
    assert {type(each).__name__ for each in failures} == {"ConnectionError"}
    assert len({id(each) for each in await crowd(app.ready, 1)}) == 1
    assert "access_token" in await app.acquire_token_for_client(GRAPH)


async def test_what_msals_constructor_rejects_is_raised_unchanged_by_each_call() -> None:
    wrong: list[dict[str, Any]] = [
        {"authority": "https://login.microsoftonline.com"},
        {"authority": "http://login.microsoftonline.com/tenant"},
        {"exclude_scopes": "openid"},
        {"exclude_scopes": ["openid"]},
        {"authority": "https://login.microsoftonline.com/t", "oidc_authority": "https://login.microsoftonline.com/t"},
        {"client_credential": {"neither": "nor"}},
    ]
    for options in wrong:
        try:
            real.ConfidentialClientApplication("client", http_client=_Closed(), **options)
        except Exception as error:
            expected = error
        app = msal.ConfidentialClientApplication("client", http_client=_Closed(), **options)
        for _ in range(2):
            failure = await outcome(app.acquire_token_for_client(GRAPH))
            assert (type(failure), str(failure)) == (type(expected), str(expected))


class _Closed:
    def get(self, url: str, **_: Any) -> Any:
        raise OSError("no network")

    post = get


def test_a_public_client_with_a_credential_or_an_unknown_argument_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="Public Client should not possess credentials"):
        msal.PublicClientApplication("client", "secret")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        msal.PublicClientApplication("client", nonsense=1)


async def test_a_call_outside_of_an_event_loop_says_to_await_it(fake_entra: FakeEntra, program: Application) -> None:
    app = public(fake_entra, program)

    def without_a_loop() -> None:
        for call in (app.ready(), app.get_accounts(), app.acquire_token_interactive(["User.Read"])):
            with pytest.raises(RuntimeError, match="await this in a coroutine run by asyncio or trio"):
                call.send(None)

    await asyncio.to_thread(without_a_loop)
    assert fake_entra.count() == 0


def test_loops_one_after_another_share_the_application_and_its_tokens(
    fake_entra: FakeEntra, service: Application
) -> None:
    app = confidential(fake_entra, service)
    sources = [asyncio.run(app.acquire_token_for_client(GRAPH))["token_source"] for _ in range(3)]
    assert sources == ["identity_provider", "cache", "cache"]
    assert fake_entra.count(DISCOVERY) == 1


@pytest.mark.anyio
async def test_it_runs_on_every_backend(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    assert (await app.acquire_token_for_client(GRAPH))["token_source"] == "identity_provider"
    assert (await app.acquire_token_for_client(GRAPH))["token_source"] == "cache"


async def test_a_class_of_the_users_own_inherits_from_it(fake_entra: FakeEntra, service: Application) -> None:
    class Mine(msal.ConfidentialClientApplication):
        pass

    app = Mine(
        service.client_id,
        service.client_secret,
        authority=fake_entra.authority(),
        http_client=fake_entra.http_client(),
    )
    assert "access_token" in await app.acquire_token_for_client(GRAPH)
    assert type(app._desk.built) is real.ConfidentialClientApplication


def test_what_copy_looks_for_is_not_looked_for_in_msal(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    with pytest.raises(AttributeError, match="object has no attribute '__array__'"):
        app.__array__  # noqa: B018
    twin = copy.copy(app)
    assert "access_token" in asyncio.run(twin.acquire_token_for_client(GRAPH))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_builds_its_own(fake_entra: FakeEntra, service: Application) -> None:
    app = confidential(fake_entra, service)
    asyncio.run(app.acquire_token_for_client(GRAPH))
    assert app._desk.built is not None
    child = os.fork()
    if child == 0:
        try:
            unbuilt = app._desk.built is None and app._desk._here() in app._desk._processes.values()
            unbuilt = unbuilt and len(app._desk._processes) == 1
            result = asyncio.run(app.acquire_token_for_client(GRAPH))
            os._exit(0 if unbuilt and result["token_source"] == "identity_provider" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
