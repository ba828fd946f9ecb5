"""While the person thinks, pages of other sites in the same browser do what they can."""

from __future__ import annotations

import asyncio
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest_asyncio

from aiomsal.sign_in import _reception
from tests.end_to_end.support import ANN, BEN, until

from .support import PASSWORD, REDEEMED, REFUSED, SIGNED_IN, Page, Site, Visit, desktop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from aiomsal import Token, TokenManager
    from tests.end_to_end.support import House

    from .chromium import Chromium
    from .conftest import Ask


class Thinker:
    """Somebody who sits before the sign-in page, and has opened other windows meanwhile."""

    def __init__(self, house: House, chromium: Chromium, tokens: TokenManager, asking: asyncio.Task[Token]) -> None:
        self.house = house
        self.chromium = chromium
        self.tokens = tokens
        self.asking = asking

    async def goes_to(self, html: str) -> None:
        """Open a window on another site."""

        async def answer(visit: Visit) -> Page:
            return Page(html)

        async with Site(answer) as site:
            await self.chromium.visit(f"http://127.0.0.1:{site.port}/")

    async def sees_it_refused(self) -> None:
        await self.chromium.sees(REFUSED)
        assert not self.asking.done()


@pytest_asyncio.fixture
async def thinker(house: House, chromium: Chromium, ask: Ask) -> AsyncIterator[Thinker]:
    """Afterwards Ann signs in, as if nothing had been."""
    tokens = desktop(house, chromium)
    thinker = Thinker(house, chromium, tokens, ask(tokens.get("User.Read")))
    await chromium.sees("Sign in")
    window = await chromium.window()
    yield thinker
    assert not thinker.asking.done()
    await chromium.turn_to(window)
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees(SIGNED_IN)
    token = await thinker.asking
    assert token.account is not None
    assert token.account.username == ANN
    assert await tokens.accounts() == (token.account,)
    assert (len(chromium.opened), house.entra.count(REDEEMED)) == (1, 1)


def posting(url: str, fields: dict[str, str]) -> str:
    """A page that posts a form as soon as it is seen."""
    inputs = "".join(f'<input name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items())
    return (
        f'<title>Prizes</title><body onload="document.forms[0].submit()">'
        f'<form method="post" action="{escape(url)}">{inputs}</form>'
    )


async def test_a_forged_answer_is_refused(thinker: Thinker) -> None:
    await thinker.goes_to(posting(thinker.chromium.redirect_uri, {"code": "forged", "state": "guessed"}))
    await thinker.sees_it_refused()


async def test_a_forged_refusal_is_refused(thinker: Thinker) -> None:
    await thinker.goes_to(posting(thinker.chromium.redirect_uri, {"error": "access_denied", "state": ""}))
    await thinker.sees_it_refused()


async def test_nobody_is_signed_in_as_the_attacker_by_an_answer_to_the_attackers_own_sign_in(thinker: Thinker) -> None:
    mine = urlsplit(thinker.chromium.opened[0])
    query = {name: value for name, [value] in parse_qs(mine.query).items()}
    own = mine._replace(query=urlencode({**query, "state": "the attacker's"})).geturl()
    answer = await asyncio.to_thread(thinker.house.entra.authorize, own, BEN)
    assert answer.params["code"]
    await thinker.goes_to(posting(answer.url, answer.params))
    await thinker.sees_it_refused()


async def test_a_script_can_neither_answer_nor_read(thinker: Thinker) -> None:
    await thinker.goes_to("<title>Prizes</title>")
    script = """
        const [url] = args
        const form = {method: "POST", body: new URLSearchParams({code: "forged", state: "guessed"})}
        const tries = [
            [url, {}],
            [url, {mode: "no-cors"}],
            [url, form],
            [url, {...form, mode: "no-cors"}],
            [url, {...form, mode: "no-cors", credentials: "include", keepalive: true}],
            [url, {method: "POST", body: "code=forged&state=guessed", mode: "no-cors"}],
            [url, {method: "PUT", body: form.body}],
            [url + "/?code=forged&state=guessed", {mode: "no-cors"}],
        ]
        return Promise.all(tries.map(([url, how]) => fetch(url, how).then(answer => answer.type, error => error.name)))
    """
    unread, not_let = "opaque", "TypeError"
    answers = await thinker.chromium.runs(script, thinker.chromium.redirect_uri)
    assert answers == [not_let, unread, not_let, unread, unread, unread, not_let, unread]


async def test_a_name_that_somebody_elses_dns_lets_point_here_is_refused(thinker: Thinker) -> None:
    port = urlsplit(thinker.chromium.redirect_uri).port
    await thinker.chromium.visit(f"http://prizes.localhost:{port}/")
    await thinker.sees_it_refused()
    assert "another host" in await thinker.chromium.text()


async def test_connections_that_are_made_ahead_and_icons_that_are_asked_for_do_no_harm(
    thinker: Thinker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Any] = []

    class Conversation(_reception.Conversation):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            connections.append(self)

    monkeypatch.setattr(_reception, "Conversation", Conversation)
    await thinker.goes_to(
        f'<title>Prizes</title><link rel="preconnect" crossorigin href="{thinker.chromium.redirect_uri}">'
    )
    await until(lambda: connections)
    script = "return new Promise(done => Object.assign(new Image(), {src: args[0], onerror: () => done('no image')}))"
    assert await thinker.chromium.runs(script, f"{thinker.chromium.redirect_uri}/favicon.ico") == "no image"
    assert len(connections) == 2  # the one made ahead, where no cookies would go along, is still silent
