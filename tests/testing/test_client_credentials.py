from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import jwt
import pytest

from aiomsal.testing import FederatedCredential

from .helpers import GRAPH, TOKEN_PATH, ask, claims_of, confidential, token_form, with_certificate

if TYPE_CHECKING:
    from aiomsal.testing import Application, ClientCertificate, FakeClock, FakeEntra

pytestmark = pytest.mark.timeout(20)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def code_of(result: dict[str, Any]) -> tuple[str, int]:
    return result["error"], result["error_codes"][0]


def assertion(
    entra: FakeEntra, app: Application, certificate: ClientCertificate, algorithm: str = "RS256", **changes: Any
) -> str:
    """A client assertion as MSAL makes it, with some of its claims changed."""
    x5t = jwt.utils.base64url_encode(bytes.fromhex(certificate.thumbprint)).decode()
    claims = {
        "aud": f"{entra.authority()}/oauth2/v2.0/token",
        "iss": app.client_id,
        "sub": app.client_id,
        "exp": time.time() + 600,
        "jti": str(uuid.uuid4()),
        **changes,
    }
    return jwt.encode(claims, certificate.private_key, algorithm=algorithm, headers={"x5t": x5t})


def ask_with_assertion(entra: FakeEntra, app: Application, text: str) -> dict[str, Any]:
    response = ask(entra, app, client_secret="", client_assertion=text, client_assertion_type=ASSERTION_TYPE)
    result: dict[str, Any] = json.loads(response.text)
    return result


