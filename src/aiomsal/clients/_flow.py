"""What a sign-in by authorization code leaves with the application until the browser brings the answer. Pure.

A flow is flat, so that it is small in JSON: it may be kept in a cookie.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiomsal._asked import SignInFlow, SignInRequest
from aiomsal._errors import AuthorityUnavailable, Classification, InteractionRequired, SignInError

from ._redact import scrubbed
from ._requests import user_request

if TYPE_CHECKING:
    from aiomsal._errors import TokenError

    from ._msal import Settings

LASTS: Final = 3600.0
"""Seconds a person has to come back from the sign-in page."""
_NEEDED: Final = ("client_id", "authority", "redirect_uri", "state", "nonce", "code_verifier")
_TEXTS: Final = ("account", "username", "claims", "login_hint", "domain_hint", "prompt")
_LISTS: Final = ("scopes", "extra_scopes_to_consent")

# OpenID Connect Core section 3.1.2.6: nothing was to be shown, and something would have had to be.
_NOT_SILENTLY: Final = frozenset(
    {"interaction_required", "login_required", "consent_required", "account_selection_required"}
)
_LATER: Final = frozenset({"server_error", "temporarily_unavailable"})
_DECLINED: Final = "access_denied"
_AADSTS: Final = re.compile(r"AADSTS(\d{1,10})")
_CORRELATION_ID: Final = re.compile(r"Correlation ID: ([\w-]{1,64})")
_TRACE_ID: Final = re.compile(r"Trace ID: ([\w-]{1,64})")
_LONGEST_CODE: Final = 100
_CODE: Final = re.compile(r"[\x20-\x7e]+")  # RFC 6749 appendix A.11


def checked_redirect_uri(redirect_uri: object) -> str:
    """Where a web application can have its answers sent (RFC 6749 section 3.1.2, RFC 9700 section 2.1)."""
    if not isinstance(redirect_uri, str):
        raise TypeError(f"redirect_uri is a string, not {type(redirect_uri).__name__}")
    try:
        parts = urlsplit(redirect_uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if redirect_uri.split() != [redirect_uri] or not host or "#" in redirect_uri:
        raise ValueError(f"redirect_uri is a whole URL without a fragment, not {redirect_uri!r}")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in ("localhost", "127.0.0.1", "::1")):
        raise ValueError(f"redirect_uri must be https, or http on localhost, not {redirect_uri!r}")
    return redirect_uri


def new_flow(asked: SignInRequest, redirect_uri: str, now: float) -> SignInFlow:
    """A flow with secrets of its own, which lacks its `auth_uri` yet."""
    request = asked.request
    return SignInFlow(
        client_id=request.client_id,
        authority=request.authority,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(),
        nonce=secrets.token_urlsafe(),
        code_verifier=secrets.token_urlsafe(),
        expires_at=now + LASTS,
        scopes=[*request.scopes],
        account=request.account,
        username=request.login_hint,
        claims=request.claims,
        login_hint=asked.login_hint,
        domain_hint=asked.domain_hint,
        prompt=asked.prompt,
        extra_scopes_to_consent=[*asked.extra_scopes_to_consent],
        max_age=asked.max_age,
    )


def with_parameters(url: str, **parameters: str) -> str:
    """The URL with these parameters in its query, in place of what they were."""
    parts = urlsplit(url)
    others = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in parameters]
    return urlunsplit(parts._replace(query=urlencode([*others, *parameters.items()])))


def asked_in(flow: Mapping[str, Any], settings: Settings) -> SignInRequest:
    """What was asked in a flow of this client.

    Raises:
        SignInError: there is none: for whoever has no session, or has answered already.
        TypeError, ValueError: it is something else.
    """
    if not flow:
        raise SignInError(
            "no sign-in was begun in this session: it was answered before, or the session's cookie did not come back "
            "(it is for https only, for another host, or over 4 KB): begin again",
            code="no_flow",
        )
    if not isinstance(flow, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] -- texts
        raise TypeError(
            f"flow is what begin_sign_in returned, a dict, not {type(cast('object', flow)).__name__}: json.loads it"
        )
    broken = [name for name in (*_NEEDED, *_TEXTS) if not _is_text(flow.get(name))]
    broken += [name for name in _NEEDED if flow.get(name) == ""]
    broken += [name for name in _LISTS if not _is_list_of_texts(flow.get(name))]
    if not _is_number(flow.get("expires_at")):
        broken.append("expires_at")
    if not (flow.get("max_age") is None or _is_number(flow.get("max_age"))):
        broken.append("max_age")
    if broken or not flow["scopes"]:
        raise ValueError(
            f"not a flow of begin_sign_in: {', '.join(broken) or 'scopes'} is missing in it, or was changed; keep the "
            "whole of it"
        )
    ours = settings.client_id, settings.authority.url
    if (flow["client_id"], flow["authority"]) != ours:
        raise ValueError("mixed up: this flow was begun by a client of another client_id or authority")
    request = user_request(
        settings,
        tuple(flow["scopes"]),
        account=flow["account"],
        login_hint=flow["username"],
        claims=flow["claims"],
    )
    extra = tuple(flow["extra_scopes_to_consent"])
    return SignInRequest(
        request, flow["login_hint"], flow["domain_hint"], flow["prompt"], extra, cast("int | None", flow.get("max_age"))
    )


def code_in(params: Mapping[str, Any], flow: Mapping[str, Any], now: float) -> str:
    """The authorization code in an answer to this flow.

    Raises:
        TypeError: `params` cannot be the parameters of an answer.
        SignInError, InteractionRequired, AuthorityUnavailable: there is none, or not for this flow.
    """
    if not isinstance(params, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"params is the query or form of the answer, not {type(cast('object', params)).__name__}")
    if not _same(_text(params, "state"), flow["state"]):
        raise SignInError(
            "the answer belongs to another sign-in than the one in this user's session: begin again",
            code="state_mismatch",
        )
    if not now < flow["expires_at"]:
        raise SignInError("the answer came too late: begin again", code="flow_expired")
    if _text(params, "error"):
        raise _refusal(params, silent=flow["prompt"] == "none")
    code = _text(params, "code")
    if not _CODE.fullmatch(code):
        raise SignInError("the answer holds neither a code nor an error: begin again", code="no_code")
    return code


def _refusal(params: Mapping[str, Any], *, silent: bool) -> TokenError:
    """What an error response of the authorization endpoint means (RFC 6749 section 4.1.2.1)."""
    code = scrubbed(_text(params, "error"), ())[:_LONGEST_CODE]
    secret = [text for text in (_text(params, "code"), _text(params, "state")) if text]
    description = scrubbed(_text(params, "error_description"), secret)
    correlation_id, trace_id = (_found(pattern, description) for pattern in (_CORRELATION_ID, _TRACE_ID))
    details: dict[str, Any] = {
        "code": code,
        "error_codes": tuple(dict.fromkeys(map(int, _AADSTS.findall(description)))),
        "suberror": scrubbed(_text(params, "error_subcode") or _text(params, "suberror"), ())[:_LONGEST_CODE],
        "claims": _text(params, "claims"),
        "correlation_id": correlation_id,
        "trace_id": trace_id,
        "response": {"error": code, "error_description": description},
    }
    if code in _LATER:
        return AuthorityUnavailable(description or "the authority could not sign anybody in", **details)
    if silent and code in _NOT_SILENTLY:
        words = description or "the sign-in was to show nothing, and would have had to"
        return InteractionRequired(words, classification=Classification.PROMPT_NEVER_FAILED, **details)
    declined = "the person declined" if code == _DECLINED else ""
    return SignInError(": ".join(filter(None, (declined, description))) or "the sign-in was refused", **details)


def _text(params: Mapping[str, Any], name: str) -> str:
    """A parameter, of a plain dict or of any framework's multi-dict; empty without."""
    value: object = params.get(name)
    if isinstance(value, list | tuple):
        raise TypeError(f"params is to hold one text for each name, and has a {type(value).__name__} for {name!r}")  # pyright: ignore[reportUnknownArgumentType]
    return value if isinstance(value, str) else ""  # an uploaded file, where a form was posted


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(*(text.encode("utf-8", "surrogatepass") for text in (one, other)))


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""


def _is_text(value: object) -> bool:
    return isinstance(value, str) and (value.isprintable() or value.isascii())  # claims may have line ends


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in cast("list[object]", value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
