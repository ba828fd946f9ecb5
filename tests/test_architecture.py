"""The house as CONTRIBUTING.md draws it, from the syntax trees: which way imports point, and who knows which library.

Change a table only together with the map, and only if the map got better.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aiomsal

SOURCE = Path(__file__).parent.parent / "src" / "aiomsal"

# -- the tables ------------------------------------------------------------------------------------------------------

DATA = ("_token", "_errors")

# Each room, and the rooms it may import from; a package is one room, whose modules import one another as they like.
# What is imported for annotations only counts too. "" is the package itself, `from aiomsal import ...`.
ARROWS: dict[str, tuple[str, ...]] = {
    # the core, from the ground up: each knows only what lies below it
    "_token": (),
    "_errors": ("_token",),
    "_client": DATA,
    "stores": DATA,
    "_records": DATA,
    "_spawn": (),
    "_flight": ("_errors", "_spawn"),
    "_sessions": (*DATA, "_client", "stores", "_records", "_spawn", "_flight"),
    "_manager": (*DATA, "_client", "stores", "_records", "_spawn", "_flight", "_sessions"),
    # beside it: they meet the manager through the protocols of `_client`, and neither imports the other
    "sign_in": (*DATA, "_client"),
    "clients": (*DATA, "_client", "sign_in"),
    # on top
    "": (*DATA, "_client", "stores", "_manager", "clients", "sign_in"),
    "testing": ("", *DATA, "_client", "stores"),
    "cli": ("", "testing"),
    "__main__": ("cli",),
}

# One library, one home: the only rooms that may import it, even late.
HOMES: dict[str, tuple[str, ...]] = {
    "asyncio": ("_spawn", "testing", "cli"),
    "trio": ("_spawn",),
    "msal": ("clients", "cli"),  # the demo shows the naive way
    "msal_extensions": ("stores.file",),
    "requests": ("clients", "testing"),  # FakeEntra's in-process transport raises what requests would
    "cryptography": ("clients.credentials", "stores.encrypted", "testing"),
    "h11": ("sign_in", "testing"),
    "pytest": ("testing.pytest_plugin",),
}

# Everybody may import these, and the standard library; a library in neither table has no home yet.
EVERYWHERE = {"anyio"}

# `import aiomsal` must load none of these: importing msal takes longer than most requests.
NOT_AT_IMPORT = {"cryptography", "h11", "httpx", "jwt", "msal", "msal_extensions", "pytest", "requests", "trio"}

# -- reading the syntax trees ----------------------------------------------------------------------------------------


def name_of(path: Path) -> str:
    """The module's name below `aiomsal`, "" for the package itself."""
    return ".".join(part for part in path.relative_to(SOURCE).with_suffix("").parts if part != "__init__")


def room_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(module: str) -> list[tuple[int, str]]:
    """All imports in a module, wherever they stand: the line, and the absolute dotted name."""
    path = MODULES[module]
    package = ["aiomsal", *module.split(".")] if module else ["aiomsal"]
    if path.name != "__init__.py":
        package = package[:-1]
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def own_module(imported: str) -> str | None:
    """Which of our modules `imported` (perhaps a name within it) is; None if it is not ours."""
    if imported != "aiomsal" and not imported.startswith("aiomsal."):
        return None
    parts = imported.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts)


def within(module: str, home: str) -> bool:
    return module == home or module.startswith(f"{home}.")


# -- the tests -------------------------------------------------------------------------------------------------------


def test_every_module_has_its_place_on_the_map() -> None:
    unknown = sorted({room_of(module) for module in MODULES} - ARROWS.keys())
    assert not unknown, f"give {unknown} a row in ARROWS, and a line on the map in CONTRIBUTING.md"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    room = room_of(module)
    for line, imported in imports_of(module):
        target = own_module(imported)
        if target is None or room_of(target) == room:
            continue
        assert room_of(target) in ARROWS.get(room, ()), (
            f"{MODULES[module]}:{line} imports {imported}, but {room or 'aiomsal'} may know only {ARROWS.get(room)}: "
            "take what you need as an argument or through a protocol, or move it down to where both may see it"
        )


def test_the_arrows_make_no_circle() -> None:
    below: set[str] = set()
    left = dict(ARROWS)
    while left:
        free = [room for room, known in left.items() if set(known) <= below]
        assert free, f"these rooms know each other in a circle: {sorted(left)}"
        below.update(free)
        for room in free:
            del left[room]


@pytest.mark.parametrize("module", MODULES)
def test_each_library_is_known_in_its_home_only(module: str) -> None:
    for line, imported in imports_of(module):
        library = imported.split(".")[0]
        if (
            library == "aiomsal"
            or library in EVERYWHERE
            or (library in sys.stdlib_module_names and library not in HOMES)
        ):
            continue
        where = f"{MODULES[module]}:{line}"
        assert library in HOMES, f"{where} imports {library}: give it one home in HOMES, or do without"
        assert any(within(module, home) for home in HOMES[library]), (
            f"{where} imports {library}, which only {', '.join(HOMES[library])} may know: "
            "go through what these offer, and add to it what is missing"
        )


def test_importing_the_package_loads_no_heavy_library() -> None:
    program = "import sys, aiomsal; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    # -I: neither this directory nor the environment may bring something in
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = NOT_AT_IMPORT & set(done.stdout.split())
    assert not loaded, f"`import aiomsal` loads {sorted(loaded)}: import it in the function that needs it"


@pytest.mark.parametrize("name", aiomsal.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name: str) -> None:
    thing = getattr(aiomsal, name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)):
        return  # a constant or an alias cannot carry one
    documented = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    # a dataclass or NamedTuple without a docstring is given its signature
    assert documented, f"aiomsal.{name} has no docstring"
    assert not documented.startswith(f"{name}("), f"aiomsal.{name} has no docstring"


MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|opt|mnt)/\w|[A-Z]:\\\\?Users\\")
PROJECT = SOURCE.parent.parent


def project_files() -> list[Path]:
    tops = ("src", "tests", "benchmarks", ".ci", ".github")
    files = [path for top in tops for path in (PROJECT / top).rglob("*") if path.is_file()]
    files += [path for path in PROJECT.iterdir() if path.is_file() and path.name != "uv.lock"]
    return [path for path in files if "__pycache__" not in path.parts and path != Path(__file__)]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path in project_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "these will not exist elsewhere: use tmp_path, tempfile or an argument\n" + "\n".join(found)
