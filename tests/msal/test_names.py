"""What is there: MSAL's names, constants and signatures, and MSAL itself only when it is needed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import ModuleType
from typing import Any

import msal as real
import pytest

from aiomsal import msal

CLASSES = ("ClientApplication", "PublicClientApplication", "ConfidentialClientApplication", "ManagedIdentityClient")
NEWEST = hasattr(real.ClientApplication, "ACQUIRE_TOKEN_BY_USER_FIC_ID")


def public_names(thing: object) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def methods(name: str) -> list[str]:
    there = vars(getattr(real, name))
    return [each for each in there if (each == "__init__" or each[0] != "_") and inspect.isfunction(there[each])]


METHODS = [(name, method) for name in CLASSES for method in methods(name)]


def test_each_public_name_of_msal_is_listed() -> None:
    there = {name for name in public_names(real) if not isinstance(getattr(real, name), ModuleType)}
    assert there - set(msal.__all__) == set(), "a new MSAL has new names: list them in aiomsal.msal"
    if NEWEST:
        assert set(msal.__all__) - there == set(), "MSAL has these no more"


def test_each_name_of_msal_is_found() -> None:
    for name in dir(real):
        if not name.startswith("_"):
            thing = getattr(msal, name)
            assert (thing is getattr(real, name)) == (name not in CLASSES), name
    assert msal.__version__ == real.__version__
    assert set(msal.__all__) <= set(dir(msal))
    assert "Prompt" in vars(msal)  # found once


def test_a_name_that_msal_has_not_is_an_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing', nor has msal"):
        msal.Nothing  # noqa: B018


@pytest.mark.parametrize("name", CLASSES)
def test_each_member_of_a_class_is_here_too(name: str) -> None:
    ours, theirs = getattr(msal, name), getattr(real, name)
    for member in public_names(theirs):
        assert hasattr(ours, member), f"a new MSAL has {name}.{member}"
        value = vars(theirs)[member]
        if isinstance(value, str | bool):
            assert getattr(ours, member) == value
    assert name not in ("PublicClientApplication", "ConfidentialClientApplication") or issubclass(
        ours, msal.ClientApplication
    )


@pytest.mark.skipif(not NEWEST, reason="an older MSAL, whose methods take less")
@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_method_has_msals_parameters_and_is_a_coroutine(name: str, method: str) -> None:
    ours, theirs = getattr(getattr(msal, name), method), getattr(getattr(real, name), method)
    assert _parameters(ours) == _parameters(theirs)
    assert inspect.iscoroutinefunction(ours) == (method != "__init__")
    if method != "__init__":
        assert ours.__doc__


def _parameters(function: Any) -> list[tuple[str, object, object]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_importing_it_loads_msal_only_when_a_name_is_needed() -> None:
    program = (
        "import sys\n"
        "from aiomsal import msal\n"
        "app = msal.PublicClientApplication('client', authority='https://authority.example/tenant')\n"
        "assert not hasattr(app, 'token_cache')\n"
        "msal.PublicClientApplication.CONSOLE_WINDOW_HANDLE\n"
        "assert not {'msal', 'requests', 'h11', 'trio'} & sys.modules.keys(), sys.modules.keys()\n"
        "msal.TokenCache()\n"
        "assert 'msal' in sys.modules\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")
