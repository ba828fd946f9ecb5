"""Each fault, as MSAL and requests see it, within the process and over HTTPS alike."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import msal
import pytest
import requests

from aiomsal.testing import EntraError, Gate
from aiomsal.testing._entra.gate import Waiter

from .helpers import GRAPH, TOKEN_PATH, claims_of, confidential, in_threads, token_form, trusting_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiomsal.testing import Application, FakeClock, FakeEntra, RequestRecord

    Post = Callable[..., Any]

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def app(fake_entra: FakeEntra) -> Application:
    return fake_entra.add_application()


@pytest.fixture(params=["in process", "over https"])
def post(request: pytest.FixtureRequest, fake_entra: FakeEntra, app: Application) -> Iterator[Post]:
    """Ask the token endpoint; what comes back, and what is raised, is the same with either face."""
    with contextlib.ExitStack() as stack:
        if request.param == "in process":
            client: Any = fake_entra.http_client()
            authority = fake_entra.authority()
        else:
            server = stack.enter_context(fake_entra.serve())
            client = stack.enter_context(trusting_session(server.ca_file))
            authority = server.authority()

        def ask(timeout: Any = 10, **changes: str) -> Any:
            return client.post(f"{authority}/{TOKEN_PATH}", data=token_form(app, **changes), timeout=timeout)

        yield ask


def test_a_status_comes_as_often_as_it_was_asked_for(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", status=503, times=2)
    assert [post().status_code for _ in range(3)] == [503, 503, 200]
    assert [(r.status, r.error) for r in fake_entra.requests] == [(503, "temporarily_unavailable")] * 2 + [(200, "")]


def test_a_status_without_times_comes_until_it_is_cleared(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", status=500)
    assert [post().status_code for _ in range(3)] == [500, 500, 500]
    fake_entra.clear_faults()
    assert post().status_code == 200


@pytest.mark.parametrize(("retry_after", "header"), [(7, "7"), (1.5, "1.5"), ("Wed, 21 Oct 2026 07:28:00 GMT",) * 2])
def test_retry_after_comes_with_429(fake_entra: FakeEntra, post: Post, retry_after: float | str, header: str) -> None:
    fake_entra.fault("token", retry_after=retry_after, times=1)
    response = post()
    assert (response.status_code, response.headers["retry-after"]) == (429, header)
    assert json.loads(response.text)["error_codes"] == [90055]


def test_retry_after_comes_with_another_status_if_asked(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", status=503, retry_after=3)
    response = post()
    assert (response.status_code, response.headers["Retry-After"]) == (503, "3")


def test_garbage_is_html_with_status_200(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", garbage=True, times=1)
    response = post()
    assert response.status_code == 200
    with pytest.raises(ValueError):
        json.loads(response.text)


def test_any_error_can_be_answered(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", error=EntraError(53003, claims="{}"), times=1)
    fake_entra.fault("token", error=EntraError(123456, error="strange", status=418), times=1)
    first, second = post(), post()
    assert first.status_code == 400
    assert json.loads(first.text)["claims"] == "{}"
    assert json.loads(first.text)["error_description"].startswith("AADSTS53003: ")
    assert second.status_code == 418
    assert json.loads(second.text)["error"] == "strange"


def test_a_reset_is_a_connection_error(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", reset=True, times=1)
    with pytest.raises(requests.ConnectionError) as caught:
        post()
    assert not isinstance(caught.value, requests.Timeout)  # Python's ssl reports a reset as an end, or as a reset
    assert fake_entra.requests[0].status is None
    assert post().status_code == 200


@pytest.mark.parametrize("timeout", [0.2, (5, 0.2)])
def test_a_hang_is_a_read_timeout(fake_entra: FakeEntra, post: Post, timeout: Any) -> None:
    fake_entra.fault("token", hang=True, times=1)
    with pytest.raises(requests.ReadTimeout):
        post(timeout=timeout)
    assert fake_entra.count("token") == 1
    assert post().status_code == 200


def test_what_hangs_is_answered_when_faults_are_cleared(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token.client_credentials", hang=True)
    with fake_entra.hold("token") as gate:  # tells when both have arrived
        pool, asked = in_threads(post, 2)
        gate.wait_for(2)
    assert not any(future.done() for future in asked)
    fake_entra.clear_faults("token")
    assert [future.result(10).status_code for future in asked] == [200, 200]
    pool.shutdown()


def test_latency_delays_the_answer(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", latency=0.15, times=1)
    fake_entra.fault("token", latency=0.15, times=1)
    start = time.monotonic()
    assert post().status_code == 200
    assert time.monotonic() - start >= 0.29  # latencies add up


def test_latency_beyond_the_timeout_is_a_read_timeout(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", latency=20, times=1)
    start = time.monotonic()
    with pytest.raises(requests.ReadTimeout):
        post(timeout=0.2)
    assert time.monotonic() - start < 10


def test_latency_goes_with_a_status(fake_entra: FakeEntra, post: Post) -> None:
    fake_entra.fault("token", latency=0.1)
    fake_entra.fault("token", status=502, times=1)
    start = time.monotonic()
    assert [post().status_code, post().status_code] == [502, 200]
    assert time.monotonic() - start >= 0.19


def test_skew_puts_the_servers_clock_ahead(fake_entra: FakeEntra, fake_clock: FakeClock, post: Post) -> None:
    fake_entra.fault("token", skew=-3600, times=1)
    skewed, true = (claims_of(json.loads(post().text)["access_token"])["iat"] for _ in range(2))
    assert (skewed, true) == (int(fake_clock() - 3600), int(fake_clock()))


def test_a_fault_of_one_kind_leaves_others_alone(fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.fault("token.refresh_token", status=500)
    fake_entra.fault("devicecode", status=500)
    assert "access_token" in confidential(fake_entra, app).acquire_token_for_client(GRAPH)


def test_a_fault_of_discovery_fails_the_constructor(fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.fault("discovery", status=503, times=1)
    with pytest.raises(Exception, match="503"):
        confidential(fake_entra, app)
    confidential(fake_entra, app)


def test_an_unknown_instance_is_refused(fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.fault("instance_discovery", error=EntraError(50049))
    with pytest.raises(ValueError, match="invalid_instance"):
        confidential(fake_entra, app, authority=f"https://login.contoso.example/{fake_entra.tenant_id}")


def test_garbage_is_a_value_error_in_msal(fake_entra: FakeEntra, app: Application) -> None:
    client = confidential(fake_entra, app)
    fake_entra.fault("token", garbage=True)
    with pytest.raises(ValueError):
        client.acquire_token_for_client(GRAPH)


def test_a_5xx_is_a_service_error_in_msal(fake_entra: FakeEntra, app: Application) -> None:
    client = confidential(fake_entra, app)
    fake_entra.fault("token", status=500)
    with pytest.raises(msal.exceptions.MsalServiceError):
        client.acquire_token_for_client(GRAPH)


def test_a_fault_can_choose_its_requests(fake_entra: FakeEntra, app: Application) -> None:
    def is_for_vault(record: RequestRecord) -> bool:
        return record.scope == "https://vault.azure.net/.default"

    fake_entra.fault("token", error=EntraError(500011), match=is_for_vault, times=1)
    client = confidential(fake_entra, app)
    assert "access_token" in client.acquire_token_for_client(GRAPH)
    assert client.acquire_token_for_client(["https://vault.azure.net/.default"])["error"] == "invalid_resource"
    assert "access_token" in client.acquire_token_for_client(["https://vault.azure.net/.default"])


def test_the_fault_made_first_decides_and_the_second_waits(fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.fault("token", status=500, times=1)
    fake_entra.fault("", status=502, times=1)
    client = fake_entra.http_client()
    url = f"{fake_entra.authority()}/{TOKEN_PATH}"
    assert [client.post(url, data=token_form(app)).status_code for _ in range(3)] == [500, 502, 200]


def test_clearing_one_kind_keeps_the_faults_of_others(fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.fault("token.client_credentials", status=500)
    fake_entra.fault("discovery", status=502)
    fake_entra.clear_faults("token")
    client = fake_entra.http_client()
    assert client.post(f"{fake_entra.authority()}/{TOKEN_PATH}", data=token_form(app)).status_code == 200
    assert client.get(f"{fake_entra.authority()}/v2.0/.well-known/openid-configuration").status_code == 502


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"status": 500, "reset": True},
        {"hang": True, "garbage": True},
        {"status": 500, "times": 0},
        {"latency": -1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fake_entra: FakeEntra, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        fake_entra.fault("token", **wrong)


def test_a_kind_that_no_request_has_is_refused(fake_entra: FakeEntra) -> None:
    for method in (fake_entra.count, fake_entra.hold, fake_entra.clear_faults):
        with pytest.raises(ValueError, match=r"no request is of the kind 'tokens': choose one of .*token\.refresh"):
            method("tokens")
    with pytest.raises(ValueError, match="no request is of the kind"):
        fake_entra.fault("token.client", status=500)


# -- gates


def test_requests_wait_at_a_gate_and_go_in_the_order_of_their_arrival(fake_entra: FakeEntra, post: Post) -> None:
    done: list[str] = []

    def ask(scope: str) -> None:
        post(scope=scope)
        done.append(scope)

    with fake_entra.hold("token") as gate:
        threads = [threading.Thread(target=ask, args=(f"api://{n}/.default",)) for n in range(3)]
        for n, thread in enumerate(threads, 1):
            thread.start()
            gate.wait_for(n)
        assert done == []
        for n, thread in enumerate(threads):
            assert gate.release(1) == 1
            thread.join(10)
            assert done == [f"api://{m}/.default" for m in range(n + 1)]
        assert gate.waiting == 0


def test_an_open_gate_lets_everyone_pass(fake_entra: FakeEntra, post: Post) -> None:
    with fake_entra.hold("token") as gate:
        assert gate.release() == 0
        assert post().status_code == 200
    assert post().status_code == 200


def test_a_gate_opens_when_its_block_ends(fake_entra: FakeEntra, post: Post) -> None:
    with fake_entra.hold("token") as gate:
        pool, asked = in_threads(post, 2)
        gate.wait_for(2)
        assert fake_entra.count("token") == 2
        assert [record.status for record in fake_entra.requests] == [None, None]
    assert [future.result(10).status_code for future in asked] == [200, 200]
    pool.shutdown()


def test_an_opened_gate_lets_requests_go_in_the_order_of_their_arrival() -> None:
    gate, gone = Gate("token"), list[int]()
    for n in range(5):
        Waiter([gate]).when_ready(functools.partial(gone.append, n))
    assert gate.release() == 5
    assert gone == [0, 1, 2, 3, 4]


def test_a_client_that_leaves_no_longer_waits(fake_entra: FakeEntra, post: Post) -> None:
    with fake_entra.hold("token") as gate:
        with pytest.raises(requests.ReadTimeout):
            post(timeout=0.1)
        deadline = time.monotonic() + 10
        while gate.waiting and time.monotonic() < deadline:
            time.sleep(0.005)  # over HTTPS, the server hears of it in its own time
        assert gate.waiting == 0


def test_a_gate_that_waits_in_vain_says_how_many_came(fake_entra: FakeEntra) -> None:
    with (
        fake_entra.hold("token") as gate,
        pytest.raises(TimeoutError, match=r"0 of 2 requests wait at the gate for 'token' after 0\.01 s"),
    ):
        gate.wait_for(2, timeout=0.01)


def test_a_gate_can_choose_its_requests(fake_entra: FakeEntra, post: Post) -> None:
    with fake_entra.hold("token", match=lambda record: record.scope == "api://slow/.default") as gate:
        pool, asked = in_threads(lambda: post(scope="api://slow/.default"), 1)
        gate.wait_for(1)
        assert post().status_code == 200
        assert not asked[0].done()
    assert asked[0].result(10).status_code == 200
    pool.shutdown()


def test_strict_rotation_refuses_the_second_of_two_who_come_at_once(fake_entra: FakeEntra) -> None:
    """What a gate is for: both refreshes are under way before either is answered."""
    from .helpers import public, signed_in

    fake_entra.configure(rotation="strict")
    fake_entra.add_user("adele@home.example")
    app = fake_entra.add_application(public=True)
    token = signed_in(fake_entra, public(fake_entra, app), ["User.Read"])["refresh_token"]

    def refresh() -> int:
        form = {"grant_type": "refresh_token", "client_id": app.client_id, "refresh_token": token}
        return fake_entra.http_client().post(f"{fake_entra.authority()}/{TOKEN_PATH}", data=form).status_code

    with fake_entra.hold("token.refresh_token") as gate:
        pool, asked = in_threads(refresh, 2)
        gate.wait_for(2)
    assert sorted(future.result(10) for future in asked) == [200, 400]
    pool.shutdown()
