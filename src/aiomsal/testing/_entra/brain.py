"""FakeEntra: the identity server itself, without a socket."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from .administration import Administration
from .arrival import Arrival
from .faults import Faults, Rule, new_rule
from .gate import Gate
from .http import HttpRequest, HttpResponse
from .log import Log, RequestRecord
from .person import Person
from .routes import known_kind, route
from .state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from .directory import User
    from .errors import EntraError
    from .server import EntraServer
    from .session import EntraHttpClient
    from .steps import AuthorizationAnswer


class FakeEntra(Administration):
    """An identity server that speaks what MSAL speaks, for tests.

    It is one brain with several faces: `http_client()` is asked within the process, `serve()` over HTTPS on loopback,
    and `FakeEntraProcess` is the same in a process of its own. A new one has one tenant, and neither users nor
    applications: add those the test is about. Every method may be called from any thread. Nothing here needs the
    internet. `clock` gives epoch seconds; `own_key` makes a signing key instead of sharing the process's, for tests
    that tell two authorities apart.

    Kinds of requests are dotted, and a kind stands for all below it: "" is every request; "discovery",
    "instance_discovery", "user_realm", "jwks"; "authorize" is a window that opens, "devicecode" a code asked for,
    "deviceauth" the page to enter it, and "sign_in" every button on the pages after these; "token" with
    "token.client_credentials", "token.authorization_code", "token.device_code", "token.refresh_token",
    "token.password" and "token.other"; "unknown" is what FakeEntra does not answer.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, own_key: bool = False) -> None:
        """Make a server with one tenant. No I/O, no thread; with `own_key`, a key is made, which takes 100 ms."""
        self.clock = clock
        self._state = State(clock, own_key=own_key)
        self._faults = Faults()
        self._log = Log()

    # Who signs in

    def authorize(self, auth_uri: str, user: User | str | None = None, *, decline: bool = False) -> AuthorizationAnswer:
        """Be the user in the window that an application opened at `auth_uri`: sign in and consent, or decline.

        Return what the browser would bring to the redirect_uri, without bringing it; what the authority has against
        the request is such an answer too. It is a browser in which nobody is signed in. Raise ValueError if the page
        would not let the user go on, because the redirect_uri is not registered or the account is disabled. Blocks
        the calling thread for latency and gates; faults of the kind "authorize" that answer with an `error` and no
        status send that to the application.
        """
        if user is None and not decline:
            message = "say which user signs in, or decline=True"
            raise ValueError(message)
        person = Person(None if decline or user is None else self._state.directory.user(user))
        request = HttpRequest.to("GET", auth_uri, {}, b"")
        if route(request, request.form()).kind != "authorize":
            message = f"nobody signs in at {request.base}{request.path}: an authorization request is what is needed"
            raise ValueError(message)
        self._pass(Arrival(request, self._state, self._faults, self._log, person.visit), None)
        return person.answer()

    # What goes wrong

    def fault(
        self,
        kind: str,
        *,
        times: int | None = None,
        match: Callable[[RequestRecord], bool] | None = None,
        latency: float = 0.0,
        hang: bool = False,
        reset: bool = False,
        garbage: bool = False,
        status: int = 0,
        retry_after: float | str | None = None,
        error: EntraError | None = None,
        lost: bool = False,
        answer_for: User | str | None = None,
        skew: float = 0.0,
    ) -> None:
        """Let requests of a kind go wrong: the next `times`, or all until `clear_faults`; only those that `match`.

        `latency`: the answer takes so many seconds. `hang`: no answer until `clear_faults` or the client leaves; then
        the answer is a proper one. `reset`: the connection is reset, nothing having been done. `garbage`: 200 with
        HTML. `status`: that, with `retry_after` as the header (seconds, or any text). `error`: an AADSTS error.
        `lost`: the request is carried out, a code redeemed or a refresh token rotated, and then the connection reset.
        `answer_for`: the tokens are those of that user, whoever asked. `skew`: this server's clock is that many
        seconds ahead. Latency, `answer_for` and skew go with any of the others, of which a request can suffer one: the
        fault made first decides, and the others wait for the next request.
        """
        rule = new_rule(
            known_kind(kind),
            times=times,
            match=match,
            latency=latency,
            hang=hang,
            reset=reset,
            garbage=garbage,
            status=status,
            retry_after=retry_after,
            error=error,
            skew=skew,
            lost=lost,
            answer_for=None if answer_for is None else self._state.directory.user(answer_for),
        )
        self._faults.add(rule)

    def clear_faults(self, kind: str = "") -> None:
        """End the faults and gates of a kind, and let go whatever hangs because of them; all, by default."""
        self._faults.clear(known_kind(kind))

    def hold(self, kind: str, *, match: Callable[[RequestRecord], bool] | None = None) -> Gate:
        """Let requests of a kind arrive and wait, as long as the returned gate, a context manager, is closed."""
        gate = Gate(known_kind(kind), self._faults)
        self._faults.add(Rule(kind, match=match, gate=gate))
        return gate

    # What was asked

    def count(self, kind: str = "") -> int:
        """Return how many requests of a kind have arrived, whether answered yet or not."""
        return self._log.count(known_kind(kind))

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """Return the last 20,000 requests in order of arrival, as far as each has got."""
        return self._log.records()

    def forget_requests(self) -> None:
        """Start counting anew."""
        self._log.clear()

    # Its faces

    def arrive(self, request: HttpRequest) -> Arrival:
        """Let a request arrive: for a face that does not block. It waits as the arrival says, then asks the answer."""
        return Arrival(request, self._state, self._faults, self._log)

    def handle(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        timeout: float | None = None,
    ) -> HttpResponse:
        """Answer one request to an https URL of whatever host, blocking the calling thread for latency and gates.

        Raise TimeoutError after `timeout` seconds, and ConnectionResetError where the connection is to be reset.
        """
        return self._pass(self.arrive(HttpRequest.to(method, url, headers or {}, body)), timeout)

    def _pass(self, arrival: Arrival, timeout: float | None) -> HttpResponse:
        deadline = None if timeout is None else time.monotonic() + timeout
        if not arrival.waiter.ready:
            ready = threading.Event()
            arrival.waiter.when_ready(ready.set)
            if not ready.wait(timeout):
                arrival.waiter.leave()
                raise TimeoutError
        latency = arrival.latency
        if latency:
            left = latency if deadline is None else max(0.0, deadline - time.monotonic())
            time.sleep(min(latency, left))
            if left < latency:
                raise TimeoutError
        return arrival.answer()

    def http_client(self, *, timeout: float | None = None) -> EntraHttpClient:
        """Return what MSAL takes as `http_client=`; it asks this object directly, whatever the host of the URL.

        `timeout` is in seconds and for calls that bring none of their own; None waits for ever. Waiting blocks the
        calling thread, as a socket would.
        """
        from .session import EntraHttpClient

        return EntraHttpClient(self, timeout)

    def serve(self, *, port: int = 0) -> EntraServer:
        """Return an HTTPS server on loopback, a context manager, with a thread and an event loop of its own."""
        from .server import EntraServer

        return EntraServer(self, port)

    def close(self) -> None:
        """Let go every request that waits, and end all faults. The object remains usable."""
        self.clear_faults()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
