"""A pytest plugin that has MSAL's own tests drive `aiomsal.msal` in place of MSAL's classes: see `msal_tests`.

A test's `ClientApplication` is then a driver: its methods await the facade's, each in an event loop of its own, and all
else it says and is told goes to MSAL's own object and class, so that what a test replaces there is replaced.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from typing import TYPE_CHECKING, Any

import msal as real

from aiomsal import msal as facade

if TYPE_CHECKING:
    import pytest

CLASSES = ("ClientApplication", "PublicClientApplication", "ConfidentialClientApplication", "ManagedIdentityClient")


class _Class(type):
    """What concerns the class concerns MSAL's."""

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.__dict__["_real"], name)

    def __setattr__(cls, name: str, value: object) -> None:
        setattr(cls.__dict__["_real"], name, value)

    def __delattr__(cls, name: str) -> None:
        delattr(cls.__dict__["_real"], name)


def _driver(name: str) -> type:
    awaited = getattr(facade, name)

    def init(self: Any, *args: Any, **options: Any) -> None:
        self.__dict__["_awaited"] = application = awaited(*args, **options)
        asyncio.run(application.ready())

    def get(self: Any, name: str) -> Any:
        application = self.__dict__["_awaited"]
        built = application._desk.built
        if name in vars(built) or not inspect.iscoroutinefunction(getattr(awaited, name, None)):
            return getattr(built, name)
        return lambda *args, **options: asyncio.run(getattr(application, name)(*args, **options))

    def put(self: Any, name: str, value: object) -> None:
        setattr(self.__dict__["_awaited"]._desk.built, name, value)

    def drop(self: Any, name: str) -> None:
        delattr(self.__dict__["_awaited"]._desk.built, name)

    body = {"__init__": init, "__getattr__": get, "__setattr__": put, "__delattr__": drop, "_real": getattr(real, name)}
    return _Class(name, (), body)


DRIVERS = {getattr(real, name): _driver(name) for name in CLASSES}


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        thing = getattr(real, name)
        return DRIVERS.get(thing, thing) if isinstance(thing, type) else thing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exchange the classes where the tests know them, and nowhere else: MSAL must go on to find its own."""
    for module in {item.module for item in items}:  # type: ignore[attr-defined]
        for name, thing in list(vars(module).items()):
            if thing is real:
                setattr(module, name, _Module("msal"))
            elif isinstance(thing, type) and thing in DRIVERS:
                setattr(module, name, DRIVERS[thing])
