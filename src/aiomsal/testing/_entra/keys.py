"""Keys and JSON web tokens: what signs the tokens issued, and what checks the assertions presented."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import threading
from dataclasses import dataclass, field
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from .http import JsonObject, parse_object

_PKCS1 = padding.PKCS1v15()
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
_SHA256 = hashes.SHA256()


def b64url(raw: bytes) -> str:
    """Return `raw` in base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def from_b64url(text: str) -> bytes:
    """Return what `text` encodes, padded or not; raise ValueError if it encodes nothing."""
    try:
        return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except (binascii.Error, ValueError) as error:
        message = "not base64url"
        raise ValueError(message) from error


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class SigningKey:
    """An RSA key that signs tokens with RS256. Making one takes 100 ms and more; may be used from any thread."""

    def __init__(self) -> None:
        """Generate the key."""
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = self._private.public_key()
        numbers = self.public.public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        self.key_id = b64url(hashlib.sha256(modulus).digest()[:20])
        self._header = b64url(_json({"typ": "JWT", "alg": "RS256", "kid": self.key_id})) + "."
        self.jwk: dict[str, str] = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.key_id,
            "n": b64url(modulus),
            "e": b64url(numbers.e.to_bytes(3, "big")),
        }

    def sign(self, claims: JsonObject) -> str:
        """Return `claims` as a signed JSON web token."""
        signed = self._header + b64url(_json(claims))
        return f"{signed}.{b64url(self._private.sign(signed.encode(), _PKCS1, _SHA256))}"


class SharedKey:
    """The key that every FakeEntra of this process signs with, unless it asked for one of its own."""

    _lock = threading.Lock()
    _key: SigningKey | None = None

    @classmethod
    def get(cls) -> SigningKey:
        """Return that key, made by the first who asks."""
        with cls._lock:
            if cls._key is None:
                cls._key = SigningKey()
            return cls._key


@dataclass(frozen=True)
class Jwt:
    """A JSON web token taken apart, its signature not yet checked."""

    header: JsonObject
    claims: JsonObject
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Jwt:
        """Take `text` apart; raise ValueError if it is no signed JSON web token."""
        head, _, rest = text.partition(".")
        body, _, signature = rest.partition(".")
        if not (head and body and signature):
            message = "not a signed JSON web token"
            raise ValueError(message)
        return cls(
            parse_object(from_b64url(head)),
            parse_object(from_b64url(body)),
            f"{head}.{body}".encode(),
            from_b64url(signature),
        )

    def signed_by(self, key: rsa.RSAPublicKey) -> bool:
        """Say whether `key` made the signature, by RS256 or PS256 (RFC 7518, section 3)."""
        scheme = {"RS256": _PKCS1, "PS256": _PSS}.get(str(self.header.get("alg")))
        if scheme is None:
            return False
        try:
            key.verify(self.signature, self.signed, scheme, _SHA256)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class RegisteredCertificate:
    """The public half of a certificate registered for an application."""

    der: bytes = field(repr=False)

    @classmethod
    def load(cls, pem: str) -> RegisteredCertificate:
        """Read `pem`; raise ValueError if it is no certificate with an RSA key."""
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if not isinstance(certificate.public_key(), rsa.RSAPublicKey):
            message = "a client certificate must have an RSA key: MSAL signs with RS256 or PS256"
            raise ValueError(message)
        return cls(certificate.public_bytes(serialization.Encoding.DER))

    @cached_property
    def public_key(self) -> rsa.RSAPublicKey:
        """Return its public key."""
        key = x509.load_der_x509_certificate(self.der).public_key()
        if not isinstance(key, rsa.RSAPublicKey):  # pragma: no cover  load() has refused any other
            raise TypeError
        return key

    @cached_property
    def thumbprints(self) -> frozenset[tuple[str, str]]:
        """Return the header parameters that name it (RFC 7515, sections 4.1.7 and 4.1.8)."""
        sha1 = hashlib.sha1(self.der, usedforsecurity=False).digest()
        return frozenset({("x5t", b64url(sha1)), ("x5t#S256", b64url(hashlib.sha256(self.der).digest()))})


def load_public_key(pem: str) -> rsa.RSAPublicKey:
    """Read an RSA public key from `pem`; raise ValueError if it is none."""
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        message = "the public key of a federated issuer must be an RSA key"
        raise ValueError(message)
    return key


@dataclass(frozen=True)
class ClientCertificate:
    """A self-signed certificate with its private key, as an application keeps it. Both are PEM."""

    certificate: str
    private_key: str = field(repr=False)
    public_key: str = field(repr=False)

    @classmethod
    def new(cls, common_name: str = "aiomsal test client") -> ClientCertificate:
        """Make one, valid for ten years, with a new RSA key: that takes 100 ms and more."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        today = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - dt.timedelta(days=1))
            .not_valid_after(today + dt.timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        return cls(
            certificate.public_bytes(pem).decode(),
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
            key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode(),
        )

    @property
    def thumbprint(self) -> str:
        """Return the SHA-1 of the certificate in hexadecimal, as MSAL's `thumbprint` wants it."""
        der = x509.load_pem_x509_certificate(self.certificate.encode()).public_bytes(serialization.Encoding.DER)
        return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()
