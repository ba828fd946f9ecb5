"""What users' requests and sign-ins ask for, from the scopes and keywords of a call. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from aiomsal._asked import Prompt, SignInRequest
from aiomsal._token import Account, TokenRequest, canonical_scopes

from ._options import RESERVED_SCOPES, account_id_of, claims_of, login_hint_of, refuse_unknown, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._msal import Settings

FOR_A_USER: Final = "user"
"""The grant of users' requests."""
_PROMPTS: Final = get_args(Prompt)
_TEN_YEARS: Final = 10 * 366 * 86400
_SIGN_IN_OPTIONS: Final = (
    "account",
    "login_hint",
    "domain_hint",
    "prompt",
    "claims",
    "extra_scopes_to_consent",
    "max_age",
)


def user_request(
    settings: Settings, scopes: tuple[str, ...], *, account: str = "", login_hint: str = "", claims: str = ""
) -> TokenRequest:
    """The request of a user, of what is checked already."""
    return TokenRequest(
        settings.client_id,
        settings.authority.url,
        FOR_A_USER,
        scopes,
        account,
        login_hint,
        claims,
        settings.capabilities,
        (("oidc", "1"),) if settings.authority.oidc else (),
    )


def read_request(settings: Settings, scopes: tuple[str, ...], options: Mapping[str, Any]) -> TokenRequest:
    """What a call asks for a user; its keywords are known to be known."""
    account, login_hint = account_id_of(options), login_hint_of(options)
    if account and login_hint:
        raise TypeError("account= and login_hint= both say who is meant: pass one of them")
    return user_request(
        settings, _user_scopes(scopes), account=account, login_hint=login_hint, claims=claims_of(options)
    )


def read_sign_in_request(settings: Settings, scopes: tuple[str, ...], options: Mapping[str, Any]) -> SignInRequest:
    """What a sign-in asks for. Its hint only fills the page, so it may stand beside the account."""
    refuse_unknown(options, _SIGN_IN_OPTIONS, "a sign-in")
    scopes = _user_scopes(scopes)
    account, login_hint = options.get("account"), login_hint_of(options)
    if not login_hint and isinstance(account, Account):
        login_hint = account.username
    return SignInRequest(
        user_request(settings, scopes, account=account_id_of(options), claims=claims_of(options)),
        login_hint,
        text_of(options, "domain_hint", 'a domain, "organizations" or "consumers"'),
        _prompt(options.get("prompt", "")),
        _extra_scopes(options.get("extra_scopes_to_consent", ()), scopes),
        _max_age(options.get("max_age")),
    )


def _user_scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    scopes = canonical_scopes(scopes)
    if reserved := RESERVED_SCOPES.intersection(scopes):
        raise ValueError(
            f"leave out {', '.join(sorted(reserved))}: they are always asked for; name what the token is for"
        )
    return scopes


def _extra_scopes(extra: Iterable[str], scopes: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(extra, str):
        raise TypeError(f"extra_scopes_to_consent is a list of scopes, such as [{extra!r}]")
    more = tuple(extra)
    return tuple(scope for scope in _user_scopes(more) if scope not in scopes) if more else ()


def _prompt(prompt: object) -> str:
    if prompt != "" and prompt not in _PROMPTS:
        raise ValueError(f"prompt is one of {', '.join(map(repr, _PROMPTS))}, not {prompt!r}")
    return str(prompt)


def _max_age(max_age: object) -> int | None:
    if max_age is None:
        return None
    if not isinstance(max_age, int) or isinstance(max_age, bool):
        raise TypeError(f"max_age is a whole number of seconds, not {max_age!r}")
    if not 0 <= max_age <= _TEN_YEARS:
        raise ValueError(f"max_age is a number of seconds, from 0 to ten years of them, not {max_age}")
    return max_age
