"""One day in the life of a program, everything going right and wrong and every logger awake: no secret shows."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import re
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from aiomsal import (
    Assertion,
    Certificate,
    DeviceCode,
    FlightAborted,
    InteractionRequired,
    Token,
    TokenError,
    TokenManager,
)
from aiomsal.testing import EntraError, FederatedCredential

from .support import ANN, GRAPH, VAULT, Person, crowd, landed, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiomsal.stores import Expected
    from aiomsal.testing import ClientCertificate, FakeEntra

    from .support import House

LOGGERS = ["", "msal", "urllib3", "requests", "asyncio", "aiomsal", "concurrent", "anyio"]
PIECE = 24
"""Characters of a secret by which it is recognised, wherever it was cut."""


class Ears(logging.Handler):
    """Whatever is logged, formatted as a handler would, with the arguments and the traceback of the record."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []
        self.names: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.names.add(record.name.partition(".")[0])
        self.heard.append(self.format(record))
        self.heard.append(f"{record.msg!r} {record.args!r} {record.exc_text} {record.stack_info}")


@pytest.fixture
def ears() -> Iterator[Ears]:
    ears = Ears()
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(ears)
    yield ears
    logging.getLogger().removeHandler(ears)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


class RecordingStore:
    """A store that remembers everything it was ever given, and fails when it is told to."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.written: list[tuple[str, bytes]] = []
        self.broken = False

    def _check(self, key: str, value: bytes | None = None) -> None:
        if self.broken:
            raise OSError("the disk is full")

    async def get(self, key: str) -> bytes | None:
        self._check(key)
        return self.values.get(key)

    async def set(
        self, key: str, value: bytes, *, expires_at: float | None = None, expected: Expected | Any = ...
    ) -> bool:
        self._check(key, value)
        if (expected is None or isinstance(expected, bytes)) and self.values.get(key) != expected:
            return False
        self.values[key] = value
        self.written.append((key, value))
        return True

    async def delete(self, key: str, *, expected: Expected | Any = ...) -> bool:
        self._check(key)
        if isinstance(expected, bytes) and self.values.get(key, expected) != expected:
            return False
        self.values.pop(key, None)
        return True

    @contextlib.asynccontextmanager
    async def lock(self, key: str, *, wait: bool = True) -> Any:
        yield True

    @property
    def sessions(self) -> list[bytes]:
        return [value for key, value in self.written if "/session/" in key]


class Diary:
    """What was seen of the program from outside, and what must not be in it."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.seen: list[tuple[str, str]] = []

    def hide(self, name: str, secret: str) -> None:
        if secret:
            self.secrets[f"{name} {len(self.secrets)}"] = secret

    def see(self, where: str, *things: object) -> None:
        for thing in things:
            self.seen += [(where, repr(thing)), (where, str(thing)), (where, f"{thing}")]

    def see_token(self, token: Token) -> None:
        self.see("token", token, token.account, token.scopes, token.correlation_id)
        self.hide("access token", token.value)
        self.hide("ID token", token.id_token)

    def see_error(self, error: BaseException) -> None:
        """An error as people meet it: printed, formatted in every way that traceback has, with all that led to it."""
        todo, done = [error], set[int]()
        while todo:
            one = todo.pop()
            if id(one) in done:
                continue
            done.add(id(one))
            todo += [other for other in (one.__cause__, one.__context__) if other is not None]
            if isinstance(one, BaseExceptionGroup):
                todo += one.exceptions
            self.see("error", one, one.args, getattr(one, "__notes__", None), vars(one))
            formatted = traceback.TracebackException.from_exception(one, capture_locals=False)
            self.seen.append(("traceback", "".join(formatted.format())))
            self.seen.append(("traceback", "".join(traceback.format_exception(one))))
            buffer = io.StringIO()
            traceback.print_exception(one, file=buffer)
            self.seen.append(("traceback", buffer.getvalue()))

    def pieces(self) -> Iterator[tuple[str, str]]:
        """Each secret, and the parts of it that no other text has by chance."""
        for name, secret in self.secrets.items():
            yield name, secret
            if len(secret) > 2 * PIECE:  # a JWT's header is the same in all of them, and says nothing
                body = secret.split(".", 1)[-1] if secret.startswith("eyJ") else secret
                yield name, body[:PIECE] if not secret.startswith("eyJ") else body[40 : 40 + PIECE]
                yield name, secret[-PIECE:]

    def check(self) -> None:
        pieces = list(self.pieces())
        for where, text in self.seen:
            for name, piece in pieces:
                assert piece not in text, f"{name} shows in a {where}: ...{text[:400]}"


