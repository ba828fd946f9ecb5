"""Refusals in the shape of Entra's: an OAuth error with AADSTS codes around it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .http import HttpResponse, json_response

if TYPE_CHECKING:
    from .http import HttpRequest

# Code: (OAuth error, HTTP status, suberror, description). The codes and their errors are Entra's published ones.
_KNOWN: dict[int, tuple[str, int, str, str]] = {
    50011: ("invalid_request", 400, "", "The redirect URI of the request is not one registered for the application."),
    50027: ("invalid_request", 400, "", "The JWT of the client assertion is malformed."),
    50049: ("invalid_instance", 400, "", "The instance is unknown or invalid."),
    50034: ("invalid_grant", 400, "", "The user account does not exist in the directory."),
    50057: ("invalid_grant", 400, "", "The user account is disabled."),
    50058: ("login_required", 400, "", "A silent sign-in was asked for, but nobody is signed in in this browser."),
    50059: ("invalid_request", 400, "", "No tenant was found in the request or implied by the credentials."),
    50076: (
        "invalid_grant",
        400,
        "basic_action",
        "Because of a configuration change by the administrator, multifactor authentication is required.",
    ),
    50079: ("invalid_grant", 400, "basic_action", "The user must enroll in multifactor authentication."),
    50126: ("invalid_grant", 400, "", "The user name or the password is wrong."),
    50173: ("invalid_grant", 400, "bad_token", "The grant was revoked; the user must sign in again."),
    50196: ("invalid_grant", 400, "", "The server ended the request because of a client request loop."),
    53003: ("invalid_grant", 400, "message_only", "Access was blocked by Conditional Access policies."),
    54005: ("invalid_grant", 400, "", "The code was already redeemed; start again with a new one."),
    65001: ("invalid_grant", 400, "consent_required", "The user or the administrator has not consented to this use."),
    65004: ("authorization_declined", 400, "", "The user declined the request."),
    70000: ("invalid_grant", 400, "bad_token", "The grant is invalid, malformed or was issued to another client."),
    70003: ("unsupported_grant_type", 400, "", "The grant type is not supported."),
    70007: ("invalid_request", 400, "", "The value of the parameter 'response_mode' is not supported."),
    70008: ("invalid_grant", 400, "", "The authorization code has expired; send a new interactive request."),
    70011: ("invalid_scope", 400, "", "The value of the parameter 'scope' is not valid."),
    70016: ("authorization_pending", 400, "", "The user has not yet finished; poll again later."),
    70018: ("bad_verification_code", 400, "", "The device code is unknown."),
    70020: ("expired_token", 400, "", "The device code has expired; start again."),
    70021: ("invalid_client", 401, "", "No federated identity record matches the presented assertion."),
    90002: ("invalid_request", 400, "", "The tenant was not found; add it to the FakeEntra or correct its name."),
    90014: ("invalid_request", 400, "", "A required field is missing."),
    90023: ("invalid_request", 400, "", "The value of the parameter 'claims' is not a JSON object."),
    90033: ("temporarily_unavailable", 503, "", "A transient error has occurred; try again."),
    90055: ("temporarily_unavailable", 429, "", "There are too many requests; try again later."),
    500011: ("invalid_resource", 400, "", "The resource was not found in the tenant."),
    500112: ("invalid_client", 400, "", "The redirect URI is not the one that the authorization code was sent to."),
    501481: ("invalid_grant", 400, "", "The code_verifier does not match the code_challenge of the authorization."),
    501491: ("invalid_request", 400, "", "The code_challenge must be 43 characters of base64url: a SHA-256."),
    700016: ("unauthorized_client", 400, "", "The application was not found in the tenant."),
    700021: ("invalid_client", 401, "", "The issuer or subject of the client assertion is not the client_id."),
    700023: ("invalid_client", 401, "", "The audience of the client assertion is not this token endpoint."),
    700024: ("invalid_client", 401, "", "The client assertion is not within its valid time range."),
    700025: ("invalid_client", 401, "", "The client is public; it must present neither secret nor assertion."),
    700027: ("invalid_client", 401, "", "The signature of the client assertion is invalid."),
    700051: ("unsupported_response_type", 400, "", "The response_type is not enabled: ask for 'code'."),
    700082: ("invalid_grant", 400, "bad_token", "The refresh token has expired."),
    700211: ("invalid_client", 401, "", "No federated identity record matches the issuer of the assertion."),
    700212: ("invalid_client", 401, "", "No federated identity record matches the audience of the assertion."),
    700213: ("invalid_client", 401, "", "No federated identity record matches the subject of the assertion."),
    900144: ("invalid_request", 400, "", "The request must contain a parameter that is missing."),
    900971: ("invalid_request", 400, "", "The request has no redirect_uri."),
    1002012: ("invalid_scope", 400, "", "Client credentials need one scope, a resource followed by '/.default'."),
    9002313: ("invalid_request", 400, "", "The request is malformed."),
    7000215: ("invalid_client", 401, "", "The client secret is invalid."),
    7000218: ("invalid_client", 401, "", "The request must contain 'client_assertion' or 'client_secret'."),
}


@dataclass(frozen=True)
class EntraError:
    """An error Entra answers with, named by the number after "AADSTS".

    What is left blank is what Entra sends with that code, where FakeEntra knows it, and `invalid_request` with status
    400 where it does not. `claims` is the claims challenge, the text of a JSON object.
    """

    code: int
    error: str = ""
    description: str = ""
    suberror: str = ""
    claims: str = ""
    status: int = 0

    def completed(self) -> EntraError:
        """Return the same error with nothing left blank that is known."""
        error, status, suberror, description = _KNOWN.get(self.code, ("invalid_request", 400, "", "It was refused."))
        return EntraError(
            self.code,
            self.error or error,
            self.description or description,
            self.suberror or suberror,
            self.claims,
            self.status or status,
        )


class RefusedError(Exception):
    """Raised by whatever answers a request, to answer it with an error instead."""

    def __init__(self, code: int, description: str = "", *, error: EntraError | None = None) -> None:
        """Refuse with `code`, its description replaced if one is given; or with `error` as it is."""
        self.error = (error or EntraError(code, description=description)).completed()
        super().__init__(f"AADSTS{self.error.code}: {self.error.description}")


def missing(parameter: str) -> RefusedError:
    """Return the refusal of a request that lacks a parameter."""
    return RefusedError(900144, f"The request body must contain the following parameter: '{parameter}'.")


def error_response(
    error: EntraError, request: HttpRequest, now: float, *, status: int = 0, headers: tuple[tuple[str, str], ...] = ()
) -> HttpResponse:
    """Return `error` as the JSON of RFC 6749, section 5.2, with the members that Entra adds."""
    error = error.completed()
    response = json_response(status or error.status, error_members(error, request, now), *headers)
    return replace(response, error=error.error)


def error_members(error: EntraError, request: HttpRequest, now: float) -> dict[str, object]:
    """Return the members of the JSON that a completed error is."""
    timestamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now))
    trace_id = str(uuid.uuid4())
    correlation_id = request.headers.get("client-request-id") or str(uuid.uuid4())
    value: dict[str, object] = {
        "error": error.error,
        "error_description": (
            f"AADSTS{error.code}: {error.description} "
            f"Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
        ),
        "error_codes": [error.code],
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
        "error_uri": f"{request.base}/error?code={error.code}",
    }
    if error.suberror:
        value["suberror"] = error.suberror
    if error.claims:
        value["claims"] = error.claims
    return value
