"""Tokens of the Microsoft identity platform for asyncio: one request for a thousand coroutines.

Importing this loads neither MSAL nor any optional library; the clients are loaded when they are first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._asked import SignInFlow, SignInOptions, SignInRequest, TenantProfile
from ._client import Acquired, Attempt, PeopleClient, SignInClient, TokenClient, WebSignInClient
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
from ._manager import TokenManager
from ._stats import Stats
from ._token import Account, GetOptions, SourceOptions, Token, TokenRequest, TokenSource
from .stores import MemoryStore, TokenStore

if TYPE_CHECKING:
    from .clients._authority import Cloud as Cloud
    from .clients._transport import HttpClient as HttpClient
    from .clients.confidential import ConfidentialClient as ConfidentialClient
    from .clients.credentials import Assertion as Assertion
    from .clients.credentials import Certificate as Certificate
    from .clients.public import PublicClient as PublicClient
    from .sign_in import SignIn as SignIn
    from .sign_in.browser import Browser as Browser
    from .sign_in.device_code import DeviceCode as DeviceCode
    from .sign_in.device_code import DevicePrompt as DevicePrompt

__all__ = [
    "Account",
    "AccountRequired",
    "Acquired",
    "Assertion",
    "Attempt",
    "AuthorityError",
    "AuthorityUnavailable",
    "Browser",
    "Certificate",
    "Classification",
    "Cloud",
    "ConfidentialClient",
    "DeviceCode",
    "DevicePrompt",
    "FlightAborted",
    "GetOptions",
    "HttpClient",
    "InteractionRequired",
    "InvalidClient",
    "MemoryStore",
    "PeopleClient",
    "PublicClient",
    "SignIn",
    "SignInClient",
    "SignInError",
    "SignInFlow",
    "SignInOptions",
    "SignInRequest",
    "SourceOptions",
    "Stats",
    "StoreError",
    "TenantProfile",
    "Throttled",
    "Token",
    "TokenClient",
    "TokenError",
    "TokenManager",
    "TokenRequest",
    "TokenSource",
    "TokenStore",
    "WebSignInClient",
]

_HOMES = {
    "Assertion": ".clients.credentials",
    "Browser": ".sign_in.browser",
    "Certificate": ".clients.credentials",
    "Cloud": ".clients._authority",
    "ConfidentialClient": ".clients.confidential",
    "DeviceCode": ".sign_in.device_code",
    "DevicePrompt": ".sign_in.device_code",
    "HttpClient": ".clients._transport",
    "PublicClient": ".clients.public",
    "SignIn": ".sign_in",
}

if not TYPE_CHECKING:  # or a checker would take every misspelt name for one that is loaded here

    def __getattr__(name: str) -> object:
        """Load a client when it is first named: `import aiomsal` is for adapters and libraries too, who name none."""
        if (home := _HOMES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home, __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
