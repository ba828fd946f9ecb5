"""What both kinds of client check in the same way: constructor arguments, and the keywords of a call. Pure."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aiomsal._token import Account, canonical_claims

from ._transport import TransportOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._transport import HttpClient

RESERVED_SCOPES: Final = frozenset({"openid", "profile", "offline_access"})
"""Scopes that MSAL adds by itself to whatever a user is asked for, and refuses from callers."""


def checked_client_id(client_id: object) -> str:
    """The client id, if it can be one."""
    if not isinstance(client_id, str):
        raise TypeError(f"client_id is a string, not {type(client_id).__name__}")
    if not client_id.strip():
        raise ValueError("client_id is empty: is the setting it comes from missing?")
    return client_id.strip()


def checked_capabilities(capabilities: Iterable[str]) -> tuple[str, ...]:
    """The client capabilities, sorted and each once."""
    found: list[object] = [None] if isinstance(capabilities, str) else [*capabilities]
    names = tuple(sorted({name for name in found if isinstance(name, str) and name}))
    if len(names) < len(set(found)):
        raise TypeError('client_capabilities is a list of strings, such as ["CP1"]')
    return names


def checked_threads(threads: object) -> int:
    """The number of worker threads."""
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"threads is how many requests may be under way at once, 1 or more, not {threads!r}")
    return threads


def transport_options(
    http_client: HttpClient | None,
    proxies: Mapping[str, str] | None,
    ca_file: str | os.PathLike[str] | None,
    timeout: float | tuple[float, float],
    *,
    imds: bool = False,
) -> TransportOptions:
    """How the authority is reached, checked."""
    if not isinstance(timeout, (int, float, tuple)):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers may
        raise TypeError(f"timeout is a number of seconds, or (to connect, to answer), not {timeout!r}")
    if proxies is not None and not isinstance(proxies, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] -- as above
        raise TypeError('proxies is a dict, such as {"https": "http://proxy:8080"}; {} for none')
    both = timeout if isinstance(timeout, tuple) else (min(timeout, 5.0), timeout)
    return TransportOptions(http_client, proxies, None if ca_file is None else os.fspath(ca_file), both, imds)


def refuse_unknown(options: Mapping[str, Any], known: Iterable[str], client: str) -> None:
    """Raise for keywords that this kind of client does not understand."""
    unknown = sorted(set(options) - set(known))
    if unknown:
        names = ", ".join(f"{name}=" for name in unknown)
        raise TypeError(f"{client} does not understand {names} here; it understands {', '.join(known)}")


def claims_of(options: Mapping[str, Any]) -> str:
    """The claims challenge among a call's keywords, checked as far as MSAL relies on it; empty without."""
    if "claims" not in options:
        return ""
    claims = canonical_claims(options["claims"])
    if not isinstance(json.loads(claims).get("access_token", {}), dict):  # MSAL adds the capabilities in there
        raise ValueError('claims: "access_token" must be an object in it (OpenID Connect Core section 5.5)')
    return claims


def account_id_of(options: Mapping[str, Any]) -> str:
    """The home account id among a call's keywords; empty without."""
    account = options.get("account")
    if account is None:
        return ""
    if isinstance(account, Account):
        if not all(isinstance(field, str) for field in account):  # pyright: ignore[reportUnnecessaryIsInstance] -- JSON
            raise TypeError("the fields of an Account are strings: was it kept whole?")
        account = account.home_account_id
    elif not isinstance(account, str):
        _refuse_account(account)
    elif "@" in account:
        raise ValueError(
            f"account is an Account or its home account id, not a user name: keep token.account, as a web application "
            f"does; a PublicClient also takes login_hint={account!r}"
        )
    return checked_text(account, "account")


def login_hint_of(options: Mapping[str, Any]) -> str:
    """The login hint among a call's keywords; empty without."""
    return text_of(options, "login_hint", "a user name")


def text_of(options: Mapping[str, Any], name: str, what: str) -> str:
    """A text among a call's keywords; empty without."""
    text = options.get(name, "")
    if not isinstance(text, str):
        raise TypeError(f"{name} is {what}, not {type(text).__name__}")
    return checked_text(text.strip(), name)


def checked_text(text: str, name: str) -> str:
    """The text, if it can be sent: control characters and halves of surrogate pairs are nobody's name."""
    if not text.isprintable():
        raise ValueError(f"{name} cannot be {text!r}: it has characters that are none to read")
    return text


def _refuse_account(account: object) -> NoReturn:
    raise TypeError(f"account is an Account or its home_account_id, not {type(account).__name__}")
