"""What users' requests and sign-ins are: equal exactly where nothing that matters differs."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomsal import Account, SignInRequest, TokenRequest
from aiomsal._asked import Prompt
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.clients.public import PublicClient

CLAIMS = '{"access_token": {"nbf": {"value": "%s"}}}'

word = st.sampled_from(["a", "b", "c"])
scopes = st.lists(word.map("Scope.{}".format), min_size=1, max_size=3)
one_client = {
    "client_id": word,
    "tenant": word.map("{}.example".format),
    "cloud": st.sampled_from(["public", "us-government", "china"]),
    "client_capabilities": st.lists(st.sampled_from(["CP1", "CP2"]), unique=True),
}
one_call = {"scopes": scopes, "claims": word.map(lambda each: CLAIMS % each)}
one_request = {**one_client, **one_call, "account": word.map("{}.home".format)}
one_sign_in = {
    **one_request,
    "login_hint": word,
    "domain_hint": word,
    "prompt": st.sampled_from(get_args(Prompt)),
    "extra_scopes_to_consent": st.lists(word.map("https://other/{}".format), min_size=1, max_size=3),
    "max_age": st.integers(0, 3),
}


def client_of(kind: type[Any], fields: dict[str, Any]) -> Any:
    arguments = {name: fields[name] for name in one_client if name != "client_id"}
    if kind is ConfidentialClient:
        return ConfidentialClient(fields["client_id"], "secret", **arguments)
    return PublicClient(fields["client_id"], **arguments)


def request_of(kind: type[Any], fields: dict[str, Any]) -> TokenRequest:
    options = {name: fields[name] for name in ("account", "claims") if name in fields}
    return client_of(kind, fields).request(tuple(fields["scopes"]), options)  # type: ignore[no-any-return]


def sign_in_of(kind: type[Any], fields: dict[str, Any]) -> SignInRequest:
    options = {name: fields[name] for name in fields if name not in {*one_client, "scopes"}}
    return client_of(kind, fields).sign_in_request(tuple(fields["scopes"]), options)  # type: ignore[no-any-return]


def canonical(value: Any) -> Any:
    return frozenset(value) if isinstance(value, list) else value


@pytest.mark.parametrize("kind", [PublicClient, ConfidentialClient])
@given(fields=st.fixed_dictionaries(one_request), data=st.data())
def test_two_requests_of_users_are_one_exactly_if_no_field_differs(
    kind: type[Any], fields: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(one_request)))
    other = {**fields, name: data.draw(one_request[name])}
    equal = canonical(fields[name]) == canonical(other[name])
    assert (request_of(kind, fields) == request_of(kind, other)) is equal


@pytest.mark.parametrize("kind", [PublicClient, ConfidentialClient])
@given(fields=st.fixed_dictionaries(one_sign_in), data=st.data())
def test_two_sign_ins_are_one_exactly_if_no_field_differs(
    kind: type[Any], fields: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(one_sign_in)))
    other = {**fields, name: data.draw(one_sign_in[name])}
    equal = canonical(fields[name]) == canonical(other[name])
    assert (sign_in_of(kind, fields) == sign_in_of(kind, other)) is equal


@pytest.mark.parametrize("kind", [PublicClient, ConfidentialClient])
@pytest.mark.parametrize("name", sorted(set(one_sign_in) - {*one_client, "scopes"}))
@given(fields=st.fixed_dictionaries(one_sign_in))
def test_a_keyword_left_out_is_another_sign_in(kind: type[Any], name: str, fields: dict[str, Any]) -> None:
    without = {given: value for given, value in fields.items() if given != name}
    assert sign_in_of(kind, fields) != sign_in_of(kind, without)


@pytest.mark.parametrize("kind", [PublicClient, ConfidentialClient])
@given(fields=st.fixed_dictionaries(one_sign_in))
def test_a_sign_in_with_its_account_filled_in_is_a_later_call_for_that_user(
    kind: type[Any], fields: dict[str, Any]
) -> None:
    asked = sign_in_of(kind, {name: value for name, value in fields.items() if name != "account"})
    assert asked.request.account == ""
    assert asked.request.unbound
    assert asked.request._replace(account=fields["account"]) == request_of(kind, fields)
    assert hash(asked) == hash(SignInRequest(*asked))


def test_a_user_s_request_and_the_application_s_own_are_never_one() -> None:
    client = ConfidentialClient("app", "secret", tenant="t")
    scope = ("https://graph.microsoft.com/.default",)
    own, ann = client.request(scope, {}), client.request(scope, {"account": "ann.home"})
    assert own != ann
    assert own != ann._replace(account="")


def test_another_provider_is_another_authority_though_its_url_were_the_same() -> None:
    url = "https://login.example/t"
    entra, other = (PublicClient("app", **where) for where in ({"authority": url}, {"oidc_authority": url}))
    assert entra.request(("a",), {}) != other.request(("a",), {})
    assert entra.sign_in_request(("a",), {}) != other.sign_in_request(("a",), {})


def test_how_the_region_is_found_concerns_the_application_s_own_tokens_only() -> None:
    here, there = (ConfidentialClient("app", "s", tenant="t", azure_region=region) for region in (None, "westeurope"))
    assert here.request(("a/.default",), {}) != there.request(("a/.default",), {})
    assert here.request(("a",), {"account": "ann.home"}) == there.request(("a",), {"account": "ann.home"})


@pytest.mark.parametrize(
    "client", [PublicClient("app"), ConfidentialClient("app", "secret", tenant="common")], ids=repr
)
def test_who_is_meant_may_be_named_by_account_and_the_page_filled_by_a_hint(client: Any) -> None:
    ann = Account("ann.home", "h", "ann@home.example", "home")
    read = client.sign_in_request
    by_account = read(("User.Read",), {"account": ann})
    assert (by_account.request.account, by_account.login_hint) == ("ann.home", "ann@home.example")
    by_id = read(("User.Read",), {"account": "ann.home"})
    assert (by_id.request.account, by_id.login_hint) == ("ann.home", "")
    both = read(("User.Read",), {"account": ann, "login_hint": "ann@new.example"})
    assert (both.request.account, both.login_hint) == ("ann.home", "ann@new.example")
    hint = read(("User.Read",), {"login_hint": "ann@home.example"})
    assert (hint.request.account, hint.request.login_hint, hint.login_hint) == ("", "", "ann@home.example")


def test_scopes_to_consent_to_are_sorted_and_without_those_the_token_is_for() -> None:
    asked = PublicClient("app").sign_in_request(("b", "a"), {"extra_scopes_to_consent": iter(["d", "c", "a", "d"])})
    assert asked.request.scopes == ("a", "b")
    assert asked.extra_scopes_to_consent == ("c", "d")
    assert PublicClient("app").sign_in_request(("a",), {"extra_scopes_to_consent": []}).extra_scopes_to_consent == ()


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (("openid",), {}, ValueError, "leave out openid"),
    ((), {}, ValueError, "at least one scope"),
    (("User.Read",), {"rejected": object()}, TypeError, "rejected="),
    (("User.Read",), {"on_behalf_of": "jwt"}, TypeError, "a sign-in does not understand on_behalf_of="),
    (("User.Read",), {"prompt": "Login"}, ValueError, "'login'"),
    (("User.Read",), {"prompt": ["login"]}, ValueError, "prompt is one of"),
    (("User.Read",), {"max_age": -1}, ValueError, "from 0 to ten years"),
    (("User.Read",), {"max_age": True}, TypeError, "whole number"),
    (("User.Read",), {"max_age": 1.5}, TypeError, "whole number"),
    (("User.Read",), {"extra_scopes_to_consent": "Mail.Read"}, TypeError, r"\['Mail.Read'\]"),
    (("User.Read",), {"extra_scopes_to_consent": ["a b"]}, ValueError, "without blanks"),
    (("User.Read",), {"extra_scopes_to_consent": [7]}, TypeError, "string"),
    (("User.Read",), {"extra_scopes_to_consent": ["offline_access"]}, ValueError, "leave out offline_access"),
    (("User.Read",), {"domain_hint": 7}, TypeError, "domain_hint is a domain"),
    (("User.Read",), {"login_hint": 7}, TypeError, "user name"),
    (("User.Read",), {"account": "ann@home.example"}, ValueError, "login_hint="),
    (("User.Read",), {"claims": "[]"}, ValueError, "JSON object"),
]


@pytest.mark.parametrize(("scopes", "options", "kind", "advice"), WRONG, ids=str)
def test_a_wrong_sign_in_is_refused_with_advice(
    scopes: Any, options: dict[str, Any], kind: type[Exception], advice: str
) -> None:
    for client in (PublicClient("app"), ConfidentialClient("app", "secret", tenant="t")):
        with pytest.raises(kind, match=advice):
            client.sign_in_request(scopes, options)