def hide_what_the_authority_knows(diary: Diary, entra: FakeEntra) -> None:
    state = entra._state
    for text in state.refresh_tokens._tokens:
        diary.hide("refresh token", text)
    for code in state.device_codes._codes.values():
        diary.hide("device code", code.device_code)
        diary.hide("user code", code.user_code)
    for application in state.directory._applications.values():
        diary.hide("client secret", application.client_secret)


FAULTS: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 400},
    {"status": 503, "retry_after": 4000},
    {"status": 429, "retry_after": 4000},
    {"reset": True},
    {"garbage": True},
    {"hang": True},
    {"error": EntraError(7000215)},
    {"error": EntraError(50076, claims='{"access_token":{}}')},
    {"error": EntraError(70000)},
    {"error": EntraError(65001, status=401)},
]

# -- what happens in the day -----------------------------------------------------------------------------------------


async def attempt(diary: Diary, tokens: TokenManager, *scopes: str, silent: bool = False, **options: Any) -> None:
    """A few calls at once, and everything that can be seen of what came of them."""
    outcomes = await crowd(3, tokens.get_silent if silent else tokens.get, *scopes, **options)
    for outcome in outcomes:
        if isinstance(outcome, Token):
            diary.see_token(outcome)
        else:
            diary.see_error(outcome)
    diary.see("manager", tokens, tokens.stats(), tokens._client, tokens._client._desk, tokens.source(*scopes))  # type: ignore[attr-defined]


def services(house: House, certificate: ClientCertificate, diary: Diary) -> Iterator[Any]:
    """Makers of managers: each is made anew for each fault, for the last one's gate may be shut."""
    entra = house.entra
    pem = certificate.private_key + certificate.certificate
    trust = FederatedCredential("https://ci.example", "repo:ours", public_key=certificate.public_key)
    claims = {"iss": trust.issuer, "sub": trust.subject, "aud": trust.audience, "exp": time.time() + 600}
    signed = jwt.encode(claims, certificate.private_key, algorithm="RS256")
    diary.hide("assertion", signed)
    for line in certificate.private_key.splitlines()[1:-1]:
        diary.hide("key", line)

    async def sign() -> str:
        return signed

    def by_key() -> TokenManager:
        app = entra.add_application(certificates=[certificate.certificate])
        return house.service(Certificate(pem, send_chain=True), app=app, timeout=(5.0, 0.1))

    def by(assertion: Any) -> TokenManager:
        app = entra.add_application(federated=[trust])
        return house.service(Assertion(assertion), app=app, timeout=(5.0, 0.1))

    yield lambda: house.service(timeout=(5.0, 0.1))
    yield by_key
    yield lambda: by(signed)
    yield lambda: by(lambda: signed)
    yield lambda: by(sign)


async def a_day_of_services(house: House, certificate: ClientCertificate, diary: Diary) -> None:
    for make in services(house, certificate, diary):
        for fault in [None, *FAULTS]:
            tokens = make()
            if fault is not None:
                house.entra.fault("token", **fault)
            await attempt(diary, tokens, GRAPH)
            house.entra.clear_faults()
        tokens = make()
        await attempt(diary, tokens, GRAPH, VAULT)
        await attempt(diary, tokens, GRAPH, claims='{"access_token":{}}')
        house.clock.advance(3400)
        house.entra.fault("token", status=500)
        await attempt(diary, tokens, GRAPH)  # stale: the refresh fails behind it, and that is logged
        await landed(tokens)
        house.entra.clear_faults()
        credential = tokens._client._desk._credential  # type: ignore[attr-defined]
        diary.see("credential", credential)
        for assertion, _ in getattr(credential, "_signed", {}).values():
            diary.hide("client assertion", assertion)
        await tokens.aclose()
        await attempt(diary, tokens, GRAPH)


