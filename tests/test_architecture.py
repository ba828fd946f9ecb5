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

PROJECT = Path(__file__).parent.parent
SOURCE = PROJECT / "src" / "aiomsal"

# -- the tables ------------------------------------------------------------------------------------------------------

# Each room, and the rooms it imports from; a package is one room, whose modules import one another as they like.
# What is imported for annotations only counts too. "" is the package itself, `from aiomsal import ...`.
# The table is exact: an arrow that nobody uses any more goes. A new module of the core is one more row.
ARROWS: dict[str, set[str]] = {
    # the ground: data, and what differs between asyncio and trio
    "_token": set(),
    "_errors": {"_token"},
    "_asked": {"_token"},
    "_client": {"_asked", "_errors", "_token"},
    "_stats": set(),
    "_spawn": set(),
    # mechanisms: they know nothing of each other, and nothing of clients
    "_flight": {"_errors", "_spawn"},
    "_turns": {"_spawn"},
    "_hot": {"_token"},
    "_source": {"_hot", "_token"},
    "_records": {"_token"},
    "stores": {"_turns"},
    # policy: what is kept, how a token is got, who is asked
    "_shelf": {"_errors", "_records", "_token", "stores"},
    "_sessions": {"_asked", "_client", "_errors", "_records", "_shelf", "_token"},
    "_acquisition": {"_client", "_errors", "_flight", "_records", "_sessions", "_shelf", "_spawn", "_token"},
    "_people": {"_asked", "_client", "_errors", "_records", "_sessions", "_shelf", "_spawn", "_token", "_turns"},
    "_manager": {
        *(
            "_acquisition",
            "_asked",
            "_client",
            "_errors",
            "_flight",
            "_hot",
            "_people",
            "_sessions",
            "_shelf",
            "_source",
        ),
        *("_stats", "_token", "stores"),
    },
    # beside it: they meet the manager through the protocols of `_client`, and neither imports the other
    "sign_in": {"_asked", "_client", "_errors", "_spawn"},
    "clients": {"_asked", "_client", "_errors", "_flight", "_spawn", "_token", "sign_in"},
    "msal": {"_errors", "_flight", "_spawn", "_turns", "sign_in"},
    # on top
    "": {"_asked", "_client", "_errors", "_manager", "_stats", "_token", "clients", "sign_in", "stores"},
    "testing": {"_asked", "_client", "_errors", "_spawn", "_token"},
    "cli": {"", "testing"},
    "__main__": {"cli"},
}

# Where an arrow may carry these names only, and only from the package itself: the core knows a store by its protocol.
NAMES: dict[tuple[str, str], set[str]] = {
    ("_manager", "stores"): {"MemoryStore", "TokenStore"},
    ("_shelf", "stores"): {"MemoryStore", "TokenStore"},
}

