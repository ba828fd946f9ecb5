"""How a confidential client proves who it is: a secret, a certificate, or an assertion that somebody else signs.

The only module of the clients that knows cryptography, which it imports in worker threads.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from aiomsal._errors import AuthorityUnavailable, InvalidClient, Throttled, TokenError
from aiomsal._token import TokenSource

from ._redact import in_words, scrubbed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate as X509Certificate

    from ._msal import MsalAuthority

AssertionCallable = Callable[[], str | Awaitable[str]]

SIGNED_FOR: Final = 600.0
"""Seconds an assertion signed with a certificate is valid; it is used for half of them."""
_PEM: Final = "-----BEGIN"
_LONGEST_PATH: Final = 1024


class Credential(Protocol):
    """What a client asks of its credential. The methods are for clients; users only make credentials."""

    async def awaited(self) -> str | None:
        """The assertion, if it must be awaited for. On the event loop, and outside of any lock."""
        ...

    def for_msal(self, assertion: Callable[[], str], /) -> object:
        """MSAL's `client_credential`; `assertion` returns the assertion of the current call."""
        ...

    def assertion(self, client_id: str, authority: MsalAuthority, awaited: str | None, /) -> str:
        """The assertion for one call, empty if it needs none. In a worker thread."""
        ...


class Secret:
    """A client secret. Users pass the string."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not value or value.isspace():
            raise ValueError("the client secret is empty: is the setting it comes from missing?")
        if value != value.strip():
            raise ValueError("the client secret begins or ends with white space: strip it (a newline from a file?)")
        self._value = value

    def __repr__(self) -> str:
        return "Secret(...)"

    async def awaited(self) -> str | None:
        """See `Credential`."""
        return None

    def for_msal(self, _assertion: Callable[[], str], /) -> object:
        """See `Credential`."""
        return self._value

    def assertion(self, _client_id: str, _authority: MsalAuthority, _awaited: str | None, /) -> str:
        """See `Credential`."""
        return ""


class Assertion:
    """A client assertion that somebody else signs: workload identity federation, a managed identity, a key vault.

    Args:
        source: the assertion itself; or a callable that returns it, plain (called in a worker thread) or async; or a
            `TokenSource`, whose token is then the assertion. It is asked each time a token is needed from the
            authority, so that no assertion is used that has expired: what it costs to make one, it may keep.
    """

    __slots__ = ("_source",)

    def __init__(self, source: str | AssertionCallable | TokenSource) -> None:
        kind: type[object] = type(source)
        # a dict has a get() too, and would pass for a TokenSource
        if issubclass(kind, Mapping) or not (isinstance(source, str | TokenSource) or callable(source)):
            raise TypeError(f"an assertion is a string, a callable or a TokenSource, not {kind.__name__}")
        if isinstance(source, str) and not source.strip():
            raise ValueError("the assertion is empty: is the setting it comes from missing?")
        self._source: Final = source

    def __repr__(self) -> str:
        return "Assertion(...)" if isinstance(self._source, str) else f"Assertion({self._source!r})"

    async def awaited(self) -> str | None:
        """See `Credential`."""
        source = self._source
        if isinstance(source, str):
            return None
        if isinstance(source, TokenSource):
            return await self._of_token(source)
        if not _is_async(source):
            return None
        try:
            return _checked(await cast("Callable[[], Awaitable[str]]", source)())
        except InvalidClient:
            raise
        except Exception as error:  # noqa: BLE001 -- theirs, whatever it is
            refused = _no_assertion(error)
        raise refused

    def for_msal(self, assertion: Callable[[], str], /) -> object:
        """See `Credential`."""
        return {"client_assertion": assertion}

    def assertion(self, _client_id: str, _authority: MsalAuthority, awaited: str | None, /) -> str:
        """See `Credential`."""
        if awaited is not None:
            return awaited
        if isinstance(self._source, str):
            return self._source
        assert callable(self._source), "a TokenSource is awaited"
        try:
            made = self._source()
        except Exception as error:  # noqa: BLE001 -- theirs, whatever it is
            refused = _no_assertion(error)
        else:
            if inspect.iscoroutine(made):
                made.close()
            return _checked(made)
        raise refused

    async def _of_token(self, source: TokenSource) -> str:
        try:
            return (await source.get()).value
        except (AuthorityUnavailable, Throttled):  # worth another attempt, and says so
            raise
        except TokenError as error:  # an InteractionRequired of its own would look like one of ours
            raise _no_assertion(error) from error


class Certificate:
    """A certificate and its private key (RSA), which sign the client's assertions.

    Args:
        source: the path of a PEM or PFX file; or PEM text; or the bytes of either. PEM holds the private key and the
            certificate, and may hold those that issued it. Files are read in a worker thread, when first needed.
        password: of the private key or the PFX file.
        send_chain: send the certificate along (`x5c`), for applications registered by subject name and issuer.
    """

    __slots__ = ("_keys", "_password", "_send_chain", "_signed", "_source")

    def __init__(
        self, source: str | bytes | os.PathLike[str], *, password: str | bytes | None = None, send_chain: bool = False
    ) -> None:
        if not isinstance(source, str | bytes | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a certificate is a path, PEM text or bytes, not {type(source).__name__}")
        if not source:
            raise ValueError("the certificate is empty: is the setting it comes from missing?")
        if isinstance(source, str) and _PEM not in source and (len(source) > _LONGEST_PATH or "\n" in source):
            raise ValueError(
                "neither a path nor PEM text; if it is a PFX file in base64, pass base64.b64decode(...) of it"
            )
        self._source: Final = source.encode() if isinstance(source, str) and _PEM in source else source
        self._password: Final = password.encode() if isinstance(password, str) else password
        self._send_chain: Final = send_chain
        # Both are memos: two threads that come first at once do the work twice, and one result stays.
        self._keys: _Keys | None = None
        self._signed: dict[tuple[str, str], tuple[str, float]] = {}

    def __repr__(self) -> str:
        where = "..." if isinstance(self._source, bytes) else repr(os.fspath(self._source))
        return f"Certificate({where}, send_chain={self._send_chain})"

    async def awaited(self) -> str | None:
        """See `Credential`."""
        return None

    def for_msal(self, assertion: Callable[[], str], /) -> object:
        """See `Credential`."""
        return {"client_assertion": assertion}

    def assertion(self, client_id: str, authority: MsalAuthority, _awaited: str | None, /) -> str:
        """See `Credential`. Signing takes a millisecond or so: an assertion serves many calls."""
        now = time.time()
        audience = authority.token_endpoint
        signed, until = self._signed.get((client_id, audience), ("", 0.0))
        if not now < until <= now + SIGNED_FOR:  # not now < until: the clock may have jumped back
            keys = self._keys = self._keys or self._load()
            signed = keys.sign(client_id, audience, now, chain=self._send_chain, sha1=authority.is_adfs)
            self._signed[client_id, audience] = (signed, now + SIGNED_FOR / 2)
        return signed

    def _load(self) -> _Keys:
        try:
            data = self._source if isinstance(self._source, bytes) else Path(self._source).read_bytes()
            return _from_pem(data, self._password) if _PEM.encode() in data else _from_pfx(data, self._password)
        except Exception as error:  # noqa: BLE001 -- what cryptography and the file system raise is the user's to mend
            cause = in_words(error)
        raise InvalidClient(f"{self!r} cannot be used: {cause}", code="unusable_certificate") from cause


class _Keys(NamedTuple):
    key: RSAPrivateKey
    chain: tuple[bytes, ...]
    """The certificates in DER, that of the key first."""

    def __repr__(self) -> str:
        return "_Keys(...)"

    def sign(self, client_id: str, audience: str, now: float, *, chain: bool, sha1: bool) -> str:
        """A client assertion (RFC 7523): PS256 and SHA-256, or what AD FS knows, RS256 and SHA-1."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        sha256 = hashes.SHA256()
        header: dict[str, object] = {"typ": "JWT"}
        if sha1:
            header |= {"alg": "RS256", "x5t": _b64(hashlib.sha1(self.chain[0], usedforsecurity=False).digest())}
            scheme: padding.PSS | padding.PKCS1v15 = padding.PKCS1v15()
        else:
            header |= {"alg": "PS256", "x5t#S256": _b64(hashlib.sha256(self.chain[0]).digest())}
            scheme = padding.PSS(padding.MGF1(sha256), sha256.digest_size)
        if chain:
            header["x5c"] = [base64.b64encode(der).decode() for der in self.chain]  # not base64url: RFC 7515
        claims = {
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": str(uuid.uuid4()),
            "nbf": int(now),
            "exp": int(now + SIGNED_FOR),
        }
        signed = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        return f"{signed}.{_b64(self.key.sign(signed.encode(), scheme, sha256))}"


