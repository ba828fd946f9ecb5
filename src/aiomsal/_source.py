"""A source of tokens: one request, checked once, with the place where its token is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._hot import Held
from ._token import Token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._hot import HotTokens
    from ._token import TokenRequest


class Source:
    """A `TokenSource`: the fastest way to a token. Any number of tasks, event loops and threads may share it."""

    __slots__ = ("_clock", "_fetch", "_held", "_hot", "_request")

    def __init__(
        self,
        request: TokenRequest,
        hot: HotTokens,
        clock: Callable[[], float],
        fetch: Callable[[TokenRequest], Awaitable[tuple[Token, Held | None]]],
    ) -> None:
        self._request = request
        self._hot = hot
        self._clock = clock
        self._fetch = fetch
        self._held = Held(request, Token("", 0.0, 0.0))

    def __repr__(self) -> str:
        return f"<TokenSource of {', '.join(self._request.scopes)}>"

    async def get(self) -> Token:
        """As `TokenManager.get` with the scopes and keywords this source was made for."""
        held = self._held
        if self._hot.since <= self._clock() < held.fresh_until:
            held.used = True
            return held.token
        token, held_now = await self._fetch(self._request)
        self._held = held_now or held
        return token
