"""The device authorization endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .http import json_response
from .scopes import Scopes
from .signins import SignIn
from .tokens import requested_claims

if TYPE_CHECKING:
    from .device import DeviceCode
    from .directory import User
    from .http import HttpResponse
    from .state import Call, State


def devicecode(state: State, call: Call) -> HttpResponse:
    """Answer a device that wants to be approved (RFC 8628, section 3.2)."""
    application = state.directory.application(call.form.get("client_id", ""), state.directory.tenant(call.tenant))
    claims = requested_claims(call)
    scopes = Scopes.parse(call.form.get("scope", ""))
    settings = state.settings
    code = state.device_codes.issue(
        application.client_id,
        call.tenant,
        " ".join(scopes.asked),
        claims,
        call.now + settings.device_code_expires_in,
        settings.device_code_interval,
    )
    if settings.auto_approve:
        approve(state, code, state.directory.user(settings.auto_approve))
    where = f"{call.request.base}/common/oauth2/deviceauth"
    return json_response(
        200,
        {
            "user_code": code.user_code,
            "device_code": code.device_code,
            "verification_uri": where,
            "expires_in": settings.device_code_expires_in,
            "interval": settings.device_code_interval,
            "message": f"To sign in, open the page {where} in a web browser and enter the code {code.user_code}.",
        },
    )


def approve(state: State, code: DeviceCode, user: User) -> None:
    """Be a user who signs in on another device, approves, and so consents to what the code is for."""
    sign_in = SignIn(user, state.next_in_order(), state.clock(), code.claims)
    state.interactions.consent(user, Scopes.parse(code.scope))
    state.device_codes.decide(code, sign_in)
