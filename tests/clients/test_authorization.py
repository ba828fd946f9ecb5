"""A person signs in by a browser, and the answer comes back: by real MSAL against FakeEntra's pages."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from aiomsal import (
    AuthorityError,
    AuthorityUnavailable,
    Classification,
    InteractionRequired,
    InvalidClient,
    SignInError,
    Throttled,
    TokenError,
)
from aiomsal.clients._authorization import SKEW
from aiomsal.clients._gate import Gate
from aiomsal.testing import EntraError

from .helpers import (
    ANN,
    BEN,
    GRAPH,
    REDIRECT_URI,
    Forger,
    Waits,
    acquire,
    answer_to,
    confidential,
    home,
    public,
    visited,
)
from .test_secrets import MANY, Wiretap, check, everything_in

if TYPE_CHECKING:
    from aiomsal import SignInFlow
    from aiomsal.clients.confidential import ConfidentialClient
    from aiomsal.testing import Application, FakeClock, FakeEntra

pytestmark = pytest.mark.anyio


async def begun(client: Any, *scopes: str, mode: str = "query", **asked: Any) -> SignInFlow:
    request = client.sign_in_request(scopes or ("User.Read",), asked)
    flow: SignInFlow = await client.begin_sign_in(request, redirect_uri=REDIRECT_URI, response_mode=mode)
    return flow


def query(flow: SignInFlow) -> dict[str, str]:
    found = parse_qs(urlsplit(flow.auth_uri).query)
    assert all(len(values) == 1 for values in found.values())
    return {name: value for name, (value,) in found.items()}


async def test_a_sign_in_brings_a_token_its_account_and_a_session_of_its_own(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    acquired = await visited(fake_entra, client)
    token = acquired.token
    assert token.account is not None
    assert token.account.username == ANN
    assert token.scopes == ("User.Read", "openid", "profile")
    assert token.id_token_claims["preferred_username"] == ANN
    assert acquired.session is not None
    assert token.value.encode() not in acquired.session
    assert client.accounts(acquired.session) == (token.account,)
    assert fake_entra.count("token.authorization_code") == 1
    assert fake_entra.count("discovery") == 1
    ben = await visited(fake_entra, client, BEN)
    assert [account.username for account in client.accounts(ben.session or b"")] == [BEN]


async def test_a_sign_in_is_begun_without_a_request_but_the_first_s_for_metadata(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    flows = [await begun(client) for _ in range(3)]
    assert len({flow.state for flow in flows}) == 3
    assert fake_entra.count() == fake_entra.count("discovery") == 1


async def test_all_that_is_asked_reaches_the_page(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website, client_capabilities=["CP1"])
    flow = await begun(
        client,
        *("User.Read", "Mail.Read"),
        login_hint=ANN,
        domain_hint="organizations",
        prompt="select_account",
        max_age=0,
        claims='{"access_token": {"nbf": {"value": "1"}}}',
        extra_scopes_to_consent=["https://vault.azure.net/user_impersonation"],
    )
    sent = query(flow)
    assert json.loads(sent.pop("claims")) == {"access_token": {"nbf": {"value": "1"}, "xms_cc": {"values": ["CP1"]}}}
    assert sent.pop("scope").split() == sorted(
        ["Mail.Read", "User.Read", "https://vault.azure.net/user_impersonation", "offline_access", "openid", "profile"]
    )
    assert sent.pop("X-AnchorMailbox") == f"UPN:{ANN}", "by which the platform finds the user's region"
    assert sent == {
        "client_id": website.client_id,
        "response_type": "code",
        "response_mode": "query",
        "redirect_uri": REDIRECT_URI,
        "login_hint": ANN,
        "domain_hint": "organizations",
        "prompt": "select_account",
        "max_age": "0",
        "client_info": "1",
        "state": flow.state,
        "nonce": hashlib.sha256(flow["nonce"].encode()).hexdigest(),
        "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(flow["code_verifier"].encode()).digest())
        .rstrip(b"=")
        .decode(),
        "code_challenge_method": "S256",
    }
    assert flow["code_verifier"] not in flow.auth_uri
    assert flow["nonce"] not in flow.auth_uri
    assert query(await begun(client, mode="form_post"))["response_mode"] == "form_post"
    plain = query(await begun(confidential(fake_entra, website)))
    assert not {"login_hint", "domain_hint", "prompt", "max_age", "claims", "X-AnchorMailbox"} & plain.keys()


async def test_the_token_is_for_its_scopes_and_the_others_are_consented_to(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    vault = "https://vault.azure.net/user_impersonation"
    fake_entra.require_interaction(ANN, scope=vault, error=EntraError(65001))
    acquired = await visited(fake_entra, client, extra_scopes_to_consent=["Mail.Read", vault])
    asked = fake_entra.requests[-1]
    assert asked.kind == "token.authorization_code"
    assert set(asked.scope.split()) == {"User.Read", "offline_access", "openid", "profile"}
    assert acquired.token.scopes == ("User.Read", "openid", "profile")
    assert (await acquire(client, vault, session=acquired.session, account=home(acquired))).token


async def test_a_claims_challenge_is_met_by_a_sign_in_that_brings_it(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website, client_capabilities=["CP1"])
    session = (await visited(fake_entra, client)).session
    ann = client.accounts(session or b"")[0]
    wanted = '{"access_token": {"acrs": {"essential": true, "value": "c1"}}}'
    fake_entra.require_interaction(error=EntraError(50076, claims=wanted))
    with pytest.raises(InteractionRequired) as caught:
        await acquire(client, "User.Read", session=session, account=ann)
    assert caught.value.claims == wanted
    again = await visited(fake_entra, client, claims=caught.value.claims)
    sent = json.loads(fake_entra.requests[-1].claims)["access_token"]
    assert sent["xms_cc"] == {"values": ["CP1"]}
    assert sent["acrs"]["value"] == "c1"
    assert (await acquire(client, "User.Read", session=again.session, account=ann)).token


@pytest.mark.parametrize("by_way_of_json", [False, True])
async def test_a_flow_may_come_back_from_a_cookie_and_to_another_process(
    by_way_of_json: bool, fake_entra: FakeEntra, website: Application
) -> None:
    flow, params = await answer_to(fake_entra, confidential(fake_entra, website))
    kept: dict[str, Any] = json.loads(json.dumps(flow)) if by_way_of_json else flow
    before = dict(kept)
    another = confidential(fake_entra, website)
    assert (await another.complete_sign_in(kept, params)).token.account
    assert kept == before, "MSAL takes things out of its flow"


@pytest.mark.parametrize("fault", [{"reset": True}, {"status": 503}, {"lost": True}, {"garbage": True}], ids=str)
async def test_a_code_is_sent_once_and_never_again(
    fault: dict[str, Any], fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    flow, params = await answer_to(fake_entra, client)
    fake_entra.fault("token", **fault)
    with pytest.raises(AuthorityUnavailable):
        await client.complete_sign_in(flow, params)
    assert fake_entra.count("token") == 1


async def test_a_code_that_was_used_is_refused_by_the_authority(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    flow, params = await answer_to(fake_entra, client)
    await client.complete_sign_in(flow, params)
    with pytest.raises(SignInError) as caught:
        await client.complete_sign_in(flow, params)
    assert caught.value.code == "invalid_grant"
    assert caught.value.error_codes == (54005,)
    assert fake_entra.count("token") == 2


async def test_a_code_of_another_flow_fails_by_its_verifier(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    mine, params = await answer_to(fake_entra, client)
    _, stolen = await answer_to(fake_entra, client, BEN)
    with pytest.raises(SignInError) as caught:
        await client.complete_sign_in(mine, {**params, "code": stolen["code"]})
    assert caught.value.code == "invalid_grant"
    assert fake_entra.count("token") == 1


@pytest.mark.parametrize("params", [{"state": "x"}, {"error": "access_denied"}, {"code": ""}], ids=str)
async def test_an_answer_that_cannot_be_right_is_not_taken_to_the_authority(
    params: dict[str, str], fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    flow, answer = await answer_to(fake_entra, client)
    with pytest.raises(SignInError):
        await client.complete_sign_in(flow, {**answer, **params})
    assert fake_entra.count("token") == 0


async def test_who_declines_is_told_in_the_authority_s_words(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    flow = await begun(client)
    params = fake_entra.authorize(flow.auth_uri, decline=True).params
    with pytest.raises(SignInError, match="the person declined") as caught:
        await client.complete_sign_in(flow, params)
    assert (caught.value.code, caught.value.error_codes) == ("access_denied", (65004,))
    assert caught.value.correlation_id


async def test_a_page_that_was_to_show_nothing_and_would_have_had_to_asks_for_a_person(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    flow = await begun(client, prompt="none")
    params = fake_entra.authorize(flow.auth_uri, ANN).params
    with pytest.raises(InteractionRequired) as caught:
        client.answered(flow, params)
    assert caught.value.classification is Classification.PROMPT_NEVER_FAILED
    assert caught.value.error_codes == (50058,)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "another-app"}, "wrong_audience"),
        ({"aud": ["another-app"]}, "wrong_audience"),
        ({"aud": None}, "wrong_audience"),
        ({"nonce": "another"}, "nonce_mismatch"),
        ({"nonce": None}, "nonce_mismatch"),
    ],
    ids=str,
)
async def test_an_id_token_for_somebody_or_something_else_is_refused_and_not_quoted(
    claims: dict[str, Any], code: str, fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website, http_client=Forger(fake_entra, **claims))
    flow, params = await answer_to(fake_entra, client)
    with pytest.raises(SignInError) as caught:
        await client.complete_sign_in(flow, params)
    assert caught.value.code == code
    assert caught.value.correlation_id
    for seen in everything_in(caught.value):
        assert ANN not in seen
        assert flow["nonce"] not in seen
    assert fake_entra.count("token") == 1


@pytest.mark.parametrize(
    ("id_tokens", "kind", "code"), [(True, SignInError, "bad_id_token"), (False, AuthorityError, "msal_failed")]
)
async def test_what_msal_has_against_an_id_token_is_not_quoted_and_what_else_it_raises_is_told(
    id_tokens: bool,
    kind: type[TokenError],
    code: str,
    fake_entra: FakeEntra,
    website: Application,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import msal

    redeem = msal.ConfidentialClientApplication.acquire_token_by_auth_code_flow

    def complain(*args: Any, **options: Any) -> Any:
        redeem(*args, **options)
        raise RuntimeError("the claims were ...")

    monkeypatch.setattr(msal.ConfidentialClientApplication, "acquire_token_by_auth_code_flow", complain)
    fake_entra.configure(id_tokens=id_tokens)
    with pytest.raises(kind) as caught:
        await visited(fake_entra, confidential(fake_entra, website))
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert ("the claims were" in str(caught.value)) is not id_tokens


async def test_an_id_token_may_name_several_audiences_in_whichever_case(
    fake_entra: FakeEntra, website: Application
) -> None:
    forger = Forger(fake_entra)
    client = confidential(fake_entra, website, http_client=forger)
    forger.claims = {
        "aud": [website.client_id.upper() if _msal_leaves_it_to_us() else website.client_id, "another-app"]
    }
    assert (await visited(fake_entra, client)).token.account


def _msal_leaves_it_to_us() -> bool:
    """Before 1.38, MSAL checks the audience itself, and minds the case."""
    import msal

    return tuple(map(int, msal.__version__.split(".")[:2])) >= (1, 38)


async def test_max_age_is_held_against_when_the_person_proved_who_they_are(
    fake_entra: FakeEntra, website: Application, fake_clock: FakeClock
) -> None:
    forger = Forger(fake_entra)
    client = confidential(fake_entra, website, http_client=forger, clock=fake_clock)
    proved_at = int(fake_clock())
    cases: list[tuple[Any, float, bool]] = [
        (proved_at, 0.0, True),
        (proved_at, SKEW + 10, True),
        (proved_at, SKEW + 11, False),
        (proved_at, -1000.0, True),  # their clock is ahead
        (str(proved_at), 0.0, False),
        (None, 0.0, False),
    ]
    for auth_time, after, fits in cases:
        forger.claims = {"auth_time": auth_time}
        flow, params = await answer_to(fake_entra, client, max_age=10)
        fake_clock.set(proved_at + after)
        if fits:
            assert (await client.complete_sign_in(flow, params)).token
        else:
            with pytest.raises(SignInError) as caught:
                await client.complete_sign_in(flow, params)
            assert caught.value.code == "too_old"
        fake_clock.set(proved_at)
    forger.claims = {"auth_time": None}
    assert (await visited(fake_entra, client)).token, "nobody asked when"


async def test_max_age_without_an_id_token_cannot_be_kept_and_is_refused(
    fake_entra: FakeEntra, website: Application
) -> None:
    fake_entra.configure(id_tokens=False)
    client = confidential(fake_entra, website)
    with pytest.raises(SignInError, match="too_old"):
        await visited(fake_entra, client, max_age=3600)
    assert home(await visited(fake_entra, client)), "client_info names the account"


async def test_an_answer_that_names_nobody_makes_no_account(fake_entra: FakeEntra, website: Application) -> None:
    fake_entra.configure(id_tokens=False, client_info=False)
    with pytest.raises(SignInError) as caught:
        await visited(fake_entra, confidential(fake_entra, website))
    assert caught.value.code == "no_account"


async def test_who_was_asked_for_must_sign_in_and_nobody_else(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    ann = (await visited(fake_entra, client)).token.account
    with pytest.raises(SignInError, match=r"ben@home\.example signed in") as caught:
        await visited(fake_entra, client, BEN, account=ann)
    assert caught.value.code == "wrong_account"
    assert (await visited(fake_entra, client, ANN, account=ann)).token.account == ann
    assert (await visited(fake_entra, client, BEN, login_hint=ANN)).token.account != ann, "a hint is no more"


async def test_a_refused_application_is_told_so(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website, "not-the-secret")
    with pytest.raises(InvalidClient) as caught:
        await visited(fake_entra, client)
    assert caught.value.error_codes == (7000215,)
    assert fake_entra.count("token") == 1


async def test_a_code_waits_for_a_retry_after_that_fits_and_is_not_sent_if_none_does(
    fake_entra: FakeEntra, website: Application
) -> None:
    waits = Waits()
    client = confidential(fake_entra, website)
    client._desk._gate = lambda host: Gate(host, random=lambda: 0.0, sleep=waits.sleep, clock=waits.clock)
    await acquire(client, GRAPH)
    first, second = await answer_to(fake_entra, client), await answer_to(fake_entra, client, BEN)
    client._desk.gate.note(429, 20.0)
    assert (await client.complete_sign_in(*first)).token
    assert waits.slept == [20.0]
    client._desk.gate.note(429, 100.0)
    with pytest.raises(Throttled):
        await client.complete_sign_in(*second)
    assert waits.slept == [20.0]
    assert fake_entra.count("token.authorization_code") == 1


async def test_an_authority_that_is_not_there_is_not_asked_to_begin(
    fake_entra: FakeEntra, website: Application
) -> None:
    fake_entra.fault("discovery", reset=True)
    client = confidential(fake_entra, website)
    for asked in (3, 5, 5):  # three attempts, then two, and then the breaker is open
        with pytest.raises(AuthorityUnavailable):
            await begun(client)
        assert fake_entra.count("discovery") == asked


async def test_a_sign_in_that_is_begun_needs_the_authority_no_more(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    await begun(client)
    for _ in range(9):
        client._desk.gate.note(None, reason="gone")
    assert (await begun(client)).auth_uri


async def test_cancelled_it_leaves_at_once(fake_entra: FakeEntra, website: Application) -> None:
    client = confidential(fake_entra, website)
    flow, params = await answer_to(fake_entra, client)
    with fake_entra.hold("token") as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.complete_sign_in, flow, params)
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            tasks.cancel_scope.cancel()
        assert gate.waiting == 1, "the thread ends by itself"
        gate.release()


@pytest.mark.parametrize("mode", ["fragment", "", None, ["query"]], ids=repr)
async def test_an_answer_comes_in_the_query_or_a_form(mode: Any, fake_entra: FakeEntra, website: Application) -> None:
    with pytest.raises(ValueError, match="'query' or 'form_post'"):
        await begun(confidential(fake_entra, website), mode=mode)
    assert fake_entra.count() == 0


async def test_where_the_answer_goes_is_checked_before_anything_is_sent(
    fake_entra: FakeEntra, website: Application
) -> None:
    client = confidential(fake_entra, website)
    request = client.sign_in_request(("User.Read",), {})
    with pytest.raises(ValueError, match="must be https"):
        await client.begin_sign_in(request, redirect_uri="http://app.example/", response_mode="query")
    assert fake_entra.count() == 0


class Browser:
    """A strategy as `sign_in.Browser` is one, whose person needs no browser."""

    def __init__(self, entra: FakeEntra, user: str) -> None:
        self._entra, self._user = entra, user
        self.flows: list[SignInFlow] = []

    async def sign_in(self, steps: Any, asked: Any, /) -> Any:
        flow = await steps.start_authorization(asked, "http://localhost:5000")
        self.flows.append(flow)
        came = self._entra.authorize(flow.auth_uri, self._user)
        assert came.method == "POST"
        return await steps.redeem_authorization(flow, came.params)


async def test_a_program_s_browser_uses_the_same_flow_by_post(fake_entra: FakeEntra, program: Application) -> None:
    strategy = Browser(fake_entra, ANN)
    client = public(fake_entra, program, sign_in=strategy)
    acquired = await client.sign_in(client.sign_in_request(("User.Read",), {"login_hint": ANN}))
    assert acquired.token.account is not None
    assert acquired.token.account.username == ANN
    assert query(strategy.flows[0])["response_mode"] == "form_post"
    assert query(strategy.flows[0])["login_hint"] == ANN
    assert (await acquire(client, "Mail.Read", session=acquired.session)).token
    with pytest.raises(SignInError, match="wrong_account"):
        await client.sign_in(client.sign_in_request(("User.Read",), {"account": "somebody.else"}))


async def test_a_program_may_be_a_web_application_too(fake_entra: FakeEntra) -> None:
    fake_entra.add_user(ANN)
    program = fake_entra.add_application(public=True, redirect_uris=[REDIRECT_URI])
    assert (await visited(fake_entra, public(fake_entra, program))).token.account


@pytest.mark.parametrize("fault", [{}, *MANY], ids=str)
async def test_a_sign_in_s_secrets_stay_where_they_are(
    fault: dict[str, Any], fake_entra: FakeEntra, website: Application, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wiretap(fake_entra)
    client: ConfidentialClient = confidential(fake_entra, website, http_client=wire)
    with caplog.at_level(logging.DEBUG):
        flow, params = await answer_to(fake_entra, client)
        shown = [repr(client), repr(flow)]
        if fault:
            fake_entra.fault("token", **fault)
        try:
            shown.append(repr(await client.complete_sign_in(flow, params)))
        except (SignInError, AuthorityError) as error:
            shown += everything_in(error)
    shown += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    assert params["code"] in wire.secrets
    check(iter(shown), {*wire.secrets, flow["code_verifier"], flow["nonce"], flow.state})
