"""The page where a person enters the code that another device shows, signs in, and approves (RFC 8628, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .scopes import Scopes
from .steps import AskUserCode, Told
from .visits import Purpose, begin

if TYPE_CHECKING:
    from .device import DeviceCode
    from .signins import SignIn
    from .state import Call, State
    from .steps import Step

_UNKNOWN = "That code did not work: it may be misspelt, used or too old. Check the code and try again."


def enter_user_code(state: State, call: Call) -> Step:
    """Ask for the code, until one is entered that waits for somebody."""
    user_code = call.form.get("user-code", "")
    if call.request.method != "POST":
        return AskUserCode(user_code)
    try:
        code = state.device_codes.find("".join(filter(str.isalnum, user_code)).upper())
    except ValueError:
        return AskUserCode(user_code, _UNKNOWN)
    if code.approved_by or code.denied or call.now >= code.expires_at:
        return AskUserCode(user_code, _UNKNOWN)
    purpose = _DeviceApproval(
        client_id=code.client_id, scopes=Scopes.parse(code.scope), claims=code.claims, for_device=True, code=code
    )
    return begin(state, call, purpose)


@dataclass(frozen=True, kw_only=True)
class _DeviceApproval(Purpose):
    """A device that waits."""

    code: DeviceCode

    def approve(self, state: State, call: Call, sign_in: SignIn) -> Step:
        """Let the device have its tokens."""
        del call
        state.device_codes.decide(self.code, sign_in)
        return Told("You have signed in", "The application on your device goes on. You may close this window.")

    def decline(self, state: State, call: Call) -> Step:
        """Tell the device that it shall have nothing."""
        del call
        state.device_codes.decide(self.code, None)
        return Told("You have declined", "The application on your device is told so. You may close this window.")

    def cancel(self, state: State, call: Call) -> Step:
        """Leave it undecided: the code still waits."""
        del state, call
        return Told(
            "You have not signed in", "Nothing is decided, and the code still works. You may close this window."
        )
