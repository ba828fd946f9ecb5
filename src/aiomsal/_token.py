"""What the library hands out and what it is asked for: frozen data, and the arithmetic of its dates.

All times are epoch seconds (floats, UTC), all durations seconds.
"""

from __future__ import annotations

import base64
import json
import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypedDict, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping


class Account(NamedTuple):
    """A user who has signed in, as the authority names them. It is data: it gives access to nothing.

    Accounts compare by value, hash fast and survive JSON (`Account(*json.loads(json.dumps(account)))`), so a web
    application can keep one, or only its `home_account_id`, in its own session.
    """

    home_account_id: str
    """`<object id>.<tenant id>` of the user in their home tenant: the same in every tenant and application."""
    environment: str = ""
    """The authority's host, without a port, as MSAL writes it."""
    username: str = ""
    """What the user calls themselves (`preferred_username`): to show, not to authorise by; it may change hands."""
    tenant_id: str = ""
    """The tenant in which this account was used; a guest's differs from the home tenant."""


_LOWER: Final = {ord(upper): upper.lower() for upper in string.ascii_uppercase}


def same_username(one: str, other: str) -> bool:
    """Whether two user names mean the same user: the case of ASCII letters does not count, and nothing else is equal.

    `casefold` would take a sharp s for two others, and a ligature for its letters: other people's names.
    """
    return one.translate(_LOWER) == other.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and what is known of it. Immutable; safe in any thread and on any event loop.

    Neither `repr()` nor `str()` shows the token itself.
    """

    value: str = field(repr=False)
    """The access token, to be sent and never to be shown or parsed: its format is the resource's affair."""
    expires_at: float
    """When the authority says it ends."""
    refresh_at: float
    """From when a new one should be fetched while this one still works: the authority's `refresh_in`, else early."""
    obtained_at: float = 0.0
    """When it was received, by the clock that wrote `expires_at`."""
    token_type: str = "Bearer"
    scopes: tuple[str, ...] = ()
    """The scopes granted, sorted; they may be more or fewer than those asked for (RFC 6749 section 3.3)."""
    account: Account | None = None
    """The user it acts for; None where it is the application's own."""
    tenant_id: str = ""
    """The tenant that issued it."""
    correlation_id: str = ""
    """The identifier of the request to quote to Microsoft's support."""
    id_token: str = field(default="", repr=False)
    """The ID token that came with it, as text; empty where there was none."""

    @property
    def authorization(self) -> str:
        """The value of an `Authorization` header that carries this token, such as `Bearer ...`."""
        return f"{self.token_type} {self.value}"

    @property
    def id_token_claims(self) -> dict[str, Any]:
        """The claims of the ID token, decoded anew at each read; empty without an ID token.

        The signature is not checked: the token came from the token endpoint over TLS, for which OpenID Connect Core
        section 3.1.3.7 lets the client do without.
        """
        return decode_claims(self.id_token)


@runtime_checkable
class TokenSource(Protocol):
    """Something that can be asked for a token: all that adapters, and credentials made of tokens, know of us."""

    async def get(self) -> Token:
        """A token that works now. May suspend, and do whatever its maker said it may; raises `TokenError`."""
        ...


class TokenRequest(NamedTuple):
    """Everything that decides which token comes back: two calls share a token only if their requests are equal.

    Made by a client's `request()`, which leaves out nothing that reaches the wire or changes the result. It is a key:
    it holds no assertion, secret or token, and is used in this process only (stores see a hash).
    """

    client_id: str
    authority: str
    """The canonical URL of the authority, tenant included."""
    grant: str
    """How the token is got: `client_credentials`, `user`, ..."""
    scopes: tuple[str, ...]
    """Sorted, each once: their order does not change the token."""
    account: str = ""
    """The home account id; empty where no account was named."""
    login_hint: str = ""
    claims: str = ""
    """A claims challenge (JSON), empty without."""
    capabilities: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    """Whatever else reaches the wire, as sorted pairs."""
    token_type: str = "Bearer"
    generation: int = 0
    """Which set of accounts a request that names none was bound to; written by the manager."""

    @property
    def unbound(self) -> bool:
        """Whether the account is yet to be chosen among those that have signed in."""
        return self.grant == "user" and not self.account


