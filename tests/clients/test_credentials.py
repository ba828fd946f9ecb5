"""Each way to prove who one is, checked by FakeEntra."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from aiomsal import AuthorityUnavailable, InteractionRequired, InvalidClient, Token
from aiomsal._client import Attempt
from aiomsal.clients.credentials import Assertion, Certificate
from aiomsal.testing import FederatedCredential

from .helpers import GRAPH, acquire, confidential

if TYPE_CHECKING:
    from pathlib import Path

    from aiomsal.testing import ClientCertificate, FakeEntra

pytestmark = pytest.mark.anyio

PASSWORD = "open sesame"


def encrypted(certificate: ClientCertificate) -> str:
    key = serialization.load_pem_private_key(certificate.private_key.encode(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    return pem.decode() + certificate.certificate


def pfx(certificate: ClientCertificate, password: str | None = None, *issuers: str) -> bytes:
    key: Any = serialization.load_pem_private_key(certificate.private_key.encode(), None)
    return pkcs12.serialize_key_and_certificates(
        b"app",
        key,
        x509.load_pem_x509_certificate(certificate.certificate.encode()),
        [x509.load_pem_x509_certificate(issuer.encode()) for issuer in issuers],
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption(),
    )


def forms(certificate: ClientCertificate, directory: Path) -> dict[str, Certificate]:
    plain = certificate.private_key + certificate.certificate
    files = {"plain.pem": plain.encode(), "plain.pfx": pfx(certificate), "locked.pfx": pfx(certificate, PASSWORD)}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return {
        "PEM text": Certificate(plain),
        "PEM bytes": Certificate(plain.encode()),
        "PEM text, the certificate first": Certificate(certificate.certificate + certificate.private_key),
        "encrypted PEM text": Certificate(encrypted(certificate), password=PASSWORD),
        "a password that is not needed": Certificate(plain, password=PASSWORD),
        "PEM file": Certificate(directory / "plain.pem"),
        "PEM file as text": Certificate(str(directory / "plain.pem")),
        "PFX file": Certificate(directory / "plain.pfx"),
        "PFX file with a password": Certificate(directory / "locked.pfx", password=PASSWORD.encode()),
        "PFX bytes": Certificate(pfx(certificate, PASSWORD), password=PASSWORD),
        "with its chain": Certificate(plain, send_chain=True),
    }


async def test_every_form_of_a_certificate_signs_what_the_authority_accepts(
    fake_entra: FakeEntra, certificate: ClientCertificate, tmp_path: Path
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    for name, credential in forms(certificate, tmp_path).items():
        assert (await acquire(confidential(fake_entra, app, credential), GRAPH)).token, name


def header_of(jwt: str) -> dict[str, Any]:
    head = jwt.partition(".")[0]
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return header


class Authority:
    instance, tenant, token_endpoint, is_adfs = "h", "t", "https://h/t/token", False


def signed(credential: Certificate, authority: Any = Authority) -> str:
    return credential.assertion("app", authority, None)


def test_the_chain_is_sent_only_when_asked_for_and_the_certificate_of_the_key_leads_it(
    certificate: ClientCertificate, other_certificate: ClientCertificate
) -> None:
    pem = other_certificate.certificate + certificate.private_key + certificate.certificate
    assert "x5c" not in header_of(signed(Certificate(pem)))
    own = x509.load_pem_x509_certificate(certificate.certificate.encode()).public_bytes(serialization.Encoding.DER)
    for credential in (
        Certificate(pem, send_chain=True),
        Certificate(pfx(certificate, None, other_certificate.certificate), send_chain=True),
    ):
        chain = header_of(signed(credential))["x5c"]
        assert len(chain) == 2
        assert base64.b64decode(chain[0]) == own


def test_ad_fs_gets_the_signature_it_knows(certificate: ClientCertificate) -> None:
    class Adfs(Authority):
        is_adfs = True

    header = header_of(signed(Certificate(certificate.private_key + certificate.certificate), Adfs))
    assert header["alg"] == "RS256"
    assert "x5t" in header
    header = header_of(signed(Certificate(certificate.private_key + certificate.certificate)))
    assert header["alg"] == "PS256"
    assert "x5t#S256" in header


def test_an_assertion_is_signed_once_for_many_calls_and_anew_when_the_clock_says_so(
    certificate: ClientCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = Certificate(certificate.private_key + certificate.certificate)
    now = [1_000_000.0]
    monkeypatch.setattr("aiomsal.clients.credentials.time.time", lambda: now[0])
    one = signed(credential)
    now[0] += 299
    assert signed(credential) == one
    now[0] += 1
    two = signed(credential)
    assert two != one
    now[0] -= 10_000
    assert signed(credential) != two, "one from the future is not valid yet"


async def test_a_certificate_that_cannot_be_used_is_told_so_and_asks_nobody(
    fake_entra: FakeEntra, certificate: ClientCertificate, other_certificate: ClientCertificate, tmp_path: Path
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrong = {
        "No such file": Certificate(tmp_path / "missing.pem"),
        "no certificate for its private key": Certificate(certificate.private_key + other_certificate.certificate),
        "pass password=": Certificate(encrypted(certificate)),
        "RSA": Certificate(curve.decode() + certificate.certificate),
        "[Pp]assword": Certificate(pfx(certificate, PASSWORD), password="wrong"),
        "unusable_certificate": Certificate(b"neither"),
    }
    for words, credential in wrong.items():
        with pytest.raises(InvalidClient, match=words) as caught:
            await acquire(confidential(fake_entra, app, credential), GRAPH)
        assert PASSWORD not in str(caught.value)
    assert fake_entra.count("token") == 0


@pytest.mark.parametrize(
    ("source", "kind", "advice"),
    [
        ("", ValueError, "empty"),
        (b"", ValueError, "empty"),
        (None, TypeError, "path"),
        (base64.b64encode(b"pfx" * 1000).decode(), ValueError, "b64decode"),
        ("MII\nMII", ValueError, "b64decode"),
    ],
    ids=["empty text", "no bytes", "None", "base64", "base64 in lines"],
)
def test_what_is_no_certificate_is_refused_without_repeating_it(
    source: Any, kind: type[Exception], advice: str
) -> None:
    with pytest.raises(kind, match=advice) as caught:
        Certificate(source)
    assert "MII" not in str(caught.value)
    assert "cGZ4" not in str(caught.value)


def test_credentials_show_no_secret(certificate: ClientCertificate, tmp_path: Path) -> None:
    shown = repr([*forms(certificate, tmp_path).values(), Assertion("eyJ.very.secret")])
    assert "BEGIN" not in shown
    assert PASSWORD not in shown
    assert "very" not in shown
    assert "plain.pem" in shown, "a path is no secret, and helps"


# -- assertions ------------------------------------------------------------------------------------------------------


class Federation:
    """An application that trusts another's token, and that other's token as an assertion."""

    def __init__(self, entra: FakeEntra) -> None:
        self.other = entra.add_application()
        self.app = entra.add_application(
            federated=[FederatedCredential(f"{entra.authority()}/v2.0", self.other.object_id)]
        )
        self.source = confidential(entra, self.other)

    async def token(self) -> Token:
        return (await acquire(self.source, "api://AzureADTokenExchange/.default")).token

    async def get(self) -> Token:
        return await self.token()


@pytest.fixture
def federation(fake_entra: FakeEntra) -> Federation:
    return Federation(fake_entra)


async def test_an_assertion_may_be_a_string_a_callable_an_async_callable_or_a_token_source(
    fake_entra: FakeEntra, federation: Federation
) -> None:
    jwt = (await federation.token()).value

    async def awaited() -> str:
        await anyio.lowlevel.checkpoint()
        return jwt

    class AsyncCallable:
        async def __call__(self) -> str:
            return jwt

    def as_bytes() -> Any:
        return jwt.encode()

    for source in (jwt, lambda: jwt, as_bytes, awaited, AsyncCallable(), federation):
        assert (await acquire(confidential(fake_entra, federation.app, Assertion(source)), GRAPH)).token, source


async def test_an_assertion_is_asked_for_again_for_each_request(fake_entra: FakeEntra, federation: Federation) -> None:
    asked = 0
    plain = federation.get

    async def counting() -> str:
        nonlocal asked
        asked += 1
        return (await plain()).value

    client = confidential(fake_entra, federation.app, Assertion(counting))
    for _ in range(3):
        await acquire(client, GRAPH)
    assert asked == 3


async def test_an_assertion_that_is_awaited_is_awaited_in_prepare_and_used_once(
    fake_entra: FakeEntra, federation: Federation
) -> None:
    log: list[str] = []

    async def awaited() -> str:
        log.append("awaited")
        return (await federation.token()).value

    client = confidential(fake_entra, federation.app, Assertion(awaited))
    request = client.request((GRAPH,), {})
    await client.prepare(request, Attempt(0, None, anyio.current_time() + 60))
    log.append("prepared")
    await client.acquire(request, None)
    log.append("acquired")
    await client.acquire(request, None)  # without prepare
    assert log == ["awaited", "prepared", "acquired", "awaited"]


async def test_an_assertion_awaited_for_one_client_is_never_sent_by_another(
    fake_entra: FakeEntra, federation: Federation
) -> None:
    async def of_this() -> str:
        return (await federation.token()).value

    async def of_the_other() -> str:
        return "eyJ.of.another"

    this = confidential(fake_entra, federation.app, Assertion(of_this))
    other = confidential(fake_entra, federation.app, Assertion(of_the_other))
    request = this.request((GRAPH,), {})
    await other.prepare(request, Attempt(0, None, anyio.current_time() + 60))
    assert (await this.acquire(request, None)).token


async def test_concurrent_calls_each_send_their_own_assertion(fake_entra: FakeEntra, federation: Federation) -> None:
    made: list[str] = []

    async def fresh() -> str:
        made.append((await federation.token()).value)
        return made[-1]

    sent: list[str] = []

    class Listening:
        def __init__(self) -> None:
            self._client = fake_entra.http_client()
            self.get = self._client.get

        def post(self, url: str, **options: Any) -> Any:
            sent.append(options["data"]["client_assertion"])
            return self._client.post(url, **options)

    client = confidential(fake_entra, federation.app, Assertion(fresh), http_client=Listening())
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(acquire, client, GRAPH)
    assert sorted(sent) == sorted(made)
    assert len(set(sent)) == 10


async def test_a_plain_callable_runs_in_a_worker_thread(fake_entra: FakeEntra, federation: Federation) -> None:
    jwt = (await federation.token()).value
    seen: list[bool] = []

    def blocking() -> str:
        try:
            anyio.get_current_task()
        except Exception:
            seen.append(True)
        return jwt

    await acquire(confidential(fake_entra, federation.app, Assertion(blocking)), GRAPH)
    assert seen == [True]


async def test_an_assertion_that_cannot_be_had_is_the_client_s_trouble_and_not_the_user_s(
    fake_entra: FakeEntra, federation: Federation
) -> None:
    class Refusing:
        async def get(self) -> Token:
            raise InteractionRequired("sign in over there")

    async def failing() -> str:
        raise OSError("no such key vault")

    def failing_too() -> str:
        raise OSError("no such key vault")

    def coroutine() -> Any:
        return failing()

    for source, words in (
        (Refusing(), "over there"),
        (failing, "key vault"),
        (failing_too, "key vault"),
        (lambda: "", "as a string"),
        (lambda: None, "as a string"),
        (coroutine, "async def"),
    ):
        asked: Any = source
        with pytest.raises(InvalidClient, match=words):
            await acquire(confidential(fake_entra, federation.app, Assertion(asked)), GRAPH)
    assert fake_entra.count("token") == 0


async def test_an_outage_behind_an_assertion_stays_an_outage(fake_entra: FakeEntra, federation: Federation) -> None:
    class Down:
        async def get(self) -> Token:
            raise AuthorityUnavailable("the machine's endpoint is down")

    with pytest.raises(AuthorityUnavailable, match="endpoint is down"):
        await acquire(confidential(fake_entra, federation.app, Assertion(Down())), GRAPH)


@pytest.mark.parametrize("source", [None, 7, {"client_assertion": "x"}, ["x"]], ids=str)
def test_what_can_give_no_assertion_is_refused(source: Any) -> None:
    with pytest.raises(TypeError, match="TokenSource"):
        Assertion(source)


def test_an_empty_assertion_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Assertion(" ")
