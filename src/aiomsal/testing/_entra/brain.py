"""FakeEntra: the identity server itself, without a socket."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Self, Unpack

from .arrival import Arrival
from .devicecode import approve
from .directory import Application, Tenant, User
from .errors import EntraError, RefusedError
from .faults import Faults, Rule, new_rule
from .gate import Gate
from .http import HttpRequest, HttpResponse, parse_object
from .keys import RegisteredCertificate
from .log import Log, RequestRecord
from .person import Person
from .routes import known_kind, route
from .state import Settings, SettingsChanges, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from .directory import FederatedCredential
    from .server import EntraServer
    from .session import EntraHttpClient
    from .steps import AuthorizationAnswer


class FakeEntra:
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

    # Who exists

    @property
    def tenant_id(self) -> str:
        """Return the GUID of the home tenant, to which everybody belongs who is added without a tenant."""
        return self._state.directory.home.tenant_id

    def authority(self, tenant: str = "") -> str:
        """Return the URL of a tenant, the home tenant by default, for `http_client()` at Microsoft's public address."""
        return f"https://login.microsoftonline.com/{tenant or self.tenant_id}"

    def add_tenant(self, domain: str = "", *, tenant_id: str = "") -> Tenant:
        """Add a tenant under its GUID and its domain; either is made up if it is not given."""
        tenant_id = tenant_id or str(uuid.uuid4())
        tenant = Tenant(tenant_id, domain or f"{tenant_id}.example")
        self._state.directory.add_tenant(tenant)
        return tenant

    def add_user(self, username: str, *, tenant: str = "", name: str = "", password: str = "") -> User:
        """Add a user, at home in `tenant` (a GUID or domain). Another of the same name is replaced.

        One without a password signs in at the page by name alone, and cannot by the grant of that name.
        """
        name = name or username.partition("@")[0]
        user = User(username, str(uuid.uuid4()), self._tenant_id(tenant), name, password)
        self._state.directory.add_user(user)
        return user

    def disable_user(self, user: User | str) -> None:
        """Disable the account of a user: no sign-in, and no refresh (AADSTS50057)."""
        self._state.directory.disable(self._state.directory.user(user))

    def add_application(
        self,
        client_id: str = "",
        *,
        tenant: str = "",
        public: bool = False,
        certificates: Iterable[str] = (),
        federated: Iterable[FederatedCredential] = (),
        roles: Iterable[str] = (),
        multi_tenant: bool = True,
        redirect_uris: Iterable[str] | None = None,
    ) -> Application:
        """Register an application at home in `tenant`; another of the same `client_id` is replaced.

        A public client proves nothing. A confidential one proves itself with the `client_secret` made here, or, if
        `certificates` (PEM) or `federated` credentials are given, with those and no secret. `roles` are those in its
        own tokens. Only a `multi_tenant` one gets tokens of tenants it is not at home in. People are sent back to
        `redirect_uris` only, where the port of http://localhost and http://127.0.0.1 does not count; by default that
        is http://localhost for a public client, and nowhere for a confidential one.
        """
        known = tuple(RegisteredCertificate.load(pem) for pem in certificates)
        trusts = tuple(federated)
        if public and (known or trusts):
            message = "a public client has no credentials: leave out public=True, or the certificates and federated"
            raise ValueError(message)
        application = Application(
            client_id or str(uuid.uuid4()),
            self._tenant_id(tenant),
            "" if public or known or trusts else secrets.token_urlsafe(30),
            known,
            trusts,
            tuple(roles),
            multi_tenant,
            tuple(("http://localhost",) * public if redirect_uris is None else redirect_uris),
        )
        self._state.directory.add_application(application)
        return application

    # How it issues, and to whom it does not

    @property
    def settings(self) -> Settings:
        """Return how tokens and codes are issued at present."""
        return self._state.settings

    def configure(self, **changes: Unpack[SettingsChanges]) -> None:
        """Change some of the settings for whatever is issued from now on."""
        if changes.get("auto_approve"):
            self._state.directory.user(str(changes.get("auto_approve")))
        self._state.settings = replace(self._state.settings, **changes)

    def approve_device_code(self, user_code: str, user: User | str) -> None:
        """Be the user who enters `user_code` and signs in; raise ValueError if no such code waits."""
        who = self._state.directory.user(user)
        approve(self._state, self._state.device_codes.find(user_code), who)

    def deny_device_code(self, user_code: str) -> None:
        """Be the user who enters `user_code` and declines; raise ValueError if no such code waits."""
        self._state.device_codes.decide(self._state.device_codes.find(user_code), None)

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

    def require_interaction(
        self,
        user: User | str | None = None,
        *,
        scope: str = "",
        claims: str = "",
        error: EntraError | None = None,
    ) -> None:
        """Refuse to issue silently for a user (all, if None) and a scope (any, if empty) until the next sign-in.

        The refusal is `error`, AADSTS50076 (multifactor authentication) by default. Whoever signs in afterwards has
        satisfied it, except that
        - AADSTS65001 asks for consent: the pages ask for it too, and only who gives it has satisfied it;
        - an error with `claims`, a claims challenge, is satisfied by a sign-in that brought these claims only.

        With `claims`, a JSON object, it concerns requests that carry these claims only, for an authentication context
        say, and is satisfied by a sign-in that brought them. Claims are compared as JSON: more of them do no harm.
        """
        who = None if user is None else self._state.directory.user(user)
        concerned = parse_object(claims) if claims else {}
        error = error or EntraError(50076, "interaction_required" if claims else "")
        brought = parse_object(error.claims) if error.claims else concerned
        self._state.interactions.require(self._state.next_in_order(), who, scope, concerned, error, brought)

    def revoke_refresh_tokens(self, user: User | str) -> int:
        """End every refresh token of a user (AADSTS50173 from now on) and return how many that were."""
        return self._state.refresh_tokens.revoke(self._state.directory.user(user))

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

    def _tenant_id(self, name: str) -> str:
        directory = self._state.directory
        if not name:
            return directory.home.tenant_id
        try:
            tenant = directory.tenant(name)
        except RefusedError:
            tenant = None
        if tenant is None:
            message = f"no tenant {name!r}: add one with add_tenant({name!r})"
            raise ValueError(message)
        return tenant.tenant_id