def test_a_secret_gets_a_token_with_the_claims_of_the_application(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application(roles=["Reader"])
    result = confidential(fake_entra, app).acquire_token_for_client(GRAPH)
    claims = claims_of(result["access_token"])
    assert claims["aud"] == "https://graph.microsoft.com"
    assert claims["iss"] == f"{fake_entra.authority()}/v2.0"
    assert claims["tid"] == fake_entra.tenant_id
    assert claims["appid"] == app.client_id
    assert claims["oid"] == claims["sub"] == app.object_id
    assert claims["roles"] == ["Reader"]
    assert claims["exp"] - claims["iat"] == result["expires_in"] == 3600
    assert "scp" not in claims


def test_the_signature_is_that_of_the_key_in_jwks(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    http = fake_entra.http_client()
    document = json.loads(http.get(f"{fake_entra.authority()}/v2.0/.well-known/openid-configuration").text)
    keys = jwt.PyJWKSet.from_json(http.get(document["jwks_uri"]).text)
    token = confidential(fake_entra, app).acquire_token_for_client(GRAPH)["access_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, audience="https://graph.microsoft.com", issuer=document["issuer"])
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{token[:-8]}AAAAAAAA", key, audience="https://graph.microsoft.com")


def test_no_two_tokens_are_alike(fake_entra: FakeEntra, fake_clock: FakeClock) -> None:
    app = fake_entra.add_application()
    first, second = (claims_of(json.loads(ask(fake_entra, app).text)["access_token"]) for _ in range(2))
    assert first["iat"] == second["iat"] == int(fake_clock())
    assert first["jti"] != second["jti"]
    assert first["uti"] != second["uti"]


def test_neither_scope_nor_client_info_nor_refresh_token_comes_with_it(fake_entra: FakeEntra) -> None:
    answer = json.loads(ask(fake_entra, fake_entra.add_application(), client_info="1").text)
    assert answer.keys() == {"token_type", "expires_in", "ext_expires_in", "access_token"}


def test_settings_decide_lifetimes(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    fake_entra.configure(expires_in=120, refresh_in=60, ext_expires_in=240)
    answer = json.loads(ask(fake_entra, app).text)
    assert (answer["expires_in"], answer["refresh_in"], answer["ext_expires_in"]) == (120, 60, 240)
    assert fake_entra.settings.refresh_in == 60
    claims = claims_of(answer["access_token"])
    assert claims["exp"] - claims["iat"] == 120


def test_a_wrong_secret_is_refused_with_a_status_of_401(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    response = ask(fake_entra, app, client_secret=app.client_secret[:-1])
    assert response.status_code == 401
    assert code_of(json.loads(response.text)) == ("invalid_client", 7000215)


def test_an_error_has_the_members_that_entra_sends(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    client = confidential(fake_entra, app, "wrong")
    result = client.acquire_token_for_client(GRAPH)
    (sent,) = (r.headers["client-request-id"] for r in fake_entra.requests if r.kind == "token.client_credentials")
    assert result["correlation_id"] == sent
    assert result["error_description"].startswith("AADSTS7000215: ")
    for part in (f"Trace ID: {result['trace_id']}", f"Correlation ID: {sent}", f"Timestamp: {result['timestamp']}"):
        assert part in result["error_description"]
    assert result["error_uri"].endswith("/error?code=7000215")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": ""}, ("invalid_client", 7000218)),
        ({"client_id": "nobody"}, ("unauthorized_client", 700016)),
        ({"client_id": ""}, ("invalid_request", 900144)),
        ({"grant_type": "telepathy"}, ("unsupported_grant_type", 70003)),
        ({"grant_type": ""}, ("invalid_request", 900144)),
        ({"scope": ""}, ("invalid_request", 900144)),
        ({"scope": "User.Read"}, ("invalid_scope", 1002012)),
        ({"scope": "api://one/.default api://two/.default"}, ("invalid_scope", 70011)),
        ({"scope": "api://one/.default api://one/Read"}, ("invalid_scope", 70011)),
        ({"scope": "https://graph.microsoft.com/"}, ("invalid_scope", 70011)),
        ({"claims": "{not json"}, ("invalid_request", 90023)),
        ({"claims": "[]"}, ("invalid_request", 90023)),
    ],
)
def test_what_entra_would_refuse_is_refused(
    fake_entra: FakeEntra, changes: dict[str, str], error: tuple[str, int]
) -> None:
    response = ask(fake_entra, fake_entra.add_application(), **changes)
    assert response.status_code in (400, 401)
    assert code_of(json.loads(response.text)) == error


def test_capabilities_are_reflected_and_claims_recorded(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    result = confidential(fake_entra, app, client_capabilities=["CP1"]).acquire_token_for_client(GRAPH)
    assert claims_of(result["access_token"])["xms_cc"] == ["CP1"]
    assert json.loads(fake_entra.requests[-1].claims) == {"access_token": {"xms_cc": {"values": ["CP1"]}}}


@pytest.mark.parametrize("tenant", ["by domain", "by id", "common", "organizations"])
def test_a_tenant_has_many_names(fake_entra: FakeEntra, tenant: str) -> None:
    other = fake_entra.add_tenant("contoso.example")
    app = fake_entra.add_application(tenant="contoso.example")
    name = {"by domain": other.domain, "by id": other.tenant_id}.get(tenant, tenant)
    client = confidential(fake_entra, app, authority=fake_entra.authority(name))
    result = client.client.obtain_token_for_client(GRAPH)  # below MSAL's warning that "common" is unreliable here
    assert claims_of(result["access_token"])["tid"] == other.tenant_id


def test_the_tenant_in_the_path_issues(fake_entra: FakeEntra) -> None:
    other = fake_entra.add_tenant()
    guest, resident = fake_entra.add_application(), fake_entra.add_application(multi_tenant=False)
    authority = fake_entra.authority(other.tenant_id)
    token = confidential(fake_entra, guest, authority=authority).acquire_token_for_client(GRAPH)["access_token"]
    assert claims_of(token)["tid"] == other.tenant_id
    assert "access_token" in confidential(fake_entra, resident).acquire_token_for_client(GRAPH)
    refused = confidential(fake_entra, resident, authority=authority).acquire_token_for_client(GRAPH)
    assert code_of(refused) == ("unauthorized_client", 700016)


def test_an_unknown_tenant_is_not_found(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    with pytest.raises(ValueError, match="Unable to get authority configuration"):
        confidential(fake_entra, app, authority=fake_entra.authority("nowhere.example"))
    with pytest.raises(ValueError, match="add one with add_tenant"):
        fake_entra.add_application(tenant="nowhere.example")


def test_an_unknown_host_goes_through_instance_discovery(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    authority = f"https://login.contoso.example/{fake_entra.tenant_id}"
    result = confidential(fake_entra, app, authority=authority).acquire_token_for_client(GRAPH)
    assert fake_entra.count("instance_discovery") == 1
    assert claims_of(result["access_token"])["iss"] == f"{authority}/v2.0"


# -- certificates


def test_a_certificate_gets_a_token_by_ps256_and_x5c(fake_entra: FakeEntra, certificate: ClientCertificate) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    result = confidential(fake_entra, app, with_certificate(certificate)).acquire_token_for_client(GRAPH)
    assert claims_of(result["access_token"])["azpacr"] == "2"


def test_a_certificate_gets_a_token_by_rs256_and_thumbprint(
    fake_entra: FakeEntra, certificate: ClientCertificate
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    credential = {"private_key": certificate.private_key, "thumbprint": certificate.thumbprint}
    assert "access_token" in confidential(fake_entra, app, credential).acquire_token_for_client(GRAPH)


def test_a_certificate_that_is_not_registered_is_refused(
    fake_entra: FakeEntra, certificate: ClientCertificate, other_certificate: ClientCertificate
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    result = confidential(fake_entra, app, with_certificate(other_certificate)).acquire_token_for_client(GRAPH)
    assert code_of(result) == ("invalid_client", 700027)


def test_a_signature_of_another_key_is_refused(
    fake_entra: FakeEntra, certificate: ClientCertificate, other_certificate: ClientCertificate
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    credential = {"private_key": other_certificate.private_key, "thumbprint": certificate.thumbprint}
    result = confidential(fake_entra, app, credential).acquire_token_for_client(GRAPH)
    assert code_of(result) == ("invalid_client", 700027)


def test_an_x5c_that_differs_from_the_thumbprint_is_refused(
    fake_entra: FakeEntra, certificate: ClientCertificate, other_certificate: ClientCertificate
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    credential = {
        "private_key": certificate.private_key,
        "thumbprint": certificate.thumbprint,
        "public_certificate": other_certificate.certificate,
    }
    result = confidential(fake_entra, app, credential).acquire_token_for_client(GRAPH)
    assert code_of(result) == ("invalid_client", 700027)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"aud": "https://login.microsoftonline.com/other/oauth2/v2.0/token"}, 700023),
        ({"iss": "someone"}, 700021),
        ({"sub": "someone"}, 700021),
        ({"exp": 1.0}, 700024),
        ({"exp": "soon"}, 50027),
        ({"nbf": time.time() + 3600}, 700024),
    ],
)
def test_the_claims_of_an_assertion_are_checked(
    fake_entra: FakeEntra, certificate: ClientCertificate, changes: dict[str, Any], code: int
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    result = ask_with_assertion(fake_entra, app, assertion(fake_entra, app, certificate, **changes))
    assert result.get("error_codes", [0]) == [code]


def test_an_assertion_by_an_algorithm_other_than_rs256_and_ps256_is_refused(
    fake_entra: FakeEntra, certificate: ClientCertificate
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    result = ask_with_assertion(fake_entra, app, assertion(fake_entra, app, certificate, "RS512"))
    assert code_of(result) == ("invalid_client", 700027)


@pytest.mark.parametrize("text", ["nonsense", "a.b.c", "e30.W10.AA"])
def test_an_assertion_that_is_no_jwt_is_refused(
    fake_entra: FakeEntra, certificate: ClientCertificate, text: str
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    assert code_of(ask_with_assertion(fake_entra, app, text)) == ("invalid_request", 50027)


def test_an_assertion_of_the_computers_time_is_valid_when_the_clock_is_far_ahead(
    fake_entra: FakeEntra, fake_clock: FakeClock, certificate: ClientCertificate
) -> None:
    app = fake_entra.add_application(certificates=[certificate.certificate])
    client = confidential(fake_entra, app, with_certificate(certificate))
    fake_clock.advance(1_000_000)
    result = client.acquire_token_for_client(GRAPH)
    assert claims_of(result["access_token"])["iat"] == int(fake_clock())


def test_a_certificate_must_be_one(fake_entra: FakeEntra) -> None:
    with pytest.raises(ValueError):
        fake_entra.add_application(certificates=["no certificate"])


# -- federated credentials


def test_a_token_of_one_application_stands_for_another(fake_entra: FakeEntra) -> None:
    worker = fake_entra.add_application()
    trust = FederatedCredential(issuer=f"{fake_entra.authority()}/v2.0", subject=worker.object_id)
    app = fake_entra.add_application(federated=[trust])
    exchange = confidential(fake_entra, worker)

    def identity() -> str:
        token: str = exchange.acquire_token_for_client(["api://AzureADTokenExchange/.default"])["access_token"]
        return token

    result = confidential(fake_entra, app, {"client_assertion": identity}).acquire_token_for_client(GRAPH)
    assert claims_of(result["access_token"])["appid"] == app.client_id


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"iss": "https://other.example"}, 700211),
        ({"sub": "repo:other"}, 700213),
        ({"aud": "api://other"}, 700212),
        ({"exp": 1}, 700024),
    ],
)
def test_a_federated_assertion_must_match_what_was_registered(
    fake_entra: FakeEntra, certificate: ClientCertificate, changes: dict[str, Any], code: int
) -> None:
    trust = FederatedCredential("https://ci.example", "repo:ours", public_key=certificate.public_key)
    app = fake_entra.add_application(federated=[trust])
    claims = {"iss": trust.issuer, "sub": trust.subject, "aud": trust.audience, "exp": time.time() + 60, **changes}
    text = jwt.encode(claims, certificate.private_key, algorithm="RS256")
    assert ask_with_assertion(fake_entra, app, text).get("error_codes", [0]) == [code]


def test_a_federated_assertion_signed_by_someone_else_is_refused(
    fake_entra: FakeEntra, certificate: ClientCertificate, other_certificate: ClientCertificate
) -> None:
    registered = FederatedCredential("https://ci.example", "repo:ours", public_key=certificate.public_key)
    keyless = FederatedCredential("https://ci.example", "repo:ours")
    claims = {"iss": "https://ci.example", "sub": "repo:ours", "aud": registered.audience, "exp": time.time() + 60}
    text = jwt.encode(claims, other_certificate.private_key, algorithm="RS256")
    for trust in (registered, keyless):
        app = fake_entra.add_application(federated=[trust])
        assert code_of(ask_with_assertion(fake_entra, app, text)) == ("invalid_client", 700027)


# -- public clients, and what must not show


def test_a_public_client_gets_nothing_as_itself(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application(public=True)
    assert code_of(json.loads(ask(fake_entra, app).text)) == ("invalid_client", 7000218)
    assert code_of(json.loads(ask(fake_entra, app, client_secret="made up").text)) == ("invalid_client", 700025)
    with pytest.raises(ValueError, match="public client has no credentials"):
        fake_entra.add_application(public=True, federated=[FederatedCredential("https://ci.example", "x")])


def test_an_application_added_again_has_a_new_secret_and_the_old_one_ends(fake_entra: FakeEntra) -> None:
    old = fake_entra.add_application()
    new = fake_entra.add_application(old.client_id)
    assert ask(fake_entra, old).status_code == 401
    assert ask(fake_entra, new).status_code == 200


def test_a_closed_client_is_refused(fake_entra: FakeEntra) -> None:
    client = fake_entra.http_client()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.get(fake_entra.authority())


def test_the_brain_can_be_asked_without_any_client(fake_entra: FakeEntra) -> None:
    app = fake_entra.add_application()
    body = urlencode(token_form(app)).encode()
    response = fake_entra.handle("POST", f"{fake_entra.authority()}/{TOKEN_PATH}", {"Client-Request-Id": "me"}, body)
    token = json.loads(response.body)["access_token"]
    assert fake_entra.requests[-1].headers == {"client-request-id": "me"}
    assert token not in repr(response)
    with pytest.raises(ValueError, match="over https"):
        fake_entra.handle("GET", fake_entra.authority().replace("https", "http"))


def test_no_secret_shows_in_a_repr(fake_entra: FakeEntra, certificate: ClientCertificate) -> None:
    app = fake_entra.add_application()
    response = ask(fake_entra, app)
    token = json.loads(response.text)["access_token"]
    shown = repr((app, fake_entra.requests, fake_entra, response, certificate, fake_entra.settings))
    assert app.client_id in shown
    for secret in (app.client_secret, token, "PRIVATE KEY"):
        assert secret not in shown
