"""The authorization code flow as MSAL drives it, with a user who needs no browser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from aiomsal.testing import EntraError
from aiomsal.testing._entra.codes import s256

from .helpers import TOKEN_PATH, claims_of, confidential, public, trusting_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiomsal.testing import Application, FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(20)

ANN, BEN = "ann@home.example", "ben@home.example"
LOOPBACK = "http://localhost:8400"
WEB = "https://app.example/signed-in"
VERIFIER = "v" * 43


@pytest.fixture
def app(fake_entra: FakeEntra) -> Application:
    fake_entra.add_user(ANN)
    fake_entra.add_user(BEN)
    return fake_entra.add_application(public=True)


@pytest.fixture
def client(fake_entra: FakeEntra, app: Application) -> Any:
    return public(fake_entra, app)


def begin(client: Any, **options: Any) -> dict[str, Any]:
    options.setdefault("response_mode", "form_post")
    flow: dict[str, Any] = client.initiate_auth_code_flow(["User.Read"], redirect_uri=LOOPBACK, **options)
    return flow


def request_uri(entra: FakeEntra, app: Application, **changes: str | None) -> str:
    """An authorization request without MSAL, in order but for the changes; None leaves a parameter out."""
    parameters: dict[str, str | None] = {
        "client_id": app.client_id,
        "response_type": "code",
        "redirect_uri": LOOPBACK,
        "scope": "openid offline_access User.Read",
        "state": "the state",
        "code_challenge": s256(VERIFIER),
        "code_challenge_method": "S256",
        **changes,
    }
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{entra.authority()}/oauth2/v2.0/authorize?{query}"


def redeem(entra: FakeEntra, app: Application, code: str, /, **changes: str | None) -> dict[str, Any]:
    """Redeem a code without MSAL."""
    form: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "client_id": app.client_id,
        "code": code,
        "redirect_uri": LOOPBACK,
        "code_verifier": VERIFIER,
        **changes,
    }
    sent = {name: value for name, value in form.items() if value is not None}
    response = entra.http_client().post(f"{entra.authority()}/{TOKEN_PATH}", data=sent)
    answer: dict[str, Any] = json.loads(response.text)
    return answer


def code_from(entra: FakeEntra, app: Application, **changes: str | None) -> str:
    return entra.authorize(request_uri(entra, app, **changes), ANN).params["code"]


# -- what MSAL does


def test_msal_signs_a_user_in_and_refreshes(fake_entra: FakeEntra, client: Any) -> None:
    flow = begin(client)
    answer = fake_entra.authorize(flow["auth_uri"], ANN)
    assert (answer.method, answer.redirect_uri) == ("POST", LOOPBACK)
    result = client.acquire_token_by_auth_code_flow(flow, answer.params)
    assert claims_of(result["access_token"])["preferred_username"] == ANN
    assert result["id_token_claims"]["preferred_username"] == ANN
    (account,) = client.get_accounts()
    refreshed = client.acquire_token_silent(["User.Read"], account, force_refresh=True)
    assert claims_of(refreshed["access_token"])["oid"] == claims_of(result["access_token"])["oid"]
    assert [fake_entra.count(kind) for kind in ("authorize", "token.authorization_code", "sign_in")] == [1, 1, 0]


def test_a_web_app_signs_a_user_in_with_its_secret(fake_entra: FakeEntra) -> None:
    user = fake_entra.add_user(ANN)
    app = fake_entra.add_application(redirect_uris=[WEB])
    client = confidential(fake_entra, app)
    flow = client.initiate_auth_code_flow(["User.Read"], redirect_uri=WEB, response_mode="form_post")
    answer = fake_entra.authorize(flow["auth_uri"], user)
    assert (answer.method, answer.url) == ("POST", WEB)
    result = client.acquire_token_by_auth_code_flow(flow, answer.params)
    assert result["id_token_claims"]["oid"] == user.object_id


def test_the_id_token_carries_the_nonce_and_when_the_user_signed_in(
    fake_clock: FakeClock, fake_entra: FakeEntra, client: Any
) -> None:
    plain, aged = begin(client), begin(client, max_age=60)
    for flow in (plain, aged):
        params = fake_entra.authorize(flow["auth_uri"], ANN).params
        flow["claims"] = client.acquire_token_by_auth_code_flow(flow, params)["id_token_claims"]
    assert plain["claims"]["nonce"] != aged["claims"]["nonce"]  # MSAL has compared each with its own
    assert "auth_time" not in plain["claims"]
    assert aged["claims"]["auth_time"] == int(fake_clock())


def test_a_refresh_brings_no_nonce(fake_entra: FakeEntra, app: Application) -> None:
    answer = redeem(fake_entra, app, code_from(fake_entra, app, nonce="n-1"))
    assert claims_of(answer["id_token"])["nonce"] == "n-1"
    again = redeem(fake_entra, app, "", grant_type="refresh_token", code=None, refresh_token=answer["refresh_token"])
    assert "nonce" not in claims_of(again["id_token"])


def test_client_info_comes_with_the_code_and_the_tokens_where_it_is_asked_for(
    fake_entra: FakeEntra, app: Application
) -> None:
    asked = fake_entra.authorize(request_uri(fake_entra, app, client_info="1"), ANN).params
    assert redeem(fake_entra, app, asked["code"], client_info="1")["client_info"] == asked["client_info"]
    not_asked = fake_entra.authorize(request_uri(fake_entra, app), ANN).params
    assert "client_info" not in not_asked
    assert "client_info" not in redeem(fake_entra, app, not_asked["code"])


def test_a_refresh_token_comes_for_offline_access_only(fake_entra: FakeEntra, app: Application) -> None:
    assert "refresh_token" in redeem(fake_entra, app, code_from(fake_entra, app))
    assert "refresh_token" not in redeem(fake_entra, app, code_from(fake_entra, app, scope="openid User.Read"))


@pytest.mark.parametrize(
    ("mode", "method", "url"),
    [
        (None, "GET", LOOPBACK + "/?here=1&{}"),
        ("query", "GET", LOOPBACK + "/?here=1&{}"),
        ("fragment", "GET", LOOPBACK + "/?here=1#{}"),
        ("form_post", "POST", LOOPBACK + "/?here=1"),
    ],
)
def test_the_answer_comes_in_the_mode_asked_for(fake_entra: FakeEntra, mode: str | None, method: str, url: str) -> None:
    fake_entra.add_user(ANN)
    app = fake_entra.add_application(public=True, redirect_uris=["http://localhost?here=1"])
    uri = request_uri(fake_entra, app, response_mode=mode, redirect_uri=LOOPBACK + "/?here=1")
    answer = fake_entra.authorize(uri, ANN)
    assert (answer.method, answer.url) == (method, url.format(urlencode(answer.params)))
    assert answer.params["state"] == "the state"


def test_who_declines_is_an_error_for_the_application(fake_entra: FakeEntra, client: Any) -> None:
    flow = begin(client)
    params = fake_entra.authorize(flow["auth_uri"], decline=True).params
    assert (params["error"], params["error_subcode"], params["state"]) == ("access_denied", "cancel", flow["state"])
    assert params["error_description"].startswith("AADSTS65004: ")
    assert client.acquire_token_by_auth_code_flow(flow, params)["error"] == "access_denied"
    assert fake_entra.requests[-1].error == "access_denied"


def test_under_common_the_users_home_issues(fake_entra: FakeEntra, app: Application) -> None:
    other = fake_entra.add_tenant("contoso.example")
    fake_entra.add_user("cleo@contoso.example", tenant="contoso.example")
    client = public(fake_entra, app, authority=fake_entra.authority("common"))
    flow = begin(client)
    params = fake_entra.authorize(flow["auth_uri"], "cleo@contoso.example").params
    result = client.acquire_token_by_auth_code_flow(flow, params)
    assert result["id_token_claims"]["tid"] == other.tenant_id


def test_msal_goes_all_the_way_over_https(fake_entra: FakeEntra, app: Application) -> None:
    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        options = {"authority": server.authority(), "http_client": session, "instance_discovery": False}
        client = public(fake_entra, app, **options)
        flow = begin(client)
        assert flow["auth_uri"].startswith(server.url)
        params = fake_entra.authorize(flow["auth_uri"], ANN).params
        assert "access_token" in client.acquire_token_by_auth_code_flow(flow, params)


# -- what a code is bound to


def test_a_code_works_once(fake_entra: FakeEntra, app: Application) -> None:
    code = code_from(fake_entra, app)
    assert "access_token" in redeem(fake_entra, app, code)
    again = redeem(fake_entra, app, code)
    assert (again["error"], again["error_codes"]) == ("invalid_grant", [54005])


def test_a_code_expires(fake_clock: FakeClock, fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.configure(authorization_code_expires_in=10)
    first, second = code_from(fake_entra, app), code_from(fake_entra, app)
    fake_clock.advance(9)
    assert "access_token" in redeem(fake_entra, app, first)
    fake_clock.advance(1)
    late = redeem(fake_entra, app, second)
    assert (late["error"], late["error_codes"]) == ("invalid_grant", [70008])


@pytest.mark.parametrize(
    ("changes", "error", "number"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant", 501481),
        ({"code_verifier": None}, "invalid_grant", 501481),
        ({"redirect_uri": "http://localhost:8401"}, "invalid_client", 500112),
        ({"redirect_uri": None}, "invalid_request", 900144),
        ({"code": "made up"}, "invalid_grant", 70000),
        ({"code": None}, "invalid_request", 900144),
    ],
)
def test_a_code_is_bound_to_what_it_was_asked_with_and_a_refusal_does_not_use_it_up(
    fake_entra: FakeEntra, app: Application, changes: dict[str, str | None], error: str, number: int
) -> None:
    code = code_from(fake_entra, app)
    refused = redeem(fake_entra, app, code, **changes)
    assert (refused["error"], refused["error_codes"]) == (error, [number])
    assert "access_token" in redeem(fake_entra, app, code)


def test_a_code_belongs_to_its_client(fake_entra: FakeEntra, app: Application) -> None:
    other = fake_entra.add_application(public=True)
    assert redeem(fake_entra, other, code_from(fake_entra, app))["error_codes"] == [70000]


def test_a_verifier_where_there_was_no_challenge_is_refused(fake_entra: FakeEntra, app: Application) -> None:
    """Somebody took the challenge out of the request on its way (RFC 9700, section 4.8)."""
    code = code_from(fake_entra, app, code_challenge=None, code_challenge_method=None)
    assert redeem(fake_entra, app, code)["error_codes"] == [501481]
    assert "access_token" in redeem(fake_entra, app, code, code_verifier=None)


def test_a_confidential_client_must_prove_itself_to_redeem(fake_entra: FakeEntra) -> None:
    fake_entra.add_user(ANN)
    app = fake_entra.add_application(redirect_uris=[LOOPBACK])
    code = code_from(fake_entra, app)
    assert redeem(fake_entra, app, code)["error_codes"] == [7000218]
    assert "access_token" in redeem(fake_entra, app, code, client_secret=app.client_secret)


# -- requests that are not in order


@pytest.mark.parametrize(
    ("changes", "error", "number"),
    [
        ({"response_type": "token"}, "unsupported_response_type", 700051),
        ({"response_type": None}, "invalid_request", 900144),
        ({"response_mode": "web_message"}, "invalid_request", 70007),
        ({"scope": None}, "invalid_request", 900144),
        ({"scope": "api://a/Read api://a/.default"}, "invalid_scope", 70011),
        ({"prompt": "please"}, "invalid_request", 90023),
        ({"max_age": "-1"}, "invalid_request", 9002313),
        ({"claims": "[]"}, "invalid_request", 90023),
        ({"code_challenge_method": "plain"}, "invalid_request", 9002313),
        ({"code_challenge_method": None}, "invalid_request", 9002313),
        ({"code_challenge": None}, "invalid_request", 900144),
        ({"code_challenge": "short"}, "invalid_request", 501491),
        ({"prompt": "none"}, "login_required", 50058),
    ],
)
def test_what_is_wrong_with_a_request_goes_back_to_the_application(
    fake_entra: FakeEntra, app: Application, changes: dict[str, str | None], error: str, number: int
) -> None:
    answer = fake_entra.authorize(request_uri(fake_entra, app, **changes), ANN)
    assert (answer.params["error"], answer.params["state"]) == (error, "the state")
    assert answer.params["error_description"].startswith(f"AADSTS{number}: ")
    assert "code" not in answer.params
    assert fake_entra.requests[-1].error == error


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"client_id": None}, 900144),
        ({"client_id": "nobody"}, 700016),
        ({"redirect_uri": None}, 900971),
        ({"redirect_uri": "https://evil.example"}, 50011),
        ({"redirect_uri": "https://localhost"}, 50011),
        ({"redirect_uri": "http://127.0.0.1"}, 50011),
        ({"redirect_uri": "http://localhost.evil.example"}, 50011),
        ({"redirect_uri": "http://localhost@evil.example"}, 50011),
        ({"redirect_uri": "http://me@localhost"}, 50011),
        ({"redirect_uri": "http://localhost/elsewhere"}, 50011),
        ({"redirect_uri": "http://localhost:port"}, 50011),
        ({"redirect_uri": "http://localhost/#there"}, 50011),
        ({"redirect_uri": "http://localhost/?<script>"}, 50011),
        ({"redirect_uri": "http://localhost/\r\nX: y"}, 50011),
        ({"redirect_uri": "http://localhost\n"}, 50011),
    ],
)
def test_nothing_is_sent_to_an_address_that_is_not_registered(
    fake_entra: FakeEntra, app: Application, changes: dict[str, str | None], number: int
) -> None:
    uri = request_uri(fake_entra, app, **changes)
    with pytest.raises(ValueError, match=f"it shows: AADSTS{number}: "):
        fake_entra.authorize(uri, ANN)
    response = fake_entra.handle("GET", uri)
    assert response.status == 400
    assert dict(response.headers)["Content-Type"].startswith("text/html")
    assert "Location" not in dict(response.headers)
    assert b"<script>" not in response.body
    assert fake_entra.requests[-1].error in ("invalid_request", "unauthorized_client")


@pytest.mark.parametrize(
    ("registered", "asked", "good"),
    [
        ("http://localhost", "http://localhost", True),
        ("http://localhost", "http://localhost/", True),
        ("http://localhost:1", "http://localhost:2", True),
        ("http://localhost/a", "http://localhost:2/a", True),
        ("http://127.0.0.1", "http://127.0.0.1:8400/", True),
        ("http://localhost/a", "http://localhost/A", False),
        (WEB, WEB, True),
        (WEB, "https://app.example:8443/signed-in", False),
        (WEB, WEB + "/", False),
        (WEB, WEB + "?x=1", False),
        ("https://localhost:1", "https://localhost:2", False),
    ],
)
def test_the_port_does_not_count_on_loopback_and_all_else_does(
    fake_entra: FakeEntra, registered: str, asked: str, good: bool
) -> None:
    fake_entra.add_user(ANN)
    app = fake_entra.add_application(redirect_uris=["https://other.example", registered])
    uri = request_uri(fake_entra, app, redirect_uri=asked)
    if good:
        assert fake_entra.authorize(uri, ANN).redirect_uri == asked
    else:
        with pytest.raises(ValueError, match="AADSTS50011"):
            fake_entra.authorize(uri, ANN)


def test_a_confidential_client_names_its_own_addresses(fake_entra: FakeEntra) -> None:
    assert fake_entra.add_application().redirect_uris == ()
    assert fake_entra.add_application(public=True).redirect_uris == ("http://localhost",)
    assert fake_entra.add_application(public=True, redirect_uris=[]).redirect_uris == ()
    for wrong in ("app.example/here", "https://app.example/#here"):
        with pytest.raises(ValueError, match="absolute URL without a fragment"):
            fake_entra.add_application(redirect_uris=[wrong])


def test_a_request_may_be_posted(fake_entra: FakeEntra, app: Application) -> None:
    """OpenID Connect Core, section 3.1.2.1."""
    uri = urlsplit(request_uri(fake_entra, app, prompt="none"))
    response = fake_entra.handle("POST", uri._replace(query="").geturl(), {}, uri.query.encode())
    assert "error=login_required" in dict(response.headers)["Location"]


# -- the method itself


def test_a_user_who_does_not_exist_or_a_page_that_is_none_is_an_error_of_the_test(
    fake_entra: FakeEntra, app: Application
) -> None:
    uri = request_uri(fake_entra, app)
    wrong: list[tuple[str, Callable[[], object]]] = [
        ("no user 'nobody'", lambda: fake_entra.authorize(uri, "nobody")),
        ("say which user", lambda: fake_entra.authorize(uri)),
        ("nobody signs in at", lambda: fake_entra.authorize(f"{fake_entra.authority()}/{TOKEN_PATH}?a=b", ANN)),
        ("https", lambda: fake_entra.authorize("http://localhost", ANN)),
    ]
    for words, call in wrong:
        with pytest.raises(ValueError, match=words):
            call()
    assert fake_entra.count() == 0


def test_an_error_told_to_the_page_goes_to_the_application(fake_entra: FakeEntra, app: Application) -> None:
    fake_entra.fault("authorize", error=EntraError(90033, error="server_error"), times=1)
    answer = fake_entra.authorize(request_uri(fake_entra, app), ANN)
    assert (answer.params["error"], answer.params["state"]) == ("server_error", "the state")
    fake_entra.fault("authorize", status=503, times=1)
    with pytest.raises(ValueError, match="an error that is not about signing in"):
        fake_entra.authorize(request_uri(fake_entra, app), ANN)
    fake_entra.fault("authorize", error=EntraError(90033), status=503, times=1)
    assert fake_entra.handle("GET", request_uri(fake_entra, app)).status == 503
    fake_entra.fault("authorize", reset=True, times=1)
    with pytest.raises(ConnectionResetError):
        fake_entra.authorize(request_uri(fake_entra, app), ANN)
    assert "code" in fake_entra.authorize(request_uri(fake_entra, app), ANN).params


def test_what_is_secret_shows_nowhere(fake_entra: FakeEntra, client: Any) -> None:
    flow = begin(client, login_hint=ANN, prompt="login", domain_hint="home.example", max_age=9)
    answer = fake_entra.authorize(flow["auth_uri"], ANN)
    result = client.acquire_token_by_auth_code_flow(flow, answer.params)
    sent = parse_qs(urlsplit(flow["auth_uri"]).query)
    secrets = [flow["code_verifier"], sent["nonce"][0], sent["code_challenge"][0], *answer.params.values()]
    shown = repr((fake_entra.requests, answer))
    for secret in (*secrets, result["access_token"], result["refresh_token"]):
        assert secret not in shown
    (record,) = (record for record in fake_entra.requests if record.kind == "authorize")
    assert record.parameters == {
        "code_challenge_method": "S256",
        "domain_hint": "home.example",
        "login_hint": ANN,
        "max_age": "9",
        "prompt": "login",
        "redirect_uri": LOOPBACK,
        "response_mode": "form_post",
        "response_type": "code",
    }
    assert (record.client_id, record.scope) == (client.client_id, "User.Read offline_access openid profile")
