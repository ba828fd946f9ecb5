"""The pages where a person signs in and consents, by their forms and buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiomsal.testing import AuthorizationAnswer, EntraError
from aiomsal.testing._entra.http import HttpRequest
from aiomsal.testing._entra.state import Call
from aiomsal.testing._entra.visits import OVER, decide

from .helpers import claims_of, public, signed_in
from .window import Window

if TYPE_CHECKING:
    from aiomsal.testing import FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(20)

ANN, BEN = "ann@home.example", "ben@home.example"
LOOPBACK = "http://localhost:8400"
CONSENT = EntraError(65001)


class SignIns:
    """A public client of real MSAL, and windows to sign in to it."""

    def __init__(self, entra: FakeEntra) -> None:
        self.entra = entra
        self.app = entra.add_application(public=True)
        self.client = public(entra, self.app)
        self.flow: dict[str, Any] = {}

    def uri(self, *scopes: str, **options: Any) -> str:
        options.setdefault("response_mode", "form_post")
        scopes = scopes or ("User.Read",)
        self.flow = self.client.initiate_auth_code_flow([*scopes], redirect_uri=LOOPBACK, **options)
        uri: str = self.flow["auth_uri"]
        return uri

    def open(self, *scopes: str, **options: Any) -> Window:
        return Window(self.entra, self.uri(*scopes, **options))

    def finish(self, window: Window) -> str:
        """Redeem the code that the window brings, and return whose it is."""
        result = self.client.acquire_token_by_auth_code_flow(self.flow, window.params)
        username: str = claims_of(result["access_token"])["preferred_username"]
        return username


@pytest.fixture
def sign_ins(fake_clock: FakeClock, fake_entra: FakeEntra) -> SignIns:
    fake_entra.add_user(ANN, password="correct horse")
    fake_entra.add_user(BEN)
    return SignIns(fake_entra)


def enter(window: Window, username: str = ANN, password: str = "correct horse") -> Window:
    window.click("sign-in", username=username, password=password)
    return window


# -- who are you


def test_a_person_enters_name_and_password_and_is_sent_back_by_a_form(sign_ins: SignIns) -> None:
    window = sign_ins.open()
    assert window.page.title == "Sign in"
    assert window.page.attributes["password"]["type"] == "password"
    enter(window)
    assert window.left_for is not None
    assert window.left_for[:2] == ("POST", LOOPBACK)
    assert "<noscript>" in window.page.html
    assert window.page.attributes["continue"] == {"id": "continue"}
    assert sign_ins.finish(window) == ANN
    assert [sign_ins.entra.count(kind) for kind in ("authorize", "sign_in", "token")] == [1, 1, 1]


@pytest.mark.filterwarnings("ignore:response_mode")
def test_or_by_a_redirect(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open(response_mode="query"))
    assert window.left_for is not None
    assert (window.page.status, window.left_for[:2]) == (303, ("GET", LOOPBACK))
    assert sign_ins.finish(window) == ANN


def test_who_has_no_password_needs_none(sign_ins: SignIns) -> None:
    assert sign_ins.finish(enter(sign_ins.open(), BEN.upper(), "")) == BEN


@pytest.mark.parametrize(
    ("username", "password", "number"),
    [(ANN, "wrong", 50126), (ANN, "", 50126), ("nobody", "", 50034), ("", "", 50034), ("<script>", "", 50034)],
)
def test_who_mistypes_is_told_and_may_try_again(sign_ins: SignIns, username: str, password: str, number: int) -> None:
    window = enter(sign_ins.open(), username, password)
    assert window.left_for is None
    assert window.page.ids["message"].startswith(f"AADSTS{number}: ")
    assert window.page.attributes["username"]["value"] == username
    assert "<script>" not in window.page.html
    assert window.cookies == {}
    assert sign_ins.finish(enter(window)) == ANN


def test_a_disabled_user_gets_no_further(sign_ins: SignIns) -> None:
    window = sign_ins.open()
    sign_ins.entra.disable_user(ANN)
    enter(window, ANN, "wrong")
    assert window.page.ids["message"].startswith("AADSTS50126: "), "who does not know it learns nothing"
    enter(window)
    assert window.page.ids["message"].startswith("AADSTS50057: ")
    assert sign_ins.finish(enter(window, BEN)) == BEN


def test_the_hint_is_filled_in(sign_ins: SignIns) -> None:
    page = sign_ins.open(login_hint='"><b id="x">').page
    assert page.attributes["username"]["value"] == '"><b id="x">'
    assert "x" not in page.ids


def test_who_cancels_is_sent_back(sign_ins: SignIns) -> None:
    window = sign_ins.open()
    window.click("cancel")
    assert window.params["error"] == "access_denied"
    assert window.params["error_subcode"] == "cancel"
    assert window.params["state"] == sign_ins.flow["state"]


def test_a_sign_in_ends_once(sign_ins: SignIns) -> None:
    """A person who goes back to a page that is done with is told so, whatever the button."""
    window = sign_ins.open()
    page = window.page
    enter(window)
    for button in ("sign-in", "cancel"):
        window.page = page
        window.click(button)
        assert window.page.title == "This sign-in is over"
    assert sign_ins.finish(window) == ANN


def test_of_two_who_decide_at_the_same_instant_one_is_late(sign_ins: SignIns) -> None:
    """Both clicks have found the visit under way."""
    state = sign_ins.entra._state
    visit = state.visits.find(enter(sign_ins.open(prompt="consent")).page.forms[0].fields["visit"])
    assert visit is not None
    call = Call(HttpRequest.to("POST", sign_ins.flow["auth_uri"], {}, b""), "common", {}, 0)
    first, second = (decide(state, call, visit, yes=yes) for yes in (False, True))
    assert isinstance(first, AuthorizationAnswer)
    assert second is OVER


def test_what_the_application_sent_comes_back_as_it_was(sign_ins: SignIns) -> None:
    state = "\"><b id='x'>&amp;&"
    window = enter(sign_ins.open(state=state))
    assert window.params["state"] == state
    assert "x" not in window.page.ids
    assert sign_ins.finish(window) == ANN


@pytest.mark.filterwarnings("ignore:response_mode")
def test_pages_are_not_kept_by_the_browser(sign_ins: SignIns) -> None:
    for uri in (
        sign_ins.uri(),
        sign_ins.uri(prompt="none"),
        sign_ins.uri(prompt="none", response_mode="query"),
        f"{sign_ins.entra.authority()}/oauth2/v2.0/authorize",
    ):
        headers = dict(sign_ins.entra.handle("GET", uri).headers)
        assert headers["Cache-Control"] == "no-store"


# -- may it have this


def test_consent_is_asked_for_where_it_is_outstanding_and_only_there(sign_ins: SignIns) -> None:
    sign_ins.entra.require_interaction(ANN, scope="Mail.Read", error=CONSENT)
    assert sign_ins.finish(enter(sign_ins.open("User.Read"))) == ANN
    assert sign_ins.finish(enter(sign_ins.open("Mail.Read"), BEN)) == BEN
    window = enter(sign_ins.open("Mail.Read"))
    assert window.page.title == "Permissions requested"
    assert (window.page.ids["user"], window.page.ids["application"]) == (ANN, sign_ins.app.client_id)
    assert "Mail.Read" in window.page.ids["scopes"]
    window.click("accept")
    assert sign_ins.finish(window) == ANN
    assert sign_ins.finish(enter(sign_ins.open("Mail.Read"))) == ANN


def test_a_consent_lets_the_older_refresh_token_pass_and_a_declined_one_does_not(sign_ins: SignIns) -> None:
    sign_ins.finish(enter(sign_ins.open("User.Read")))
    sign_ins.entra.require_interaction(ANN, scope="Mail.Read", error=CONSENT)
    (account,) = sign_ins.client.get_accounts()

    def refresh() -> dict[str, Any]:
        result: dict[str, Any] = sign_ins.client.acquire_token_silent_with_error(["Mail.Read"], account)
        return result

    assert refresh()["error_codes"] == [65001]
    window = enter(sign_ins.open("Mail.Read"))
    window.click("cancel")
    assert (window.params["error"], window.params["error_subcode"]) == ("access_denied", "cancel")
    assert refresh()["error_codes"] == [65001]
    signed_in(sign_ins.entra, sign_ins.client, ["User.Read"], ANN)  # and a sign-in for something else
    assert refresh()["error_codes"] == [65001]
    enter(sign_ins.open("Mail.Read")).click("accept")
    assert "access_token" in refresh()


def test_consent_can_be_asked_for(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open(prompt="consent"))
    assert window.page.title == "Permissions requested"
    window.click("accept")
    assert sign_ins.finish(window) == ANN


def test_what_a_scope_is_called_is_only_shown(sign_ins: SignIns) -> None:
    page = enter(sign_ins.open("api://<b>/Read", prompt="consent")).page
    assert "api://<b>/Read" in page.ids["scopes"]
    assert "<b>/" not in page.html


def test_nobody_accepts_who_has_not_signed_in(sign_ins: SignIns) -> None:
    window = sign_ins.open(prompt="consent")
    (form,) = window.page.forms
    form.buttons["accept"] = "accept", "1"
    window.click("accept")
    assert window.params["error"] == "access_denied"


def test_the_user_without_a_browser_consents_too(sign_ins: SignIns) -> None:
    sign_ins.entra.require_interaction(error=CONSENT)
    for options in ({}, {"prompt": "consent"}):
        assert "code" in sign_ins.entra.authorize(sign_ins.uri(**options), ANN).params
    sign_ins.entra.disable_user(ANN)
    with pytest.raises(ValueError, match="it shows: AADSTS50057"):
        sign_ins.entra.authorize(sign_ins.uri(), ANN)


# -- a browser that remembers


def again(sign_ins: SignIns, window: Window, *scopes: str, **options: Any) -> Window:
    """Come once more with the same browser."""
    window.open(sign_ins.uri(*scopes, **options))
    return window


def test_who_has_signed_in_goes_straight_through(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open())
    assert sign_ins.finish(again(sign_ins, window, "Mail.Read")) == ANN
    assert sign_ins.finish(again(sign_ins, window, login_hint=ANN.upper())) == ANN
    assert sign_ins.finish(again(sign_ins, window, prompt="none")) == ANN
    assert sign_ins.entra.count("sign_in") == 1
    assert sign_ins.open().left_for is None, "another browser"


@pytest.mark.parametrize(
    "options", [{"prompt": "login"}, {"prompt": "select_account"}, {"prompt": "create"}, {"login_hint": BEN}]
)
def test_unless_the_application_wants_to_see_them(sign_ins: SignIns, options: dict[str, str]) -> None:
    window = again(sign_ins, enter(sign_ins.open()), **options)
    assert window.left_for is None
    assert window.page.attributes["username"]["value"] == options.get("login_hint", "")
    assert sign_ins.finish(enter(window, BEN)) == BEN


def test_or_the_sign_in_is_too_old(sign_ins: SignIns, fake_clock: FakeClock) -> None:
    window = enter(sign_ins.open())
    fake_clock.advance(60)
    assert again(sign_ins, window, max_age=60).left_for
    fake_clock.advance(1)
    assert again(sign_ins, window, max_age=60, prompt="none").params["error"] == "login_required"
    assert again(sign_ins, window, max_age=60).left_for is None
    enter(window)
    assert again(sign_ins, window, max_age=60).left_for


def test_or_consent_is_wanted(sign_ins: SignIns) -> None:
    window = again(sign_ins, enter(sign_ins.open()), prompt="consent")
    assert window.page.title == "Permissions requested"
    sign_ins.entra.require_interaction(scope="Mail.Read", error=CONSENT)
    silent = again(sign_ins, window, "Mail.Read", prompt="none")
    assert silent.params["error"] == "consent_required"
    assert again(sign_ins, window, "Mail.Read").page.title == "Permissions requested"
    window.click("accept")
    assert sign_ins.finish(again(sign_ins, window, "Mail.Read", prompt="none")) == ANN


def test_or_more_is_required_than_they_have_shown(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open())
    sign_ins.entra.require_interaction(ANN)
    silent = again(sign_ins, window, prompt="none")
    assert silent.params["error"] == "interaction_required"
    assert silent.params["error_description"].startswith("AADSTS50076: ")
    assert again(sign_ins, window).page.attributes["username"]["value"] == ANN
    assert sign_ins.finish(enter(window)) == ANN
    assert sign_ins.finish(again(sign_ins, window, prompt="none")) == ANN


def test_or_the_account_is_disabled(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open())
    sign_ins.entra.disable_user(ANN)
    assert again(sign_ins, window).page.title == "Sign in"
    assert again(sign_ins, window, prompt="none").params["error"] == "interaction_required"


def test_nobody_signed_in_is_login_required(sign_ins: SignIns) -> None:
    assert sign_ins.open(prompt="none").params["error"] == "login_required"
    window = enter(sign_ins.open())
    assert again(sign_ins, window, prompt="none", login_hint=BEN).params["error"] == "login_required"


def test_of_several_accounts_a_person_chooses(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open())
    enter(again(sign_ins, window, prompt="login"), BEN)
    assert again(sign_ins, window, prompt="none").params["error"] == "login_required", "which of them?"
    assert sign_ins.finish(again(sign_ins, window, prompt="none", login_hint=BEN)) == BEN
    page = again(sign_ins, window).page
    assert [page.ids[f"account-{number}"] for number in range(2)] == [ANN, BEN]
    window.click("account-0")
    assert sign_ins.finish(window) == ANN
    again(sign_ins, window, prompt="select_account").click("account-0")
    assert sign_ins.finish(window) == BEN, "the last used is the last"


def test_an_account_that_does_not_suffice_has_to_sign_in(sign_ins: SignIns, fake_clock: FakeClock) -> None:
    window = enter(sign_ins.open())
    fake_clock.advance(10)
    again(sign_ins, window, prompt="select_account", max_age=5).click("account-0")
    assert window.left_for is None
    assert window.page.attributes["username"]["value"] == ANN
    sign_ins.entra.require_interaction(ANN)
    again(sign_ins, window, prompt="select_account").click("account-0")
    assert window.left_for is None
    assert sign_ins.finish(enter(window)) == ANN


def test_a_cookie_that_is_no_session_is_nobody(sign_ins: SignIns) -> None:
    for cookie in ("FakeEntraSession=made-up", "a=b; FakeEntraSession", "@@=;;", 'FakeEntraSession="'):
        response = sign_ins.entra.handle("GET", sign_ins.uri(), {"Cookie": cookie})
        assert b"<title>Sign in</title>" in response.body


def test_the_cookie_is_kept_from_scripts_and_other_sites(sign_ins: SignIns) -> None:
    window = sign_ins.open()
    (form,) = window.page.forms
    body = f"visit={form.fields['visit']}&username={BEN}&password=".encode()
    response = sign_ins.entra.handle("POST", f"https://login.microsoftonline.com{form.action}", {}, body)
    cookie = dict(response.headers)["Set-Cookie"]
    assert cookie.partition("; ")[2] == "Path=/; Secure; HttpOnly; SameSite=Lax"


def test_no_password_and_no_session_shows_in_the_log(sign_ins: SignIns) -> None:
    window = enter(sign_ins.open())
    shown = repr((sign_ins.entra.requests, sign_ins.entra._state.directory.user(ANN)))
    for secret in ("correct", *window.cookies.values(), window.params["code"]):
        assert secret not in shown


def test_two_windows_of_one_browser_keep_their_users_apart(sign_ins: SignIns) -> None:
    first = enter(sign_ins.open(prompt="consent"))
    second = Window(sign_ins.entra)
    second.cookies = first.cookies
    flow = sign_ins.flow
    enter(again(sign_ins, second, prompt="login"), BEN)
    assert sign_ins.finish(second) == BEN
    first.click("accept")
    sign_ins.flow = flow
    assert sign_ins.finish(first) == ANN


def test_the_pages_work_over_https(fake_entra: FakeEntra, sign_ins: SignIns) -> None:
    from .helpers import trusting_session

    with fake_entra.serve() as server, trusting_session(server.ca_file) as session:
        options = {"authority": server.authority(), "http_client": session, "instance_discovery": False}
        sign_ins.client = public(fake_entra, sign_ins.app, **options)
        page = session.get(sign_ins.uri(), timeout=10).text
        visit = page.partition('name="visit" value="')[2].partition('"')[0]
        form = {"visit": visit, "username": BEN}
        answer = session.post(f"{server.url}/common/login", data=form, timeout=10)
        assert f'action="{LOOPBACK}"' in answer.text
        assert "FakeEntraSession" in session.cookies
        assert f'action="{LOOPBACK}"' in session.get(sign_ins.uri(prompt="none"), timeout=10).text