def _from_pem(data: bytes, password: bytes | None) -> _Keys:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, password)
    except TypeError:
        if password is None:
            raise ValueError("the private key is encrypted: pass password=") from None
        key = load_pem_private_key(data, None)  # a password for a key that needs none
    return _matched(key, x509.load_pem_x509_certificates(data))


def _from_pfx(data: bytes, password: bytes | None) -> _Keys:
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

    contents = load_pkcs12(data, password)
    found = [contents.cert, *contents.additional_certs]
    return _matched(contents.key, [holder.certificate for holder in found if holder is not None])


def _matched(key: object, certificates: list[X509Certificate]) -> _Keys:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding

    if not isinstance(key, RSAPrivateKey):
        raise ValueError("it needs an RSA private key")
    own = [certificate for certificate in certificates if certificate.public_key() == key.public_key()]
    if not own:
        raise ValueError("it holds no certificate for its private key")
    issuers = [certificate for certificate in certificates if certificate not in own]
    return _Keys(key, tuple(c.public_bytes(Encoding.DER) for c in (own[0], *issuers)))


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _checked(made: object) -> str:
    value = made.decode() if isinstance(made, bytes) else made
    if not isinstance(value, str) or not value.strip():
        raise InvalidClient(
            f"the assertion callable returned {type(made).__name__}, or nothing: it is to return the assertion as a "
            "string; one that must be awaited is to be an `async def`",
            code="no_assertion",
        )
    return value.strip()


def _no_assertion(error: Exception) -> InvalidClient:
    """To be raised when theirs is no longer being handled: an error that may quote the assertion is not chained."""
    words = scrubbed(f"{type(error).__name__}: {error}", ())
    refused = InvalidClient(f"the client assertion could not be had: {words}", code="no_assertion")
    refused.__cause__ = in_words(error)
    return refused


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
