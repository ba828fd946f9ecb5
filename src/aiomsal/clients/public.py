"""A program in the hands of its users: desktop, command line, device. It keeps no secret, and acts for who signs in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ._authority import authority_of
from ._authorization import AuthorizationSteps
from ._device_code import DeviceCodeSteps
from ._msal import Settings
from ._options import (
    checked_capabilities,
    checked_client_id,
    checked_threads,
    refuse_unknown,
    transport_options,
)
from ._requests import read_request
from ._users import UserClient

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from aiomsal._asked import SignInRequest
    from aiomsal._client import Acquired
    from aiomsal._token import TokenRequest
    from aiomsal.sign_in import SignIn

    from ._authority import Cloud
    from ._transport import HttpClient

_OPTIONS: Final = ("account", "login_hint", "claims")


class PublicClient(UserClient):
    """A client for `TokenManager` that acquires tokens for people: `get("User.Read")`.

    First by refresh token, of which any scope of the account may come; then, if it was given a `sign_in`, by asking
    the person. One session holds all its accounts. A call may bring `account` (an `Account` or its home account id)
    or `login_hint` (a user name) to say who is meant, and `claims`, a claims challenge.

    The constructor checks and stores; MSAL is imported and built and the authority is asked by the first call, in
    worker threads. One client may be used on several event loops, in several threads, and after a fork.

    Args:
        client_id: the application's (client) id.
        tenant: the GUID or domain of the users' tenant, or "organizations", "consumers", or "common" for both, which
            is the default; with `cloud`: "public", "us-government" or "china".
        authority: instead of both, the whole URL: `https://<host>/<tenant>`.
        oidc_authority: instead, the URL of any OpenID Connect provider.
        sign_in: how a person is asked, such as `Browser()` or `DeviceCode(...)`; without it `InteractionRequired` is
            raised instead.
        client_capabilities, instance_discovery, http_client, proxies, ca_file, timeout, threads, clock: as
            `ConfidentialClient` takes them.

    Raises:
        TypeError, ValueError: an argument that cannot be right, and what to pass instead.
    """

    def __init__(
        self,
        client_id: str,
        *,
        tenant: str | None = None,
        authority: str | None = None,
        cloud: Cloud = "public",
        oidc_authority: str | None = None,
        sign_in: SignIn | None = None,
        client_capabilities: Iterable[str] = (),
        instance_discovery: bool | None = None,
        http_client: HttpClient | None = None,
        proxies: Mapping[str, str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout: float | tuple[float, float] = (5.0, 25.0),
        threads: int = 32,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(sign_in, type):
            raise TypeError(f"pass sign_in={sign_in.__name__}(...), not its class")
        if sign_in is not None and not callable(getattr(sign_in, "sign_in", None)):
            raise TypeError(
                f"sign_in is a way to ask a person, such as Browser() or DeviceCode(...), not {type(sign_in).__name__}"
            )
        settings = Settings(
            checked_client_id(client_id),
            authority_of(authority, oidc_authority, tenant, cloud, default_tenant="common"),
            transport_options(http_client, proxies, ca_file, timeout),
            capabilities=checked_capabilities(client_capabilities),
            instance_discovery=instance_discovery,
            threads=checked_threads(threads),
        )
        super().__init__(settings, clock)
        self._sign_in: Final = sign_in

    @property
    def can_ask(self) -> bool:
        """See `SignInClient.can_ask`."""
        return self._sign_in is not None

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """See `TokenClient.request`. The keywords are `account`, `login_hint` and `claims`."""
        refuse_unknown(options, _OPTIONS, "PublicClient")
        return read_request(self._settings, scopes, options)

    def session_key(self, _request: TokenRequest, /) -> str:
        """See `TokenClient.session_key`. All accounts of this client id at this authority share one session."""
        return self.session_of(None)

    def session_of(self, _account: str | None, /) -> str:
        """See `PeopleClient.session_of`."""
        return f"public/{self._home}"

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        """See `TokenClient.acquire`: by refresh token.

        Without a session it raises `AccountRequired` at once, needs no `prepare` before it, and uses neither thread
        nor network: that nobody has signed in is known offline too.
        """
        return await self._acquire_for_user(request, session)

    async def sign_in(self, asked: SignInRequest, /) -> Acquired:
        """See `SignInClient.sign_in`: as the `sign_in` strategy does it."""
        if self._sign_in is None:
            raise TypeError("this PublicClient was given no sign_in, such as Browser(): it cannot ask a person")
        return await self._sign_in.sign_in(_Steps(self._desk, self._settings), asked)


class _Steps(AuthorizationSteps, DeviceCodeSteps):
    """All that a strategy may ask for."""
