"""An identity server, a browser, a clock and a scripted client, for tests of programs that acquire tokens.

Nothing here needs a tenant or the internet. Names are loaded when they are first used, so that the pytest plugin,
which every pytest run of an environment imports, costs next to nothing until a fixture asks for a server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._browser import ScriptedBrowser as ScriptedBrowser
    from ._clock import FakeClock as FakeClock
    from ._entra.brain import FakeEntra as FakeEntra
    from ._entra.directory import Application as Application
    from ._entra.directory import FederatedCredential as FederatedCredential
    from ._entra.directory import Tenant as Tenant
    from ._entra.directory import User as User
    from ._entra.errors import EntraError as EntraError
    from ._entra.gate import Gate as Gate
    from ._entra.keys import ClientCertificate as ClientCertificate
    from ._entra.log import RequestRecord as RequestRecord
    from ._entra.process import FakeEntraProcess as FakeEntraProcess
    from ._entra.server import EntraServer as EntraServer
    from ._entra.state import Settings as Settings
    from ._entra.steps import AuthorizationAnswer as AuthorizationAnswer
    from ._scripted import ScriptedAcquisition as ScriptedAcquisition
    from ._scripted import ScriptedClient as ScriptedClient
    from ._scripted import ScriptedUserClient as ScriptedUserClient

__all__ = [
    "Application",
    "AuthorizationAnswer",
    "ClientCertificate",
    "EntraError",
    "EntraServer",
    "FakeClock",
    "FakeEntra",
    "FakeEntraProcess",
    "FederatedCredential",
    "Gate",
    "RequestRecord",
    "ScriptedAcquisition",
    "ScriptedBrowser",
    "ScriptedClient",
    "ScriptedUserClient",
    "Settings",
    "Tenant",
    "User",
]

_HOMES = {
    "Application": "._entra.directory",
    "AuthorizationAnswer": "._entra.steps",
    "ClientCertificate": "._entra.keys",
    "EntraError": "._entra.errors",
    "EntraServer": "._entra.server",
    "FakeClock": "._clock",
    "FakeEntra": "._entra.brain",
    "FakeEntraProcess": "._entra.process",
    "FederatedCredential": "._entra.directory",
    "Gate": "._entra.gate",
    "RequestRecord": "._entra.log",
    "ScriptedAcquisition": "._scripted",
    "ScriptedBrowser": "._browser",
    "ScriptedClient": "._scripted",
    "ScriptedUserClient": "._scripted",
    "Settings": "._entra.state",
    "Tenant": "._entra.directory",
    "User": "._entra.directory",
}

if not TYPE_CHECKING:  # or a checker would take every misspelt name for one that is loaded here

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value: object = getattr(import_module(home, __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
