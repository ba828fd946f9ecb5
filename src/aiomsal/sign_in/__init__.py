"""How a person signs in: strategies that a `PublicClient` is given, and what they may ask of it.

A strategy talks to the person; the client talks to the authority. Neither knows the other but by these protocols.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiomsal._asked import SignInFlow, SignInRequest
    from aiomsal._client import Acquired


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """The authority's answer to a device that wants to be approved (RFC 8628 section 3.2). Times are in seconds."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    verification_uri: str
    message: str = field(repr=False)
    """What to tell the person, in the authority's words; may be empty."""
    expires_in: float
    interval: float


@dataclass(frozen=True, slots=True)
class Pending:
    """The person has not decided yet."""

    slow_down: bool = False
    """The polls come too fast: wait 5 seconds more between them from now on."""


class SignInSteps(Protocol):
    """What a strategy may ask of the client, each call one request to the authority. Cancelled, they leave at once."""

    async def start_authorization(self, asked: SignInRequest, redirect_uri: str) -> SignInFlow:
        """Make the URL to send a browser on, which brings its answer to `redirect_uri` by POST (`form_post`).

        State, nonce and PKCE verifier are new, and in the flow.

        Raises:
            TokenError: the authority's metadata could not be had.
        """
        ...

    async def redeem_authorization(self, flow: SignInFlow, params: Mapping[str, str]) -> Acquired:
        """Check a browser's answer, and redeem the code in it, once and without a second try.

        Raises:
            SignInError: another state or nonce, or the person declined.
            InteractionRequired: the sign-in was not to show anything (`prompt="none"`), and would have had to.
            TokenError: the authority failed.
        """
        ...

    async def start_device_code(self, asked: SignInRequest) -> DeviceAuthorization:
        """Ask for a device code.

        Raises:
            TokenError: there is none to be had.
        """
        ...

    async def poll_device_code(self, asked: SignInRequest, authorization: DeviceAuthorization) -> Acquired | Pending:
        """Ask once whether the person has approved.

        Raises:
            SignInError: they declined, or the code has expired.
            Throttled, AuthorityUnavailable: ask again later.
            TokenError: the authority failed.
        """
        ...


class SignIn(Protocol):
    """A way to ask a person. One object serves any number of sign-ins, also at the same time."""

    async def sign_in(self, steps: SignInSteps, asked: SignInRequest, /) -> Acquired:
        """Have a person sign in. Cancelled, it stops at once and leaves nothing behind.

        Raises:
            ValueError: something is asked that this way cannot ask for, such as a `prompt` of a device code.
            SignInError: refused, expired, or answered by something else.
            TokenError: the authority failed.
        """
        ...
