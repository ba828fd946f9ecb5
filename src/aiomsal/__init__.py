"""Tokens of the Microsoft identity platform for asyncio: one request for a thousand coroutines.

Importing this loads neither MSAL nor any optional library.
"""

from ._client import Acquired, Attempt, SignInClient, TokenClient
from ._errors import (
    AccountRequired,
    AuthorityError,
    AuthorityUnavailable,
    Classification,
    FlightAborted,
    InteractionRequired,
    InvalidClient,
    SignInError,
    StoreError,
    Throttled,
    TokenError,
)
from ._manager import Stats, TokenManager
from ._token import Account, Token, TokenRequest, TokenSource
from .stores import MemoryStore, TokenStore

__all__ = [
    "Account",
    "AccountRequired",
    "Acquired",
    "Attempt",
    "AuthorityError",
    "AuthorityUnavailable",
    "Classification",
    "FlightAborted",
    "InteractionRequired",
    "InvalidClient",
    "MemoryStore",
    "SignInClient",
    "SignInError",
    "Stats",
    "StoreError",
    "Throttled",
    "Token",
    "TokenClient",
    "TokenError",
    "TokenManager",
    "TokenRequest",
    "TokenSource",
    "TokenStore",
]
