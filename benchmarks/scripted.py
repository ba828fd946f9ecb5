"""Managers whose authority answers at once and remembers nothing, for measuring what lies above it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aiomsal import Account, TokenManager
from aiomsal.testing import ScriptedClient, ScriptedUserClient

if TYPE_CHECKING:
    from aiomsal import Acquired, TokenRequest
    from aiomsal.testing import ScriptedAcquisition

TEXT = "x" * 1_500
"""About as long as an access token of the platform."""


class Forgetful(ScriptedClient):
    """Keeps no list of its acquisitions, which would be counted as the manager's memory."""

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        acquired = await super().acquire(request, session)
        self.acquisitions.clear()
        await self.acquisition()
        return acquired


class ForgetfulOfUsers(ScriptedUserClient):
    """As above; every account is in the session."""

    def session_key(self, request: TokenRequest, /) -> str | None:
        return None

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        account = user(request.account)
        own = self.sign_in_session(account, "refresh")
        acquired = await super().acquire(request, own)
        self.acquisitions.clear()
        await self.acquisition()
        return acquired


def user(home_account_id: str) -> Account:
    tenant = sys.intern(home_account_id.rpartition(".")[2])  # as our clients do: users share their tenant
    return Account(home_account_id, "login.microsoftonline.com", f"{home_account_id[:8]}@example.com", tenant)


def _land(acquisition: ScriptedAcquisition) -> None:
    home_account_id = acquisition.request.account
    acquisition.land(f"{TEXT}{acquisition.number}", account=user(home_account_id) if home_account_id else None)


def application() -> TokenManager:
    """A manager for application tokens."""
    return TokenManager(Forgetful(script=_land))


def of_users() -> TokenManager:
    """A manager for users' tokens."""
    return TokenManager(ForgetfulOfUsers(script=_land))
