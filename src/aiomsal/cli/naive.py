# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# MSAL ships no types: what comes out of it is made a string here.
"""The naive way: what one writes first with MSAL in a program on asyncio. Correct, and not meant to look bad."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS: Final = 32
"""The most that asyncio's own pool has, on a machine with 28 processors or more."""


class NaiveService:
    """One MSAL application, as MSAL's documentation recommends; each call in a thread."""

    def __init__(self, client_id: str, client_secret: str, authority: str, ca_file: str) -> None:
        """Ask the authority for its metadata, blocking."""
        import msal

        self._app: Any = msal.ConfidentialClientApplication(
            client_id,
            client_credential=client_secret,
            authority=authority,
            instance_discovery=False,  # the authority is one of our own
            verify=cast("Any", ca_file),  # goes to requests, which takes a file as well
        )

    async def token(self, scope: str) -> str:
        """An access token, or "" where the answer holds none; raises what MSAL raises."""
        result = await asyncio.to_thread(self._app.acquire_token_for_client, [scope])
        return str(result.get("access_token", ""))


class NaiveSharing:
    """The next step of many: one task, for which all wait."""

    def __init__(self, service: NaiveService) -> None:
        self._service = service
        self._task: asyncio.Task[str] | None = None

    async def token(self, scope: str) -> str:
        """As the service has it."""
        if self._task is None:
            self._task = asyncio.create_task(self._service.token(scope))
        return await self._task


class NaiveProgram:
    """A program whose user signs in by device code: from MSAL's cache, else by a code; each call in a thread."""

    def __init__(self, client_id: str, authority: str, ca_file: str, show: Callable[[str], object]) -> None:
        """Ask the authority for its metadata, blocking. `show` is given each user code, or URL."""
        import msal

        self._show = show
        self._app: Any = msal.PublicClientApplication(
            client_id, authority=authority, instance_discovery=False, verify=cast("Any", ca_file)
        )

    async def token(self, scope: str) -> str:
        """As `NaiveService.token`."""
        return await asyncio.to_thread(self._token, scope)

    def _token(self, scope: str) -> str:
        for account in self._app.get_accounts():
            result = self._app.acquire_token_silent([scope], account=account)
            if result:
                return str(result.get("access_token", ""))
        return str(self._ask(scope).get("access_token", ""))

    def _ask(self, scope: str) -> dict[str, Any]:
        flow = self._app.initiate_device_flow([scope])
        self._show(str(flow["user_code"]))
        return cast("dict[str, Any]", self._app.acquire_token_by_device_flow(flow))


class NaiveDesktop(NaiveProgram):
    """The same with a browser window: `show` is given the URL to open."""

    def _ask(self, scope: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self._app.acquire_token_interactive([scope], auth_uri_callback=self._show))
