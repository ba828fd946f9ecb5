"""The README's Python runs as it stands there.

Each ```python block is marked, in the line before it, with the preparation it needs:

    <!-- test: service -->
    ```python
    token = await tokens.get(...)
    ```

A preparation is a function below, in PREPARATIONS. It makes what the reader has anyway (a tenant, a secret, a running
service) out of FakeEntra, and yields the names that the block finds already defined. Blocks use `await` as they like.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

README = Path(__file__).parent.parent / "README.md"

# -- preparations ----------------------------------------------------------------------------------------------------


@contextmanager
def plain(fake_entra: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Nothing: the block brings all it needs."""
    yield {}


PREPARATIONS: dict[str, Callable[[Any, pytest.MonkeyPatch], AbstractContextManager[dict[str, Any]]]] = {
    "plain": plain,
}

# -- the blocks ------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    line: int
    mark: str | None
    code: str


# Fences may be indented (in a list). The mark, if there is one, is the last line before the fence that is not blank.
FENCE = re.compile(
    r"(?:^[ \t]*<!--\s*test:\s*(?P<mark>[\w-]+)\s*-->[ \t]*\n(?:[ \t]*\n)*)?"
    r"^(?P<indent>[ \t]*)```(?:python|py)\b[^\n]*\n(?P<code>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)


def python_blocks(text: str) -> list[Block]:
    return [
        Block(
            line=text.count("\n", 0, found.start("code")) + 1,
            mark=found["mark"],
            code=inspect.cleandoc("\n" + found["code"]) + "\n",
        )
        for found in FENCE.finditer(text)
    ]


def run_block(block: Block, names: dict[str, Any]) -> None:
    # blank lines in front, so that a traceback names the README's own line
    source = "\n" * (block.line - 1) + block.code
    code = compile(source, str(README), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    names.setdefault("__name__", "readme")

    async def run() -> None:
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result

    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(run())
    else:  # it may call asyncio.run itself, so there must not be a loop yet
        eval(code, names)


@pytest.mark.parametrize(
    "block",
    [pytest.param(block, id=f"line {block.line}") for block in python_blocks(README.read_text(encoding="utf-8"))],
)
def test_the_block_runs_as_it_stands(block: Block, fake_entra: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert block.mark, (
        f"README.md:{block.line}: mark this block with the preparation it needs, in the line before its fence: "
        f"<!-- test: {' | '.join(PREPARATIONS)} -->"
    )
    assert block.mark in PREPARATIONS, f"README.md:{block.line}: there is no preparation {block.mark!r} in {__file__}"
    with PREPARATIONS[block.mark](fake_entra, monkeypatch) as names:
        run_block(block, names)


# -- the two commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_the_command_is_marked_once_and_is_one_line(name: str) -> None:
    # .ci/run finds it by the same mark
    found = re.findall(
        rf"^<!-- command: {name} -->\n```bash\n(.*?)\n```$",
        README.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert len(found) == 1
    assert "\n" not in found[0]
    assert "pip install" in found[0], "self-contained: the command brings the installer itself"


def test_a_mark_belongs_to_the_block_that_follows_it() -> None:
    text = (
        "<!-- test: plain -->\n\n```python\na = 1\n```\n\n  ```python\n  b = (\n    2\n  )\n  ```\n```bash\nls\n```\n"
    )
    assert python_blocks(text) == [Block(4, "plain", "a = 1\n"), Block(8, None, "b = (\n  2\n)\n")]


def test_a_block_may_await_and_sees_what_was_prepared() -> None:
    names: dict[str, Any] = {"answer": 42}
    run_block(Block(1, "plain", "import asyncio\nawait asyncio.sleep(0)\nsame = answer\n"), names)
    assert names["same"] == 42
