"""Sessions: who has signed in, and their refresh tokens, as bytes. Pure.

A session is compact JSON with MSAL's own entries (the unified schema of all MSAL libraries), listed by kind and sorted,
so that equal sessions are equal bytes. No access token is ever in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from aiomsal._asked import TenantProfile
from aiomsal._token import decode_claims

from ._shared import shared_account

if TYPE_CHECKING:
    from aiomsal._token import Account

Entry = dict[str, Any]
Entries = dict[str, list[Entry]]
"""Entries by kind. The kinds are MSAL's names for them."""

ACCOUNT, ACCESS_TOKEN, REFRESH_TOKEN, ID_TOKEN, APP_METADATA = (
    "Account",
    "AccessToken",
    "RefreshToken",
    "IdToken",
    "AppMetadata",
)

# What makes two entries the same one. MSAL's own keys tell refresh tokens apart by their scopes too; but one serves
# all, and one that was left behind would be redeemed later as if stolen.
IDENTITY: Final[dict[str, tuple[str, ...]]] = {
    ACCOUNT: ("home_account_id", "environment", "realm"),
    REFRESH_TOKEN: ("home_account_id", "environment", "client_id"),
    ID_TOKEN: ("home_account_id", "environment", "client_id", "realm"),
    APP_METADATA: ("environment", "client_id"),
}
_VERSION: Final = 1
SIGNED_IN, REFRESHED = "signed_in_at", "refreshed_at"
"""Our own fields of a refresh token: epoch seconds and parts of them, where MSAL's last_modification_time is whole."""


def accounts_of(session: bytes) -> tuple[Account, ...]:
    """Who is in a session: each home account once."""
    found: dict[str, Account] = {}
    for entry in read(session)[ACCOUNT]:
        account = shared_account(
            str(entry["home_account_id"]),
            str(entry.get("environment") or ""),
            str(entry.get("username") or ""),
            str(entry.get("realm") or ""),
        )
        at_home = account.home_account_id.endswith(f".{account.tenant_id}")
        if at_home or account.home_account_id not in found:
            found[account.home_account_id] = account
    return tuple(found.values())


def profiles_of(session: bytes, account: str) -> tuple[TenantProfile, ...]:
    """See `PeopleClient.profiles`: at home first, then by tenant."""
    entries = read(session)
    found: dict[str, tuple[str, str]] = {}
    for entry in entries[ACCOUNT]:
        if entry["home_account_id"] == account:
            found[str(entry.get("realm") or "")] = _text(entry, "local_account_id"), _text(entry, "username")
    for entry in entries[ID_TOKEN]:  # they know of tenants in which nobody signed in, and the token was refreshed
        if found and entry.get("home_account_id") == account:
            claims = decode_claims(_text(entry, "secret"))
            known_id, known_name = found.get(_text(entry, "realm"), ("", ""))
            object_id = _text(claims, "oid") or _text(claims, "sub") or known_id
            username = _text(claims, "preferred_username") or _text(claims, "upn") or known_name
            found[_text(entry, "realm")] = object_id, username
    profiles = [
        TenantProfile(tenant, object_id, username, account in (object_id, f"{account.partition('.')[0]}.{tenant}"))
        for tenant, (object_id, username) in found.items()
    ]
    return tuple(sorted(profiles, key=lambda profile: (not profile.is_home, profile.tenant_id)))


def subjects_of(session: bytes, account: str) -> set[tuple[str, str]]:
    """By which issuer and subject a home account id is known from its ID tokens."""
    tokens = (entry for entry in read(session)[ID_TOKEN] if entry.get("home_account_id") == account)
    known = (decode_claims(_text(entry, "secret")) for entry in tokens)
    return {(_text(claims, "iss"), _text(claims, "sub")) for claims in known if _text(claims, "sub")}


def refresh_token_of(session: bytes, account: str) -> str:
    """The refresh token of a home account id; empty without one."""
    entries = read(session)[REFRESH_TOKEN]
    return next((_text(entry, "secret") for entry in entries if entry.get("home_account_id") == account), "")


def merged(session: bytes | None, update: bytes, *, sign_in: bool) -> bytes:
    """See `PeopleClient.merge`."""
    ours, theirs = read(session or b""), read(update)
    known = {entry["home_account_id"] for entry in ours[ACCOUNT]}
    came = {entry["home_account_id"] for entry in theirs[ACCOUNT]}
    newer = {home for home in came if sign_in or (home in known and _age(theirs, home) >= _age(ours, home))}
    result: Entries = {}
    for kind in IDENTITY:
        updates = [e for e in theirs[kind] if e.get("home_account_id", "") in newer or kind == APP_METADATA]
        result[kind] = ours[kind] + updates  # of two with one identity the later stays
    return dump(result)


def without(session: bytes, account: str) -> bytes | None:
    """See `PeopleClient.without`."""
    entries = read(session)
    rest = {kind: [e for e in entries[kind] if e.get("home_account_id") != account] for kind in IDENTITY}
    return dump(rest) if rest[ACCOUNT] else None


def read(session: bytes) -> Entries:
    """The entries of a session; nobody is in one that cannot be read."""
    try:
        parsed: object = json.loads(session)
    except ValueError:
        parsed = None
    kinds = cast("dict[str, object]", parsed) if isinstance(parsed, dict) else {}
    if kinds.get("version") != _VERSION:
        kinds = {}
    entries: Entries = {}
    for kind in IDENTITY:
        listed = kinds.get(kind)
        items = cast("list[object]", listed) if isinstance(listed, list) else []
        entries[kind] = [cast("Entry", item) for item in items if isinstance(item, dict)]
    entries[ACCOUNT] = [entry for entry in entries[ACCOUNT] if entry.get("home_account_id")]
    return entries


def dump(entries: Entries) -> bytes:
    document: dict[str, object] = {"version": _VERSION}
    homes = {entry["home_account_id"] for entry in entries[ACCOUNT]}
    for kind, identity in IDENTITY.items():
        # An answer without client_info is filed by its ID token's subject, whom nobody knows.
        kept = [entry for entry in entries[kind] if kind == APP_METADATA or entry.get("home_account_id") in homes]
        once = {tuple(str(entry.get(name) or "") for name in identity): entry for entry in kept}
        document[kind] = [once[key] for key in sorted(once)]
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _text(fields: dict[str, Any], name: str) -> str:
    value: object = fields.get(name)
    return value if isinstance(value, str) else ""


def _age(entries: Entries, home: str) -> tuple[float, float]:
    """The age of an account's newest refresh token."""
    return max((age(e) for e in entries[REFRESH_TOKEN] if e.get("home_account_id") == home), default=(0.0, 0.0))


def age(entry: Entry) -> tuple[float, float]:
    """Of which sign-in a refresh token comes, and which of its successors it is; the greater the newer.

    The sign-in counts first: an older one may lack what the person was asked for in the newer.
    """
    return _seconds(entry.get(SIGNED_IN)), _seconds(entry.get(REFRESHED) or entry.get("last_modification_time"))


def _seconds(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0
