"""MSAL Python, awaited: `from aiomsal import msal` in place of `import msal`, and `await` before what may wait.

Each public name of the installed MSAL is here, and MSAL is imported when one is first needed. `ClientApplication`,
`PublicClientApplication`, `ConfidentialClientApplication` and `ManagedIdentityClient` take MSAL's arguments and return
what MSAL returns, but each method is a coroutine, on asyncio and trio. All else is MSAL's own.

A constructor does no I/O. MSAL's object is built in a worker thread by the first call, or by `await app.ready()`, which
also brings MSAL's other attributes (`token_cache`, `authority`, ...). What its constructor refuses, that call raises.

Equal calls at the same time are one: silent ones, `acquire_token_for_client`, on-behalf-of, federated user
credentials, managed identities, interactive ones, and the polls of one device code. Each caller gets a dict of its
own, and may leave without changing anything for the others. What cannot be compared (`post=`, a proof of possession) is
never shared.

What is different from MSAL, and how to have it MSAL's way:

- A token past its time to refresh is returned where the authority answers 5xx: `http_exceptions=(RequestException,)`.
- HTTP requests end, after 5 s to connect and 25 s to answer: `timeout=`, where `(None, None)` is no end; or
  `http_client=`.
- What the authority refuses (429, 5xx, Retry-After) is not asked again for a while, as in MSAL, but by equal requests
  only, so that no user is given another's answer: `http_cache={}` (any mapping) brings MSAL's own throttling back.
- `remove_account` waits for the refreshes of that account that are under way, or these would bring it back, and later
  ones wait for it: with an application of MSAL's own only.
- `acquire_token_interactive` listens on loopback itself, is cancelled with its last caller, and opens one window at a
  time: `auth_code_receiver=`, MSAL's own or yours. With a broker, MSAL does it all, in a worker thread (MSAL's on macOS
  wants the main thread: use `import msal` there).
- `acquire_token_by_device_flow` waits between its polls on the event loop, at least a second. Who waits for one device
  code shares the polls and the flow of whoever came first.
- A forked child builds its application anew: pass `token_cache=` if it is to know the accounts of its parent.
- Attributes are MSAL's to read. One that is set stays with the object here, and MSAL goes on with its own: pass it to
  the constructor instead.
- Each application has worker threads of its own, made when needed, 32 and 16 for sign-ins at most. Keep applications,
  as MSAL wants it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._applications import ClientApplication, ConfidentialClientApplication, PublicClientApplication
from ._managed_identity import ManagedIdentityClient

if TYPE_CHECKING:
    from msal import ArcPlatformNotSupportedError as ArcPlatformNotSupportedError
    from msal import AutoRefresher as AutoRefresher
    from msal import BrowserInteractionTimeoutError as BrowserInteractionTimeoutError
    from msal import IdTokenError as IdTokenError
    from msal import ManagedIdentityError as ManagedIdentityError
    from msal import PopAuthScheme as PopAuthScheme
    from msal import Prompt as Prompt
    from msal import SerializableTokenCache as SerializableTokenCache
    from msal import SystemAssignedManagedIdentity as SystemAssignedManagedIdentity
    from msal import TokenCache as TokenCache
    from msal import UserAssignedManagedIdentity as UserAssignedManagedIdentity

__all__ = [
    "ArcPlatformNotSupportedError",
    "AutoRefresher",
    "BrowserInteractionTimeoutError",
    "ClientApplication",
    "ConfidentialClientApplication",
    "IdTokenError",
    "ManagedIdentityClient",
    "ManagedIdentityError",
    "PopAuthScheme",
    "Prompt",
    "PublicClientApplication",
    "SerializableTokenCache",
    "SystemAssignedManagedIdentity",
    "TokenCache",
    "UserAssignedManagedIdentity",
]

if not TYPE_CHECKING:  # or a checker would take every misspelt name for one of MSAL's

    def __getattr__(name: str) -> object:
        """MSAL's own, its submodules included."""
        if name.startswith("__") and name != "__version__":  # what Python looks for in modules
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(import_module("msal"), name)
        except AttributeError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has msal") from None
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
