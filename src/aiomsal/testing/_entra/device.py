"""Device authorization (RFC 8628): codes, their approval, and the polling for them."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import EntraError, RefusedError

if TYPE_CHECKING:
    from .http import JsonObject
    from .signins import SignIn

# Without letters and digits that are taken for each other, and without vowels that make words (RFC 8628, section 6.1).
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_SLOW_DOWN = 5
_SLOW_DOWN_ERROR = EntraError(70016, error="slow_down", description="Polled too soon: wait 5 seconds longer.")


@dataclass(eq=False)
class DeviceCode:
    """One request for approval. Mutable: what the user said, and how the client polls."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    client_id: str
    tenant: str
    scope: str
    claims: JsonObject
    expires_at: float
    interval: float
    polled_at: float | None = None
    approved_by: SignIn | None = None
    denied: bool = False
    redeemed: bool = False


class DeviceCodes:
    """Those issued. One lock guards the dictionary and what is in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codes: dict[str, DeviceCode] = {}

    def issue(
        self, client_id: str, tenant: str, scope: str, claims: JsonObject, expires_at: float, interval: float
    ) -> DeviceCode:
        user_code = "".join(secrets.choice(_ALPHABET) for _ in range(9))
        code = DeviceCode(secrets.token_urlsafe(48), user_code, client_id, tenant, scope, claims, expires_at, interval)
        with self._lock:
            self._codes[code.device_code] = code
        return code

    def find(self, user_code: str) -> DeviceCode:
        """Return the code that waits under a user code; raise ValueError if nobody holds that."""
        with self._lock:
            code = next((c for c in self._codes.values() if c.user_code == user_code and not c.redeemed), None)
        if code is None:
            message = "no device code is waiting under this user code: it was never issued, or is already redeemed"
            raise ValueError(message)
        return code

    def decide(self, code: DeviceCode, sign_in: SignIn | None) -> None:
        """Note what the user said; None is no."""
        with self._lock:
            code.approved_by, code.denied = sign_in, sign_in is None

    def redeem(self, device_code: str, client_id: str, now: float) -> tuple[DeviceCode, SignIn]:
        """Return an approved code and who approved it, once; refuse otherwise (RFC 8628, section 3.5)."""
        with self._lock:
            code = self._codes.get(device_code)
            if code is None or code.client_id != client_id:
                raise RefusedError(70018)
            if code.redeemed:
                raise RefusedError(54005)
            if now >= code.expires_at:
                raise RefusedError(70020)
            if code.denied:
                raise RefusedError(65004)
            if code.approved_by is None:
                raise _polled(code, now)
            code.redeemed = True
            return code, code.approved_by


def _polled(code: DeviceCode, now: float) -> RefusedError:
    too_soon = code.polled_at is not None and now < code.polled_at + code.interval
    code.polled_at = now
    if too_soon:
        code.interval += _SLOW_DOWN
        return RefusedError(0, error=_SLOW_DOWN_ERROR)
    return RefusedError(70016)