class SourceOptions(TypedDict, total=False):
    """The keywords that say which token is meant. Leave a keyword out rather than passing None or an empty string."""

    account: Account | str
    """The user: an `Account` or its home account id."""
    login_hint: str
    """The user name, for choosing among the accounts that have signed in."""
    claims: str
    """A claims challenge (JSON): a token obtained for it answers until that token is itself rejected."""


class GetOptions(SourceOptions, total=False):
    """The keywords of `TokenManager.get`."""

    rejected: Token
    """A token that a resource refused: a new one, unless the one held is already another."""


def check_options(options: Mapping[str, object]) -> tuple[dict[str, object], Token | None]:
    """The keywords that go to the client, and the token rejected; raises TypeError for None and empty strings."""
    for name, value in options.items():
        if value is None or value == "" or (isinstance(value, Account) and not value.home_account_id):
            raise TypeError(
                f"{name}={value!r} names nothing: leave the keyword out, or find out why there is no {name} "
                "(it is refused lest the request of one user become that of another)"
            )
    rejected = options.get("rejected")
    if rejected is not None and not isinstance(rejected, Token):
        raise TypeError(f"rejected is the Token that was refused, not {type(rejected).__name__}")
    return {name: value for name, value in options.items() if name != "rejected"}, rejected


def canonical_scopes(scopes: tuple[object, ...]) -> tuple[str, ...]:
    """The scopes sorted and each once; raises for what cannot be a list of scopes, saying what to write instead.

    Raises:
        TypeError: something other than a string, such as a list of scopes in one argument.
        ValueError: no scope, an empty one, or several in one string.
    """
    if not scopes:
        raise ValueError('name at least one scope: "User.Read" for a user, "https://graph.microsoft.com/.default"')
    for scope in scopes:
        if not isinstance(scope, str):
            raise TypeError(
                f"a scope is a string, not {type(scope).__name__}: pass several scopes as several arguments, "
                'get("User.Read", "Mail.Read"), or unpack them, get(*scopes)'
            )
        if not scope or scope.split() != [scope] or not scope.isprintable():
            raise ValueError(f"one scope a string, without blanks, not {scope!r}: pass several as several arguments")
    names = cast("tuple[str, ...]", scopes)
    return names if len(names) == 1 else tuple(sorted(set(names)))  # mostly one: spare 100,000 tokens a tuple each


def canonical_claims(claims: object) -> str:
    """A claims challenge, checked to be what RFC 8259 and OpenID Connect Core section 5.5 make of it: a JSON object.

    Raises:
        TypeError: not a string.
        ValueError: not a JSON object.
    """
    if not isinstance(claims, str):
        raise TypeError(f"claims is a JSON text, not {type(claims).__name__}: use json.dumps(...)")
    try:
        parsed = json.loads(claims)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError(
            "claims must be the text of a JSON object; a challenge in a WWW-Authenticate header is base64url: decode it"
        )
    return claims.strip()


def merged_claims(claims: str, more: str) -> str:
    """Two claims challenges as one, either of which may be empty; where they contradict each other the second holds."""
    if not claims or not more or claims == more:
        return more or claims
    try:
        theirs = json.loads(more)
    except (ValueError, RecursionError):
        return claims
    return json.dumps(_deeply(json.loads(claims), theirs), separators=(",", ":"))


def _deeply(one: object, other: object) -> object:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other
    ours, theirs = cast("dict[str, object]", one), cast("dict[str, object]", other)
    return {**ours, **{name: _deeply(ours[name], value) if name in ours else value for name, value in theirs.items()}}


def decode_claims(jwt: str) -> dict[str, Any]:
    """The claims of a JWT whose signature somebody else has checked; empty if it has none that can be read."""
    try:
        payload = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", claims) if isinstance(claims, dict) else {}