# One library, one home: the only modules that import it, even late. Exact as well.
HOMES: dict[str, set[str]] = {
    "asyncio": {"_spawn", "cli", "testing._entra.connection", "testing._entra.server"},
    "trio": {"_spawn"},
    "msal": {"clients._msal", "clients._session_cache", "msal", "cli.naive"},  # the demo shows the naive way
    "requests": {
        "clients._transport",
        "msal",
        "testing._entra.session",
    },  # within a process, FakeEntra raises what it would
    "cryptography": {"clients.credentials", "testing._entra.keys", "testing._entra.tls"},
    "h11": {"sign_in", "testing._entra.connection"},
    "pytest": {"testing.pytest_plugin"},
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


def libraries_of(module: str) -> list[tuple[int, str]]:
    """What is imported of others, but for what everybody may: the line, and the library."""
    found = ((line, imported.split(".")[0]) for line, imported in imports_of(module))
    free = {"aiomsal", *EVERYWHERE, *sys.stdlib_module_names} - HOMES.keys()
    return [(line, library) for line, library in found if library not in free]


def within(module: str, home: str) -> bool:
    return module == home or module.startswith(f"{home}.")


# -- the tests -------------------------------------------------------------------------------------------------------


def test_every_module_has_its_place_on_the_map() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert not (unknown := rooms - ARROWS.keys()), f"give {unknown} a row in ARROWS, and a line in CONTRIBUTING.md"
    assert not (gone := ARROWS.keys() - rooms), f"take {gone} out of ARROWS, and off the map in CONTRIBUTING.md"
    chart = (PROJECT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^  (\w+)(?:\.py|/) ", chart, re.MULTILINE))
    drawn = {"" if room == "__init__" else room for room in drawn}
    assert drawn == rooms, f"the map in CONTRIBUTING.md does not show the house: {sorted(drawn ^ rooms)}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    room = room_of(module)
    for line, imported in imports_of(module):
        target = own_module(imported)
        if target is None or room_of(target) == room:
            continue
        where = f"{MODULES[module]}:{line} imports {imported}"
        assert room_of(target) in ARROWS.get(room, ()), (
            f"{where}, but {room or 'aiomsal'} may know only {sorted(ARROWS.get(room, ()))}: "
            "take what you need as an argument or through a protocol, or move it down to where both may see it"
        )
        if names := NAMES.get((room, room_of(target))):
            assert imported in {f"aiomsal.{room_of(target)}.{name}" for name in names}, (
                f"{where}, but may know only {sorted(names)} there: the rest is behind the protocol"
            )


def test_the_arrows_make_no_circle() -> None:
    below: set[str] = set()
    left = dict(ARROWS)
    while left:
        free = [room for room, known in left.items() if known <= below]
        assert free, f"these rooms know each other in a circle: {sorted(left)}"
        below.update(free)
        for room in free:
            del left[room]


def test_no_arrow_is_left_over() -> None:
    used = {
        (room_of(module), room_of(target))
        for module in MODULES
        for _, imported in imports_of(module)
        if (target := own_module(imported)) is not None
    }
    left = sorted({(room, known) for room, rooms in ARROWS.items() for known in rooms} - used)
    assert not left, f"nobody imports this way any more: take {left} out of ARROWS"


@pytest.mark.parametrize("module", MODULES)
def test_each_library_is_known_in_its_home_only(module: str) -> None:
    for line, library in libraries_of(module):
        where = f"{MODULES[module]}:{line}"
        assert library in HOMES, f"{where} imports {library}: give it one home in HOMES, or do without"
        assert any(within(module, home) for home in HOMES[library]), (
            f"{where} imports {library}, which only {', '.join(sorted(HOMES[library]))} may know: "
            "go through what these offer, and add to it what is missing"
        )


def test_no_home_is_left_over() -> None:
    used = [(library, module) for module in MODULES for _, library in libraries_of(module)]
    left = [
        (library, home)
        for library, homes in HOMES.items()
        for home in sorted(homes)
        if not any(library == each and within(module, home) for each, module in used)
    ]
    assert not left, f"these homes do not know their library any more: take {left} out of HOMES"


@pytest.mark.parametrize("room", ["_manager", "clients"])
def test_the_manager_and_the_clients_know_only_the_seam_between_them(room: str) -> None:
    # the tables say so already, one arrow at a time: this says it of all that lies below, however far
    known, left = set[str](), [room]
    while left:
        left += (new := ARROWS[left.pop()] - known)
        known |= new
    assert "_client" in known
    assert not known & {"", "_manager", "clients", "cli", "testing"}
    assert ("sign_in" in known) == (room == "clients")


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


def project_files() -> list[Path]:
    tops = ("src", "tests", "benchmarks", ".ci", ".github")
    files = [path for top in tops for path in (PROJECT / top).rglob("*") if path.is_file()]
    files += [path for path in PROJECT.iterdir() if path.is_file() and path.name != "uv.lock"]
    return [path for path in files if "__pycache__" not in path.parts]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path in project_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "these will not exist elsewhere: use tmp_path, tempfile or an argument\n" + "\n".join(found)
