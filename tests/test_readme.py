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
import io
import re
import tempfile
import time
import webbrowser
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import jwt
import pytest
import requests
from requests.adapters import HTTPAdapter

from aiomsal import ConfidentialClient, TokenManager
from aiomsal.testing import ClientCertificate, EntraError, FakeEntra, FederatedCredential, ScriptedBrowser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from aiomsal import Token

README = Path(__file__).parent.parent / "README.md"

# -- preparations ----------------------------------------------------------------------------------------------------


@contextmanager
def plain(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Nothing: the block brings all it needs."""
    yield {}


@contextmanager
def service(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An application in a tenant; what would go out to login.microsoftonline.com reaches FakeEntra."""
    _on_the_internet(fake_entra, monkeypatch)
    app = fake_entra.add_application()
    yield {"client_id": app.client_id, "client_secret": app.client_secret, "tenant": fake_entra.tenant_id}
    assert fake_entra.count("token") == 1


@contextmanager
def credentials(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """One that has a certificate, in a file beside it, and trusts what its platform says of it."""
    _on_the_internet(fake_entra, monkeypatch)
    certificate, platform = ClientCertificate.new(), ClientCertificate.new()
    trusted = FederatedCredential("https://platform.example", "service", public_key=platform.public_key)
    app = fake_entra.add_application(certificates=(certificate.certificate,), federated=(trusted,))

    async def token_of_the_platform_we_run_on() -> str:
        now = int(time.time())
        claims = {"iss": trusted.issuer, "sub": trusted.subject, "aud": trusted.audience, "iat": now, "exp": now + 600}
        return jwt.encode(claims, platform.private_key, algorithm="RS256")

    with tempfile.TemporaryDirectory() as here:
        monkeypatch.chdir(here)
        Path("service.pem").write_text(certificate.private_key + certificate.certificate, encoding="ascii")
        yield {
            "client_id": app.client_id,
            "tenant": fake_entra.tenant_id,
            "token_of_the_platform_we_run_on": token_of_the_platform_we_run_on,
        }
        monkeypatch.undo()
    assert fake_entra.count("token") == 2


@contextmanager
def desktop(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A public application, and a person in front of this machine's browser."""
    _on_the_internet(fake_entra, monkeypatch)
    browser = ScriptedBrowser(fake_entra, fake_entra.add_user("alice@example.com"))
    monkeypatch.setattr(webbrowser, "get", lambda: SimpleNamespace(name="scripted", open=browser))
    yield {"client_id": fake_entra.add_application(public=True).client_id, "tenant": fake_entra.tenant_id}
    assert browser.windows == 1
    assert fake_entra.count("token.authorization_code") == 1
    assert fake_entra.count("token.refresh_token") == 2


@contextmanager
def headless(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A public application, and a person who enters every code at once."""
    _on_the_internet(fake_entra, monkeypatch)
    fake_entra.add_user("alice@example.com")
    fake_entra.configure(auto_approve="alice@example.com", device_code_interval=1)
    said: list[object] = []
    names = {"client_id": fake_entra.add_application(public=True).client_id, "tenant": fake_entra.tenant_id}
    yield {**names, "print": said.append}
    [prompt] = map(str, said)
    assert prompt.startswith("To sign in, open the page https://")
    assert fake_entra.count("devicecode") == 1


@contextmanager
def web(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A web application, and two people who visit it."""
    _on_the_internet(fake_entra, monkeypatch)
    here = "https://app.example"
    app = fake_entra.add_application(redirect_uris=[f"{here}/signed-in"])
    names: dict[str, Any] = {"client_id": app.client_id, "client_secret": app.client_secret, "secret_key": "made up"}
    names["tenant"] = fake_entra.tenant_id
    yield names

    async def visit(username: str) -> None:
        user = fake_entra.add_user(username)
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url=here, trust_env=False) as browser:
            login = await browser.get("/mail", follow_redirects=False)
            assert login.headers["location"] == "/login"
            sent_away = await browser.get("/login")
            answer = fake_entra.authorize(sent_away.headers["location"], user)
            assert (await browser.get(answer.url, params=answer.params)).headers["location"] == "/mail"
            for _ in range(2):
                assert (await browser.get("/mail")).text == f"{username} reads mail"
            twice = await browser.get(answer.url, params=answer.params)
            assert (twice.status_code, twice.text) == (403, "Not signed in (no_flow). Try again: /login")

    async def meet(error: EntraError) -> None:
        """A user of whom more is required than a refresh token can give, gets through at the second sign-in."""
        user = fake_entra.add_user("carol@example.com")
        fake_entra.require_interaction(user, scope="Mail.Read", error=error)
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url=here, trust_env=False) as browser:
            for _ in range(2):
                sent_away = await browser.get("/login")
                answer = fake_entra.authorize(sent_away.headers["location"], user)
                await browser.get(answer.url, params=answer.params)
                page = await browser.get("/mail")
                if page.status_code == 200:
                    break
            assert page.text == "carol@example.com reads mail"

    asyncio.run(visit("alice@example.com"))
    asyncio.run(visit("bob@example.com"))
    assert fake_entra.count("token.authorization_code") == 2
    assert fake_entra.count("token.refresh_token") == 2
    asyncio.run(meet(EntraError(65001)))
    asyncio.run(meet(EntraError(50076, claims='{"access_token":{"acrs":{"essential":true,"value":"c1"}}}')))


@contextmanager
def refused(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A resource that refuses the first token, with a claims challenge."""
    answers = [
        SimpleNamespace(status=401, claims='{"access_token":{"nbf":{"essential":true,"value":"1"}}}'),
        SimpleNamespace(status=200, claims=""),
    ]
    sent = []

    async def call_the_api(token: Token) -> SimpleNamespace:
        sent.append(token.value)
        return answers.pop(0)

    yield {"tokens": _tokens(fake_entra), "scope": "https://api.example/.default", "call_the_api": call_the_api}
    assert len(set(sent)) == 2
    assert fake_entra.count("token") == 2


@contextmanager
def errors(fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An authority that asks for patience."""
    fake_entra.fault("token", status=429, retry_after=3600)
    said: list[tuple[Any, ...]] = []
    names = {"tokens": _tokens(fake_entra), "scope": "https://api.example/.default"}
    yield {**names, "print": lambda *words: said.append(words)}
    assert [words[0] for words in said] == ["come back in"]


PREPARATIONS: dict[str, Callable[[FakeEntra, pytest.MonkeyPatch], AbstractContextManager[dict[str, Any]]]] = {
    "service": service,
    "credentials": credentials,
    "desktop": desktop,
    "headless": headless,
    "web": web,
    "refused": refused,
    "errors": errors,
    "testing": plain,
    "plain": plain,
}


def _tokens(entra: FakeEntra) -> TokenManager:
    app = entra.add_application()
    client = ConfidentialClient(
        app.client_id, app.client_secret, authority=entra.authority(), http_client=entra.http_client()
    )
    return TokenManager(client)


def _on_the_internet(entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(_: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        body = request.body or b""
        answer = entra.handle(
            request.method or "GET",
            request.url or "",
            dict(request.headers),
            body.encode() if isinstance(body, str) else body,
        )
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body)
        response.url, response.request = request.url or "", request
        return response

    monkeypatch.setattr(HTTPAdapter, "send", send)


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
def test_the_block_runs_as_it_stands(block: Block, fake_entra: FakeEntra, monkeypatch: pytest.MonkeyPatch) -> None:
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
