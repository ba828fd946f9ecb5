"""The device authorization endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .http import json_response
from .scopes import Scopes
from .tokens import requested_claims

if TYPE_CHECKING:
    from .http import HttpResponse
    from .state import Call, State


def devicecode(state: State, call: Call) -> HttpResponse:
    """Answer a device that wants to be approved (RFC 8628, section 3.2)."""
    application = state.directory.application(call.form.get("client_id", ""), state.directory.tenant(call.tenant))
    requested_claims(call)
    scopes = Scopes.parse(call.form.get("scope", ""))
    settings = state.settings
    code = state.device_codes.issue(
        application.client_id,
        call.tenant,
        " ".join(scopes.asked),
        call.now + settings.device_code_expires_in,
        settings.device_code_interval,
    )
    if settings.auto_approve:
        user = state.directory.user(settings.auto_approve)
        state.device_codes.decide(code.user_code, user, state.next_in_order())
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
