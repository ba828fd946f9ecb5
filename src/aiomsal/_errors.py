"""The tree of exceptions. Each carries data to decide by; what it says tells what happened and what to do next.

No exception of this library contains a token, assertion, code, secret or password.
"""

from __future__ import annotations

import contextlib
import copy
import enum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._token import Account


E = TypeVar("E", bound=BaseException)


class TokenError(Exception):
    """No token. `except TokenError` catches whatever this library raises for reasons other than a wrong call.

    The attributes are the authority's own words (RFC 6749 section 5.2, and Microsoft's additions); empty where it
    said nothing. Errors can be copied and pickled, and each of several callers that share one failure gets a copy.
    """

    def __init__(
        self,
        description: str = "",
        *,
        code: str = "",
        error_codes: tuple[int, ...] = (),
        suberror: str = "",
        claims: str = "",
        correlation_id: str = "",
        trace_id: str = "",
        response: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(description)
        self.description = description
        self.code = code
        """OAuth's error code, such as `invalid_grant`; for our own errors a word of ours."""
        self.error_codes = error_codes
        """The numbers of AADSTS codes: 50076 for AADSTS50076."""
        self.suberror = suberror
        self.claims = claims
        """The claims challenge (JSON) to pass on to the next request or sign-in; empty without."""
        self.correlation_id = correlation_id
        self.trace_id = trace_id
        self.response = dict(response or {})
        """The fields of the error response that hold no secret."""

    def __str__(self) -> str:
        if self.code and self.code not in self.description:
            return f"{self.code}: {self.description}"
        return self.description


class Classification(enum.StrEnum):
    """What kind of interaction would help, in the words of MSAL.NET's `UiRequiredExceptionClassification`."""

    NONE = "none"
    """Nothing is known: sign in."""
    BASIC_ACTION = "basic_action"
    """A sign-in resolves it."""
    ADDITIONAL_ACTION = "additional_action"
    """More than a sign-in is needed, such as enrolling a device; the sign-in page says so."""
    MESSAGE_ONLY = "message_only"
    """It cannot be resolved now; the sign-in page explains why."""
    CONSENT_REQUIRED = "consent_required"
    """The user, or an administrator, has to consent."""
    USER_PASSWORD_EXPIRED = "user_password_expired"
    """The user has to change the password."""
    PROMPT_NEVER_FAILED = "prompt_never_failed"
    """A sign-in that was not to show anything (`prompt="none"`) needs to."""
    ACQUIRE_TOKEN_SILENT_FAILED = "acquire_token_silent_failed"
    """There is no account, or no refresh token for it: sign in."""


class InteractionRequired(TokenError):
    """Only a person can resolve this: `sign_in(...)` them, or `begin_sign_in(...)` in a web application.

    Pass `claims=error.claims` if there are any. MSAL.NET calls it MsalUiRequiredException.
    """

    classification: Classification = Classification.NONE

    def __init__(
        self, description: str = "", *, classification: Classification = Classification.NONE, **details: Any
    ) -> None:
        super().__init__(description, **details)
        self.classification = classification


class AccountRequired(InteractionRequired):
    """Which account? None has signed in (`candidates` is empty), or the call fits several: pass `account=`."""

    def __init__(self, description: str = "", *, candidates: tuple[Account, ...] = (), **details: Any) -> None:
        super().__init__(description, **details)
        self.candidates = candidates


class AuthorityError(TokenError):
    """The authority said no, and a person cannot change its mind by signing in."""


class Throttled(AuthorityError):
    """The authority asked for patience (429 or Retry-After) for longer than the call could wait."""

    def __init__(self, description: str = "", *, retry_after: float = 0.0, **details: Any) -> None:
        super().__init__(description, **details)
        self.retry_after = retry_after
        """Seconds until a request is welcome again, counted from when the error was raised."""


class AuthorityUnavailable(AuthorityError):
    """No usable answer: a 5xx, a timeout, a network that is down. Trying later may help."""

    def __init__(self, description: str = "", *, status: int | None = None, **details: Any) -> None:
        super().__init__(description, **details)
        self.status = status
        """The HTTP status, None if there was no response at all."""


class InvalidClient(AuthorityError):
    """The application's own credential is wrong, expired or unknown to the authority."""


class SignInError(TokenError):
    """A sign-in did not come to its end. Nothing was kept of it; the person may be asked again.

    `code` tells why: `access_denied` or `authorization_declined` (they said no), `timeout`, `expired_token` or
    `flow_expired` (they took too long), `wrong_account` (another than the one asked for), `no_browser` or `not_opened`
    (they never saw it); in web applications also `state_mismatch`, `flow_completed` and `no_flow` (an answer that is
    another's, came twice, or belongs to no sign-in of this session); else the authority's own word.
    """


class StoreError(TokenError):
    """A token store failed, and the manager was told to raise that (`on_store_error="raise"`)."""


class FlightAborted(TokenError):
    """The manager was closed, everybody who waited for a sign-in left, or what was asked was cancelled by others."""


def copy_of(error: E) -> E:
    """A copy to raise: one object raised to many would grow their tracebacks into one another.

    An error of ours says all there is to say; of any other the traceback shows where it came from.
    """
    twin = None
    with contextlib.suppress(Exception):  # a frozen one, for example: nobody may be left waiting for it
        twin = _twin(error)
    if twin is None:
        return error.with_traceback(None)  # it cannot be copied: shared, and begun anew by each
    return twin.with_traceback(None if isinstance(error, TokenError) else error.__traceback__)


def _twin(error: E) -> E | None:
    kind = type(error)
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 -- a constructor that wants other arguments: go round it
        twin = kind.__new__(kind, *error.args)
        twin.__dict__.update(error.__dict__)
    if type(twin) is not kind or twin is error:
        return None
    twin.args = error.args  # a constructor may have put words around them, and now around these again
    twin.__cause__ = error.__cause__
    twin.__suppress_context__ = error.__suppress_context__
    if notes := getattr(error, "__notes__", None):
        twin.__notes__ = list(notes)
    return twin
