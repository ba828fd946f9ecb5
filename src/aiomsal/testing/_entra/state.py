"""All that FakeEntra remembers, and what one request brings to it."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict

from .codes import AuthorizationCodes
from .device import DeviceCodes
from .directory import Directory
from .errors import missing
from .interactions import Interactions
from .keys import SharedKey, SigningKey
from .refresh import RefreshTokens
from .signins import Browsers
from .visits import Visits

if TYPE_CHECKING:
    from collections.abc import Callable

    from .directory import User
    from .errors import EntraError
    from .http import HttpRequest


@dataclass(frozen=True)
class Settings:
    """How FakeEntra issues. Times are in seconds; change them at any time with `FakeEntra.configure`."""

    expires_in: int = 3600
    """Lifetime of an access token."""
    ext_expires_in: int | None = None
    """As `expires_in` unless given."""
    refresh_in: int | None = None
    """When a client should refresh; absent from answers if None."""
    rotation: Literal["off", "on", "strict"] = "on"
    """Refresh tokens. "off": a refresh brings no new one. "on": it does, and the old one works on, as at Entra.
    "strict": a refresh token works once; if it comes again, its whole family is revoked (RFC 9700, section 4.14.2)."""
    refresh_token_expires_in: int = 90 * 24 * 3600
    device_code_expires_in: int = 900
    device_code_interval: int = 5
    """Who polls sooner than this is told to slow down, and to wait 5 seconds more (RFC 8628, section 3.5)."""
    authorization_code_expires_in: int = 600
    client_info: bool = True
    """Whether answers about users carry client_info, where it was asked for."""
    id_tokens: bool = True
    """Whether answers about users carry an ID token, where the scope openid was asked for."""
    auto_approve: str | None = None
    """The name of a user who approves every device code at once; None waits for `approve_device_code`."""


class SettingsChanges(TypedDict, total=False):
    """The fields of Settings, each optional."""

    expires_in: int
    ext_expires_in: int | None
    refresh_in: int | None
    rotation: Literal["off", "on", "strict"]
    refresh_token_expires_in: int
    device_code_expires_in: int
    device_code_interval: int
    authorization_code_expires_in: int
    client_info: bool
    id_tokens: bool
    auto_approve: str | None


class State:
    """One FakeEntra's memory. Each part guards itself; `settings` is frozen and exchanged whole."""

    def __init__(self, clock: Callable[[], float], *, own_key: bool) -> None:
        self.clock = clock
        self.settings = Settings()
        self.directory = Directory()
        self.authorization_codes = AuthorizationCodes()
        self.browsers = Browsers()
        self.device_codes = DeviceCodes()
        self.interactions = Interactions()
        self.refresh_tokens = RefreshTokens()
        self.visits = Visits()
        self.own_key = SigningKey() if own_key else None
        self._order = itertools.count(1)

    @property
    def key(self) -> SigningKey:
        """Return the key that signs tokens; the shared one is made when it is first needed."""
        return self.own_key or SharedKey.get()

    def next_in_order(self) -> int:
        """Return a greater number each time: what came first, whatever the clock does."""
        return next(self._order)

    def assertion_times(self, now: float) -> tuple[float, float]:
        """Return the two times an assertion may be valid at: MSAL stamps them with the computer's clock, not ours."""
        return now, now - self.clock() + time.time()


@dataclass(frozen=True)
class Call:
    """One request as its area sees it."""

    request: HttpRequest
    tenant: str
    """As the path names it."""
    form: dict[str, str] = field(repr=False)
    now: float
    refusal: EntraError | None = None
    """What the sign-in page is to say instead of letting anybody in."""
    answer_for: User | None = None
    """Whom the answer is about, whoever it ought to be about."""

    def required(self, name: str) -> str:
        """Return a parameter, or refuse the request that lacks it."""
        value = self.form.get(name, "")
        if not value:
            raise missing(name)
        return value

    def issuer(self, tenant_id: str) -> str:
        """Return the issuer of tokens for a tenant, at the address the client uses."""
        return f"{self.request.base}/{tenant_id}/v2.0"
