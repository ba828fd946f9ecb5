"""No token, secret, assertion, code or password in a log record, an exception, its chain, or a repr."""

from __future__ import annotations

import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from aiomsal import AuthorityUnavailable, InvalidClient, TokenError
from aiomsal.clients.confidential import ConfidentialClient
from aiomsal.clients.credentials import Assertion, Certificate
from aiomsal.sign_in.device_code import DeviceCode, DevicePrompt
from aiomsal.testing import EntraError

from .helpers import GRAPH, acquire, confidential, impatient, no_sleep, public

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiomsal.testing import Application, ClientCertificate, FakeEntra

pytestmark = pytest.mark.anyio

MANY: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 400},
    {"reset": True},
    {"garbage": True},
    {"status": 429, "retry_after": 4000},
    {"error": EntraError(50076)},
]


class Wiretap:
    """An http_client that ends in FakeEntra, and keeps every secret that passes."""

    FIELDS = ("client_secret", "client_assertion", "refresh_token", "device_code", "code", "access_token", "id_token")

    def __init__(self, entra: FakeEntra) -> None:
        self._client = entra.http_client()
        self.get = self._client.get
        self.secrets: set[str] = set()

    def post(self, url: str, **options: Any) -> Any:
        self._keep(options["data"])
        response = self._client.post(url, **options)
        try:
            body = json.loads(response.text)
        except ValueError:
            return response
        self._keep(body)
        if "error" in body:  # the worst that an authority may do
            body["error_description"] += " You sent " + ", ".join(map(str, options["data"].values()))
            body["sent"] = options["data"]
            response.text = json.dumps(body)
        return response

    def _keep(self, fields: dict[str, Any]) -> None:
        self.secrets.update(str(fields[name]) for name in self.FIELDS if fields.get(name))


def everything_in(error: BaseException) -> Iterator[str]:
    """All that can be seen of an exception: its chain, what it holds, and the variables of foreign frames."""
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        todo += [other for other in (one.__cause__, one.__context__) if other is not None]
        yield from (str(one), repr(one), repr(one.args), repr(vars(one)))
        yield "".join(traceback.format_exception(one))
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if "site-packages" in frame.f_code.co_filename:
                yield repr(frame.f_locals)


def check(shown: Iterator[str], secrets: set[str]) -> None:
    assert secrets
    for text in shown:
        for secret in secrets:
            assert secret not in text


@pytest.mark.parametrize("fault", [{}, *MANY], ids=str)
@pytest.mark.parametrize("kind", ["secret", "certificate", "assertion"])
async def test_an_application_s_secrets_stay_where_they_are(
    kind: str,
    fault: dict[str, Any],
    fake_entra: FakeEntra,
    service: Application,
    certificate: ClientCertificate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    credentials: dict[str, Any] = {
        "secret": service.client_secret,
        "certificate": Certificate(certificate.private_key + certificate.certificate),
        "assertion": Assertion("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2lnbmF0dXJl"),
    }
    wire = Wiretap(fake_entra)
    client = confidential(fake_entra, service, credentials[kind], http_client=wire)
    if fault:
        fake_entra.fault("token", **fault)
    shown: list[str] = [repr(client), repr(vars(client)["_desk"])]
    with caplog.at_level(logging.DEBUG):
        try:
            shown.append(repr(await acquire(client, GRAPH)))
        except TokenError as error:
            shown += everything_in(error)
    shown += [record.getMessage() for record in caplog.records]
    shown += [str(record.exc_info) + str(record.args) for record in caplog.records]
    assert any("msal" in record.name for record in caplog.records), "MSAL logs, and is heard"
    check(iter(shown), wire.secrets)


@pytest.mark.parametrize("fault", [{}, *MANY], ids=str)
async def test_a_user_s_secrets_stay_where_they_are(
    fault: dict[str, Any], fake_entra: FakeEntra, program: Application, caplog: pytest.LogCaptureFixture
) -> None:
    fake_entra.configure(auto_approve="ann@home.example", device_code_interval=0)
    wire = Wiretap(fake_entra)
    prompts: list[DevicePrompt] = []
    strategy = DeviceCode(prompts.append, sleep=no_sleep)
    client = public(fake_entra, program, http_client=wire, sign_in=strategy)
    with caplog.at_level(logging.DEBUG):
        acquired = await client.sign_in(client.sign_in_request(("User.Read",), {}))
        shown = [repr(client), repr(strategy), repr(acquired), repr(prompts)]
        if fault:
            fake_entra.fault("token", **fault)
        try:
            shown.append(repr(await acquire(client, "Mail.Read", session=acquired.session)))
        except TokenError as error:
            shown += everything_in(error)
    shown += [record.getMessage() + str(record.exc_info) for record in caplog.records]
    check(iter(shown), {*wire.secrets, prompts[0].user_code})


async def test_a_refused_device_code_is_not_repeated(
    fake_entra: FakeEntra, program: Application, caplog: pytest.LogCaptureFixture
) -> None:
    wire = Wiretap(fake_entra)
    strategy = DeviceCode(lambda prompt: fake_entra.deny_device_code(prompt.user_code), sleep=no_sleep)
    client = public(fake_entra, program, http_client=wire, sign_in=strategy)
    with caplog.at_level(logging.DEBUG), pytest.raises(TokenError) as caught:
        await client.sign_in(client.sign_in_request(("User.Read",), {}))
    check(iter([*everything_in(caught.value), caplog.text]), wire.secrets)


@pytest.mark.parametrize("fault", [{"reset": True}, {"garbage": True}, {"hang": True}, {"status": 500}], ids=str)
async def test_nor_does_a_real_connection_betray_them(
    fault: dict[str, Any], fake_entra: FakeEntra, service: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with fake_entra.serve() as server, caplog.at_level(logging.DEBUG):
        client = impatient(
            ConfidentialClient(
                service.client_id,
                service.client_secret,
                authority=server.authority(),
                ca_file=server.ca_file,
                instance_discovery=False,
                timeout=(5.0, 0.2),
            )
        )
        fake_entra.fault("token", **fault)
        with pytest.raises(AuthorityUnavailable) as caught:
            await acquire(client, GRAPH)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    check(iter([*everything_in(caught.value), caplog.text]), {service.client_secret})


async def test_a_proxy_s_password_is_not_told(service: Application) -> None:
    client = ConfidentialClient(
        service.client_id,
        "secret",
        tenant="t",
        proxies={"https": "http://user:proxy-password@127.0.0.1:1"},
    )
    with pytest.raises(AuthorityUnavailable) as caught:
        await acquire(impatient(client), GRAPH)
    check(iter([*everything_in(caught.value), repr(vars(client))]), {"proxy-password"})


async def test_a_key_file_s_contents_are_not_told(service: Application, fake_entra: FakeEntra, tmp_path: Any) -> None:
    path = tmp_path / "broken.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleS1tYXRlcmlhbA==\n-----END PRIVATE KEY-----\n")
    with pytest.raises(InvalidClient) as caught:
        await acquire(confidential(fake_entra, service, Certificate(path)), GRAPH)
    check(everything_in(caught.value), {"c2VjcmV0LWtleS1tYXRlcmlhbA"})
