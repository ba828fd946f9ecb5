"""A web application signs its users in: redirects, cookies, and what a person does with windows and the reload key."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from aiomsal import SignInError
from tests.end_to_end.support import ANN, BEN, crowd, one_token

from .support import OPENED, PASSWORD, REDEEMED, Page, Site, Visit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiomsal import Token, TokenManager
    from tests.end_to_end.support import House

    from .chromium import Chromium


class Shop(Site):
    """The smallest application there is. It forgets no flow and checks nothing: the library has to.

    Its mutable state is the sessions, by their cookie.
    """

    def __init__(self, house: House, *, response_mode: Any = "query", cookie: str = "SameSite=Lax") -> None:
        super().__init__(self._page)
        # Any port of localhost will do for FakeEntra.
        app = house.entra.add_application(redirect_uris=["http://localhost/signed-in"])
        self.tokens: TokenManager = house.service(app=app)
        self._response_mode = response_mode
        self._cookie = cookie
        self.sessions: dict[str, dict[str, str]] = {}

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    async def _page(self, visit: Visit) -> Page:
        name = visit.cookies.get("shop", "")
        session = self.sessions.get(name)
        if visit.path == "/sign-in":
            if session is None:
                name, session = secrets.token_urlsafe(), {}
                self.sessions[name] = session
            return await self._sent_off(name, session)
        if session is None:
            return Page("<title>A stranger</title>", 401)
        if visit.path == "/signed-in":
            return await self._signed_in(session, visit.params)
        token = await self.tokens.get("Orders.Read", account=session["account"])
        return Page(f"<title>Orders</title><p id=user>{_username(token)}</p>")

    async def _sent_off(self, name: str, session: dict[str, str]) -> Page:
        flow = await self.tokens.begin_sign_in(
            "User.Read", redirect_uri=f"{self.url}/signed-in", response_mode=self._response_mode
        )
        session["flow"] = json.dumps(flow)
        cookie = f"shop={name}; Path=/; HttpOnly; {self._cookie}"
        return Page(status=303, headers={"Location": flow.auth_uri, "Set-Cookie": cookie})

    async def _signed_in(self, session: dict[str, str], params: Mapping[str, str]) -> Page:
        try:
            token = await self.tokens.complete_sign_in(json.loads(session["flow"]), params)
        except SignInError as error:
            return Page(f"<title>Refused</title><p id=why>{error.code}</p>", 400)
        assert token.account is not None
        session["account"] = token.account.home_account_id
        return Page(f"<title>Welcome</title><p id=user>{_username(token)}</p>")


def _username(token: Token) -> str:
    assert token.account is not None
    return token.account.username


async def test_a_user_signs_in_and_the_answer_works_once(house: House, chromium: Chromium) -> None:
    async with Shop(house) as shop:
        await chromium.visit(f"{shop.url}/sign-in")
        await chromium.signs_in(ANN, PASSWORD)
        await chromium.sees("Welcome")
        assert await chromium.text("user") == ANN
        [session] = shop.sessions.values()
        one_token(await crowd(50, shop.tokens.get, "User.Read", account=session["account"]))
        assert (house.entra.count(OPENED), house.entra.count(REDEEMED), house.entra.count("token")) == (1, 1, 1)
        await chromium.reload()
        await chromium.sees("Refused")
        assert await chromium.text("why") == "flow_completed"
        assert (house.entra.count(REDEEMED), house.entra.count("token")) == (1, 1)
        await chromium.visit(shop.url)  # whoever is signed in stays so
        await chromium.sees("Orders")
        assert await chromium.text("user") == ANN


async def test_whoever_cancels_is_refused_by_name(house: House, chromium: Chromium) -> None:
    async with Shop(house) as shop:
        await chromium.visit(f"{shop.url}/sign-in")
        await chromium.sees("Sign in")
        await chromium.clicks("cancel")
        await chromium.sees("Refused")
        assert await chromium.text("why") == "access_denied"
        assert house.entra.count(REDEEMED) == 0


async def test_of_two_sign_ins_begun_in_two_windows_the_later_one_counts(house: House, chromium: Chromium) -> None:
    async with Shop(house) as shop:
        await chromium.visit(f"{shop.url}/sign-in")
        earlier = await chromium.window()
        await chromium.visit(f"{shop.url}/sign-in")
        later = await chromium.window()
        await chromium.turn_to(earlier)
        await chromium.signs_in(BEN, PASSWORD)
        await chromium.sees("Refused")
        assert await chromium.text("why") == "state_mismatch"
        await chromium.turn_to(later)
        await chromium.signs_in(ANN, PASSWORD)
        await chromium.sees("Welcome")
        assert await chromium.text("user") == ANN
        assert house.entra.count(REDEEMED) == 1


async def test_an_answer_by_post_needs_a_cookie_that_goes_along_from_other_sites(
    house: House, chromium: Chromium
) -> None:
    async with Shop(house, response_mode="form_post", cookie="SameSite=None; Secure") as shop:
        await chromium.visit(f"{shop.url}/sign-in")
        await chromium.signs_in(ANN, PASSWORD)
        await chromium.sees("Welcome")
        assert await chromium.text("user") == ANN
    async with Shop(house, response_mode="form_post", cookie="SameSite=Lax") as shop:
        await chromium.visit(f"{shop.url}/sign-in")
        await chromium.sees("A stranger")
    assert house.entra.count(REDEEMED) == 1