async def a_day_of_people(house: House, diary: Diary, store: RecordingStore) -> None:
    entra = house.entra
    entra.configure(rotation="strict", device_code_interval=0)
    person = Person(lambda prompt: entra.approve_device_code(prompt.user_code, ANN))
    app = entra.add_application(public=True)

    def make(who: Person = person, **options: Any) -> TokenManager:
        return house.program(who, app=app, store=store, **options)

    tokens = make()
    await attempt(diary, tokens, "User.Read")
    diary.see("account", await tokens.accounts())
    diary.see("store", *(key for key, _ in store.written))
    for fault in FAULTS:
        entra.fault("token.refresh_token", **{**fault, **({"times": 1} if "hang" not in fault else {})})
        if "hang" in fault:
            entra.clear_faults()
            entra.fault("token.refresh_token", reset=True)
        await attempt(diary, make(), f"Scope.{len(diary.seen)}", silent=True)
        entra.clear_faults()
    await attempt(diary, tokens, "Mail.Read")
    token = await tokens.get("Mail.Read")
    await attempt(diary, tokens, "Mail.Read", rejected=token, account=token.account)
    house.clock.advance(3400)
    entra.fault("token", status=500)
    await attempt(diary, tokens, "Mail.Read")
    await landed(tokens)
    entra.clear_faults()
    # the store fails, gently and not
    store.broken = True
    await attempt(diary, make(), "Files.Read", silent=True)
    await attempt(diary, make(on_store_error="raise"), "Files.Read", silent=True)
    store.broken = False
    # a refresh token that comes again: the authority revokes them all
    stolen = store.sessions[0]
    await attempt(diary, tokens, "Notes.Read", silent=True)
    key = next(key for key, _ in store.written if "/session/" in key)
    store.values[key] = stolen
    await attempt(diary, make(), "Tasks.Read", silent=True)
    await attempt(diary, make(), "Tasks.Read")
    # codes that are declined, that fail, and that nobody can show
    deny = Person(lambda prompt: entra.deny_device_code(prompt.user_code))

    def fail(prompt: object) -> None:
        raise ValueError(f"cannot show {prompt!r}")

    for who in (deny, Person(fail)):
        tokens = make(who)
        with pytest.raises(TokenError) as caught:
            await tokens.sign_in("User.Read")
        diary.see_error(caught.value)
        for prompt in who.prompts:
            diary.see("prompt", repr(prompt), DeviceCode(who.told))  # its str is what is to be shown
    for fault in ({"status": 400}, {"garbage": True}, {"error": EntraError(70000)}, {"error": EntraError(50076)}):
        entra.fault("token.device_code", times=1, **fault)
        with contextlib.suppress(TokenError):
            await make().sign_in("User.Read")
    # everybody leaves a sign-in, and one is closed
    waiting = Person(patient=True)
    tokens = make(waiting)
    call = asyncio.ensure_future(tokens.sign_in("User.Read"))
    await until(lambda: waiting.waits == 1)
    diary.see("task", call, *asyncio.all_tasks())
    await tokens.aclose()
    with pytest.raises(FlightAborted) as aborted:
        await call
    diary.see_error(aborted.value)
    # signed out
    tokens = make()
    token = await tokens.get("User.Read")
    diary.see_token(token)
    assert token.account is not None
    await tokens.sign_out(token.account)
    with pytest.raises(InteractionRequired) as gone:
        await tokens.get_silent("User.Read", account=token.account)
    diary.see_error(gone.value)


