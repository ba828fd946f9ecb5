"""Which calls are equal: all that reaches the wire, or changes what comes back, is in the key.

What cannot be compared makes a call unlike any other. Assertions, and whatever else may be secret, are in it hashed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

_TEXT: Final = frozenset({str, type(None), bool})
_BARE: Final = frozenset({int, float, type(None), bool, type})
_SCOPES: Final = frozenset({list, tuple, set, frozenset})

Key = tuple[object, ...]


class _Incomparable(Exception):
    pass


def key_of(
    method: str,
    scopes: object,
    account: object,
    fields: tuple[object, ...],
    kwargs: Mapping[str, object],
    *,
    secret: object = None,
) -> Key | None:
    """The key of a call, or None: it is not to be shared.

    Args:
        method: which one.
        scopes: in any order; MSAL takes a list where it takes a list, so their type counts.
        account: the dict that `get_accounts` returned, or None.
        fields: the method's other arguments, plain ones.
        kwargs: what goes on to MSAL unseen.
        secret: an assertion or a code.
    """
    kind = type(scopes)
    if kind not in _SCOPES and scopes is not None:
        return None  # MSAL will say what is wrong with it
    for field in fields:
        if type(field) not in _TEXT:
            return None
    try:
        return (
            method,
            kind,
            None if scopes is None else _texts(cast("Iterable[object]", scopes)),
            None if account is None else _items(account),
            fields,
            None if secret is None else _digest(secret),
            canonical(kwargs) if kwargs else None,
        )
    except (_Incomparable, TypeError):  # TypeError: something has no hash
        return None


def beside(key: Key, objects: tuple[object, ...]) -> Key | None:
    """The key with objects that are compared as they compare themselves: what only concerns this machine."""
    try:
        hash(objects)
    except TypeError:
        return None
    return (key, objects)


def canonical(value: object) -> Hashable:
    """A value of plain types and containers of them, as something that can be compared; texts in it are hashed.

    Raises:
        _Incomparable: it holds something else, such as a function; or it is bound to a key (proof of possession).
    """
    kind = type(value)
    if kind in _BARE:
        return (kind, value)
    if kind is str or kind is bytes:
        return (kind, _digest(value))
    if kind is list or kind is tuple:
        return (kind, *map(canonical, cast("Iterable[object]", value)))
    if kind is dict:
        items = cast("dict[object, object]", value)
        if items.get("token_type") == "pop":  # bound to a nonce
            raise _Incomparable
        return (kind, frozenset((name, canonical(each)) for name, each in items.items()))
    raise _Incomparable


def _texts(scopes: Iterable[object]) -> frozenset[object]:
    texts = frozenset(scopes)
    for text in texts:
        if type(text) is not str:
            raise _Incomparable
    return texts


def _items(account: object) -> Hashable:
    if type(account) is not dict:
        raise _Incomparable
    return frozenset(cast("dict[str, object]", account).items())


def _digest(secret: object) -> tuple[type, bytes]:
    if isinstance(secret, str):
        return str, sha256(secret.encode("utf-8", "surrogatepass")).digest()
    if isinstance(secret, bytes):
        return bytes, sha256(secret).digest()
    raise _Incomparable
