"""A sign-in that was begun in a web application, and the answers that may or may not be to it."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal import AuthorityUnavailable, Classification, InteractionRequired, SignInError, SignInFlow, SignInRequest
from aiomsal._asked import Prompt
from aiomsal.clients._flow import LASTS, checked_redirect_uri, new_flow, with_parameters
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.clients.public import PublicClient
from aiomsal.testing import FakeClock

NOW = 1_000_000.0
CLOCK = FakeClock(NOW)
CLIENT = ConfidentialClient("app", "secret", tenant="t", client_capabilities=["CP1"], clock=CLOCK)


def begun(client: Any = CLIENT, **asked: Any) -> SignInFlow:
    return new_flow(client.sign_in_request(("User.Read",), asked), "https://app.example/signed-in", NOW)


def answer(flow: Mapping[str, Any], **params: str) -> dict[str, str]:
    return {"state": flow["state"], "code": "the-code", **params}


text = st.text(min_size=1, max_size=9).map(str.strip).filter(str.isprintable).filter(bool)
asked_for: dict[str, st.SearchStrategy[Any]] = {
    "account": st.sampled_from(["ann.home", "sub|1"]),
    "login_hint": text,
    "domain_hint": text,
    "prompt": st.sampled_from(get_args(Prompt)),
    "claims": st.just('{"access_token": {"nbf": null}}'),
    "extra_scopes_to_consent": st.lists(st.sampled_from(["x/a", "x/b"]), min_size=1),
    "max_age": st.integers(0, 9),
}


@given(asked=st.fixed_dictionaries({}, optional=asked_for))
def test_what_was_asked_is_what_was_answered_by_way_of_json(asked: dict[str, Any]) -> None:
    for client in (CLIENT, PublicClient("app", clock=CLOCK)):
        request = client.sign_in_request(("User.Read", "Mail.Read"), asked)
        flow = new_flow(request, "https://app.example/", NOW)
        kept = json.loads(json.dumps(flow))
        assert kept == flow
        assert type(kept) is dict
        assert client.answered(kept, answer(kept)) == request


def test_a_flow_takes_little_room_in_a_cookie() -> None:
    flow = SignInFlow("https://login.example/" + 2_000 * "x", **begun())
    assert flow.auth_uri not in json.dumps(flow)
    assert len(json.dumps(flow)) < 700
    assert pickle.loads(pickle.dumps(flow)).auth_uri == copy.copy(flow).auth_uri == flow.auth_uri


def test_no_two_flows_share_a_secret_and_none_is_shown() -> None:
    flows = [begun() for _ in range(50)]
    for name in ("state", "nonce", "code_verifier"):
        assert len({flow[name] for flow in flows}) == 50
        assert all(len(flow[name]) >= 43 for flow in flows), "RFC 7636 section 4.1"
        assert not any(flow[name] in repr(flow) for flow in flows)
    assert flows[0].expires_at == NOW + LASTS


@pytest.mark.parametrize("name", sorted(begun()))
def test_a_flow_that_lacks_something_is_none(name: str) -> None:
    if name == "max_age":  # None without one
        return
    for broken in ({}, {name: None}, {name: {}}, {name: [7]}):
        flow = {**{kept: value for kept, value in begun().items() if kept != name}, **broken}
        with pytest.raises(ValueError, match=f"not a flow of begin_sign_in: {name} is missing"):
            CLIENT.answered(flow, answer({"state": "s", **flow}))


@pytest.mark.parametrize("change", [{"scopes": []}, {"state": ""}, {"max_age": "1"}, {"expires_at": True}], ids=str)
def test_a_flow_that_was_changed_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        CLIENT.answered({**begun(), **change}, {"state": "", "code": "the-code"})


@pytest.mark.parametrize("lost", [None, {}, ""], ids=repr)
def test_a_flow_that_was_lost_is_told_to_be_lost(lost: Any) -> None:
    with pytest.raises(SignInError, match="cookie did not come back") as caught:
        CLIENT.answered(lost, {})
    assert caught.value.code == "no_flow"


@pytest.mark.parametrize("wrong", ["{}", ["state"], 7], ids=repr)
def test_what_is_no_mapping_is_neither_a_flow_nor_an_answer(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"json\.loads it"):
        CLIENT.answered(wrong, {})
    with pytest.raises(TypeError, match="query or form"):
        CLIENT.answered(begun(), wrong)


@pytest.mark.parametrize(
    "other",
    [
        ConfidentialClient("app2", "secret", tenant="t"),
        ConfidentialClient("app", "secret", tenant="t2"),
        ConfidentialClient("app", "secret", tenant="t", cloud="china"),
    ],
    ids=repr,
)
def test_a_flow_of_another_client_is_mixed_up(other: ConfidentialClient) -> None:
    flow = begun()
    with pytest.raises(ValueError, match="mixed up"):
        other.answered(flow, answer(flow))


@pytest.mark.parametrize("state", ["", "x", "é", chr(0xDCE9), "a" * 10_000])
def test_an_answer_to_another_flow_is_refused_and_neither_state_is_told(state: str) -> None:
    flow = begun()
    for params in ({"code": "the-code"}, answer(flow, state=state), answer(flow, state=begun().state)):
        with pytest.raises(SignInError) as caught:
            CLIENT.answered(flow, params)
        assert caught.value.code == "state_mismatch"
        assert flow.state not in str(caught.value)
        assert "x" * 3 not in str(caught.value)


@pytest.mark.parametrize(("after", "in_time"), [(0.0, True), (LASTS - 0.5, True), (LASTS, False), (1e9, False)])
def test_an_answer_is_good_for_an_hour(after: float, in_time: bool) -> None:
    flow = begun()
    client = ConfidentialClient("app", "secret", tenant="t", clock=FakeClock(NOW + after))
    if in_time:
        assert client.answered(flow, answer(flow)).request.scopes == ("User.Read",)
        return
    with pytest.raises(SignInError) as caught:
        client.answered(flow, answer(flow))
    assert caught.value.code == "flow_expired"


def test_a_flow_whose_end_is_no_number_has_ended() -> None:
    flow = {**begun(), "expires_at": float("nan")}
    with pytest.raises(SignInError, match="flow_expired"):
        CLIENT.answered(flow, answer(flow))


WORDS = "AADSTS65004: User declined. Trace ID: trace-1 Correlation ID: corr-1 Timestamp: 2026-01-01 AADSTS650041"


def test_who_declines_is_told_as_data() -> None:
    flow = begun()
    params = {"state": flow.state, "error": "access_denied", "error_description": WORDS, "error_subcode": "cancel"}
    with pytest.raises(SignInError, match="the person declined") as caught:
        CLIENT.answered(flow, params)
    error = caught.value
    assert (error.code, error.suberror, error.error_codes) == ("access_denied", "cancel", (65004, 650041))
    assert (error.trace_id, error.correlation_id) == ("trace-1", "corr-1")
    assert error.response == {"error": "access_denied", "error_description": WORDS}


@pytest.mark.parametrize(
    ("prompt", "code", "kind"),
    [
        ("none", "interaction_required", InteractionRequired),
        ("none", "login_required", InteractionRequired),
        ("none", "consent_required", InteractionRequired),
        ("none", "account_selection_required", InteractionRequired),
        ("none", "access_denied", SignInError),
        ("login", "interaction_required", SignInError),
        ("", "login_required", SignInError),
        ("", "invalid_request", SignInError),
        ("", "server_error", AuthorityUnavailable),
        ("none", "temporarily_unavailable", AuthorityUnavailable),
    ],
)
def test_an_error_in_an_answer_is_of_the_kind_that_says_what_to_do(
    prompt: str, code: str, kind: type[Exception]
) -> None:
    flow = begun(**({"prompt": prompt} if prompt else {}))
    with pytest.raises(kind) as caught:
        CLIENT.answered(
            flow, {"state": flow.state, "error": code, "claims": '{"id_token": {}}', "code": "not looked at"}
        )
    assert type(caught.value) is kind
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert caught.value.claims == '{"id_token": {}}'  # type: ignore[attr-defined]
    if isinstance(caught.value, InteractionRequired):
        assert caught.value.classification is Classification.PROMPT_NEVER_FAILED


def test_what_an_answer_says_is_shown_in_bounds_and_without_what_may_be_a_token() -> None:
    flow = begun()
    wordy = {
        "error": "e" * 5000,
        "error_subcode": "c " * 99,
        "error_description": "eyJhbGciOiJub25lIn0.eyJhIjoxfQ.x\n\x00" + "d " * 5000,
    }
    with pytest.raises(SignInError) as caught:
        CLIENT.answered(flow, {"state": flow.state, **wordy})
    assert len(str(caught.value)) < 2500
    assert len(caught.value.suberror) == 100
    assert "eyJ" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("params", [{}, {"code": ""}, {"CODE": "x"}], ids=str)
def test_an_answer_with_neither_code_nor_error_is_none(params: dict[str, str]) -> None:
    flow = begun()
    with pytest.raises(SignInError) as caught:
        CLIENT.answered(flow, {"state": flow.state, **params})
    assert caught.value.code == "no_code"


class Many(Mapping[str, Any]):
    """A multi-dict as aiohttp has it: each value by its first, and all of them when one looks at it as a whole."""

    def __init__(self, *pairs: tuple[str, Any]) -> None:
        self.pairs = pairs

    def __getitem__(self, name: str) -> Any:
        for other, value in self.pairs:
            if other == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


class Lists(dict[str, Any]):
    """A multi-dict as Django and Werkzeug have it: lists beneath, one of them by name."""

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name)[0]

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401 -- by name, and not beneath it


def test_the_parameters_are_read_as_any_framework_gives_them() -> None:
    flow = begun()
    given: list[Any] = [
        Many(("state", flow.state), ("code", "the-code"), ("session_state", "x"), ("session_state", "y")),
        Lists(state=[flow.state], code=["the-code"]),
        Many(("state", flow.state), ("code", "the-code"), ("error", object())),  # an uploaded file
    ]
    for params in given:
        assert isinstance(CLIENT.answered(flow, params), SignInRequest)
    with pytest.raises(TypeError, match="one text for each name"):
        CLIENT.answered(flow, {"state": [flow.state], "code": ["the-code"]})  # type: ignore[dict-item]


@given(params=st.dictionaries(st.sampled_from(["state", "code", "error", "error_description", "claims"]), st.text()))
def test_no_answer_that_does_not_know_the_state_is_accepted(params: dict[str, str]) -> None:
    with pytest.raises(SignInError, match="state_mismatch"):
        CLIENT.answered(begun(), params)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/x?y=1",
        "http://localhost",
        "http://localhost:5000/x",
        "http://127.0.0.1/",
        "http://[::1]:1/x",
    ],
)
def test_an_answer_may_be_sent_to_https_or_this_machine(uri: str) -> None:
    assert checked_redirect_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "",
            "/signed-in",
            "app.example/x",
            "https://",
            "https:///x",
            "https://app.example/#",
            "https://app.example/#x",
        ),
        *(
            "http://app.example/",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://[::1",
            "ftp://localhost",
        ),
        *(
            "https://app.example/ x",
            " https://app.example/",
            "https://app.example:port/",
            "msal://auth",
            "javascript:x",
        ),
    ],
)
def test_an_answer_may_not_be_sent_elsewhere(uri: str) -> None:
    with pytest.raises(ValueError, match="redirect_uri"):
        checked_redirect_uri(uri)


def test_a_redirect_uri_is_a_string() -> None:
    with pytest.raises(TypeError, match="not Url"):
        checked_redirect_uri(type("Url", (), {})())


def test_parameters_are_replaced_and_others_stay() -> None:
    url = with_parameters("https://h/p?p=policy&state=old&a=&a=1%202&state=older", state="n&w", nonce="1")
    assert url == "https://h/p?p=policy&a=&a=1+2&state=n%26w&nonce=1"