def test_in_a_whole_day_no_secret_shows_anywhere(house: House, certificate: ClientCertificate, ears: Ears) -> None:
    diary = Diary()
    store = RecordingStore()
    printed = io.StringIO()

    async def day() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.0  # asyncio logs every step it takes, with the repr of whatever it does
        loop.set_exception_handler(lambda _, context: diary.see("loop", context))
        await a_day_of_services(house, certificate, diary)
        await a_day_of_people(house, diary, store)

    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        asyncio.run(day(), debug=True)
    hide_what_the_authority_knows(diary, house.entra)
    diary.see("warning", *(str(warning.message) for warning in warned), *warned)
    diary.see("output", printed.getvalue())
    for key, _ in store.written:
        diary.see("store's key", key)
    diary.seen += [("log", text) for text in ears.heard]
    # The test listens, and knows what to listen for.
    assert {"msal", "urllib3", "asyncio", "aiomsal"} <= ears.names
    kinds = {name.rpartition(" ")[0] for name in diary.secrets}
    assert kinds == {
        "access token", "ID token", "refresh token", "device code", "user code", "client secret", "assertion", "key",
        "client assertion",
    }  # fmt: skip
    errors = {re.split(r"[(:]", text)[0] for where, text in diary.seen if where == "error"}
    assert {
        "AuthorityUnavailable", "Throttled", "InvalidClient", "AuthorityError", "InteractionRequired",
        "AccountRequired", "SignInError", "StoreError", "FlightAborted",
    } <= errors  # fmt: skip
    diary.check()
    access_tokens = [secret.encode() for name, secret in diary.secrets.items() if name.startswith("access token")]
    assert len(store.sessions) > 5
    for session in store.sessions:
        assert b"AccessToken" not in session
        assert not any(token in session or token[-PIECE:] in session for token in access_tokens)


# -- what others raise -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["callable", "async callable", "token source"])
async def test_what_a_callable_raises_shows_no_assertion(
    kind: str, house: House, certificate: ClientCertificate, ears: Ears
) -> None:
    """A key vault's client that puts the whole assertion into the message of its error."""
    diary = Diary()
    signed = jwt.encode({"iss": "me", "n": 1}, certificate.private_key, algorithm="RS256")
    diary.hide("assertion", signed)
    app = house.entra.add_application(federated=[FederatedCredential("https://ci.example", "us")])

    def sign() -> str:
        raise RuntimeError(f"the vault did not like {signed}")

    async def sign_later() -> str:
        return sign()

    class Source:
        async def get(self) -> Token:
            raise TokenError(f"the other authority did not like {signed}")

    source: Any = {"callable": sign, "async callable": sign_later, "token source": Source()}[kind]
    tokens = house.service(Assertion(source), app=app)
    outcomes = await crowd(3, tokens.get, GRAPH)
    for outcome in outcomes:
        assert isinstance(outcome, TokenError)
        diary.see("error", outcome, vars(outcome), outcome.args)
    diary.seen += [("log", text) for text in ears.heard]
    diary.check()


@pytest.mark.parametrize("kind", ["callable", "async callable"])
async def test_nor_does_the_traceback_of_that_error(
    kind: str, house: House, certificate: ClientCertificate, ears: Ears
) -> None:
    diary = Diary()
    signed = jwt.encode({"iss": "me", "n": 1}, certificate.private_key, algorithm="RS256")
    diary.hide("assertion", signed)
    app = house.entra.add_application(federated=[FederatedCredential("https://ci.example", "us")])

    def sign() -> str:
        raise RuntimeError(f"the vault did not like {signed}")

    async def sign_later() -> str:
        return sign()

    tokens = house.service(Assertion(sign if kind == "callable" else sign_later), app=app)
    with pytest.raises(TokenError) as caught:
        await tokens.get(GRAPH)
    diary.see_error(caught.value)
    diary.check()


async def test_the_variables_in_a_traceback_hold_no_secret_of_ours(
    house: House, certificate: ClientCertificate
) -> None:
    """What an error reporter shows that prints the variables of each frame, for the frames that are not the user's."""
    diary = Diary()
    for fault in FAULTS:
        if "hang" in fault:
            continue
        app = house.entra.add_application()
        tokens = house.service(app=app)
        diary.hide("client secret", app.client_secret)
        house.entra.fault("token", **fault)
        with pytest.raises(TokenError) as caught:
            await tokens.get(GRAPH)
        formatted = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        diary.seen.append(("variable", "".join(formatted.format())))
        house.entra.clear_faults()
    # this test's own variables are not the library's
    ours = [(where, re.sub(r"(?m)^    (?:app|diary|house) = .*$", "", text)) for where, text in diary.seen]
    diary.seen = ours
    diary.check()
