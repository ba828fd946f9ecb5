"""The seam between the manager, which owns tokens, and a client, which gets them: protocols, and what passes between.

The manager knows a client by these protocols only. `ConfidentialClient` and `PublicClient` fulfil them with MSAL,
`aiomsal.testing.ScriptedClient` by hand; yours may too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._asked import ResponseMode, SignInFlow, SignInRequest, TenantProfile
    from ._errors import TokenError
    from ._token import Account, Token, TokenRequest


class Acquired(NamedTuple):
    """What an acquisition brought: the token, and the session as it is to be saved."""

    token: Token
    session: bytes | None = None
    """The session after the acquisition, refresh tokens and all but no access token; None where there is none."""

    def __repr__(self) -> str:
        return f"Acquired({self.token!r})"


class Attempt(NamedTuple):
    """Where a flight stands with one request, for the client to decide whether and when to ask."""

    number: int
    """0 for the first attempt."""
    failure: TokenError | None
    """Why the attempt before this one failed; None at the first."""
    deadline: float
    """When the flight's passengers are let go, by `anyio.current_time()`."""


class TokenClient(Protocol):
    """Who we are towards the authority. One manager uses one client, from any number of event loops and threads.

    The manager guarantees, for one flight: `prepare` before each `acquire`, and no lock held in `prepare`; at most
    one `acquire` at a time for equal requests in this process, save one that was given up after `acquire_timeout`
    and has yet to end; and for equal session keys one at a time wherever the store's locks reach. The client
    guarantees what each method says. The methods may be called on several loops at once.
    """

    def request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> TokenRequest:
        """The canonical request for a call's scopes and keywords, or the error that tells what is wrong with them.

        Pure: no I/O, no waiting, the same result for the same arguments. Scopes are sorted, each once, none empty.
        Options are those the caller passed, none of them None or empty; `rejected` is never among them. `grant` is a
        word of yours; "user" says that it is for a user, and without an `account` for whoever has signed in.

        Everything that may change the result must be in the request, for equal requests share one token. It must hold
        no secret.

        Raises:
            TypeError: an option that is unknown, of the wrong type, or not for this kind of client.
            ValueError: scopes or options that cannot be right, before anything is sent.
        """
        ...

    def session_key(self, request: TokenRequest, /) -> str | None:
        """The name of the session (refresh tokens and accounts) that serves this request, None where there is none.

        Pure. Requests with one session key are acquired one after another, for each may change the session. It must
        stay the same over restarts, and when a secret is rotated, and hold no secret.
        """
        ...

    async def prepare(self, request: TokenRequest, attempt: Attempt, /) -> None:
        """Do, outside of any lock, whatever must be waited for before the authority can be asked; or raise.

        Here belong the wait for a Retry-After, the back-off before attempt 1, 2, ..., a breaker's refusal, the
        building of what is built once, and a credential that must itself be awaited. After an `AuthorityError` of
        `acquire` it is called again, to say whether another attempt is worth it: raise `attempt.failure` to give up.
        A client that never tries twice writes

            if attempt.failure is not None:
                raise attempt.failure

        and one that does waits in between, for nobody else does: to return at once means to ask again now. It may be
        cancelled at any await.
        """
        ...

    async def acquire(self, request: TokenRequest, session: bytes | None, /) -> Acquired:
        """Ask the authority for a token, once, by means of the session if there is one; never ask a person.

        The token's dates are epoch seconds by the clock the manager was given: `expires_at`; `obtained_at`, best taken
        before the request left; `refresh_at` if the authority gave advice, else the same as `expires_at`.

        With a session, once a request may have left, cancellation must wait until its answer is here, and the answer
        be returned: a rotated refresh token would be lost with it. Our clients do so by asking in a worker thread. It
        has to end by a timeout of its own.

        Raises:
            InteractionRequired: a person is needed.
            TokenError: anything else that went wrong; foreign exceptions are translated, with `from`.
        """
        ...


@runtime_checkable
class PeopleClient(TokenClient, Protocol):
    """A client that knows people: it can tell who is in a session, and what a person is asked.

    How they sign in is another protocol's affair: `SignInClient`, `WebSignInClient` or both.

    For a request with a session key but no session, nobody has signed in: the manager calls `acquire` without
    `prepare`, to raise `AccountRequired` at once.

    Sessions are the client's own format; the manager only loads, saves and compares them.
    """

    def session_of(self, account: str | None, /) -> str | None:
        """The session key of a home account id; for None that of the session all share, None if each has its own.

        Pure. `session_key` gives the same for a user's request.
        """
        ...

    def sign_in_request(self, scopes: tuple[str, ...], options: Mapping[str, Any], /) -> SignInRequest:
        """What `sign_in` and `begin_sign_in` ask for, or the error that tells what is wrong with their keywords.

        Pure, as `request` is, and under the same rules. Its `request` has the grant that users' requests have, so that
        with the account filled in it equals that of a later call for the user.
        """
        ...

    def accounts(self, session: bytes, /) -> tuple[Account, ...]:
        """Who is in this session. Pure."""
        ...

    def profiles(self, session: bytes, account: str, /) -> tuple[TenantProfile, ...]:
        """A home account id's profile in each tenant it was used in. Pure."""
        ...

    def merge(self, session: bytes | None, update: bytes, /, *, sign_in: bool) -> bytes:
        """The session with an update in it. Pure.

        With `sign_in` the update's accounts are added; without, an account that has left the session meanwhile
        stays away, and of two versions of a refresh token the newer stays.
        """
        ...

    def without(self, session: bytes, account: str, /) -> bytes | None:
        """The session without this home account id and its tokens; None if nobody is left. Pure."""
        ...


@runtime_checkable
class SignInClient(PeopleClient, Protocol):
    """A client that can ask the person who runs the program."""

    @property
    def can_ask(self) -> bool:
        """Whether it was given a way to ask a person (`sign_in=`)."""
        ...

    async def sign_in(self, asked: SignInRequest, /) -> Acquired:
        """Ask a person to sign in, and return the token with a session of this one sign-in. No lock is held meanwhile.

        The token names its account. Cancelled, it stops at once and leaves nothing behind: no listener, no poll.

        Raises:
            SignInError: refused, expired, or answered by something else.
            InteractionRequired: it was not to show anything (`prompt="none"`), and would have had to.
            TokenError: the authority failed.
        """
        ...


@runtime_checkable
class WebSignInClient(PeopleClient, Protocol):
    """A client that signs the users of a web application in, in their own browsers."""

    async def begin_sign_in(
        self, asked: SignInRequest, /, *, redirect_uri: str, response_mode: ResponseMode
    ) -> SignInFlow:
        """A flow for a web application to send the browser on. It keeps nothing of it.

        Raises:
            TokenError: the authority's metadata could not be had.
        """
        ...

    def answered(self, flow: Mapping[str, Any], params: Mapping[str, str], /) -> SignInRequest:
        """What was asked in this flow, if this is its answer and the person has agreed. Reads the clock and no more.

        Raises:
            ValueError: the flow is none that this client began.
            SignInError: the answer is another flow's, or comes too late, or says that the person declined.
            InteractionRequired: as `sign_in`.
        """
        ...

    async def complete_sign_in(self, flow: Mapping[str, Any], params: Mapping[str, str], /) -> Acquired:
        """Redeem the answer's code, once and without a second try; as `sign_in` returns it. Cancelled, it leaves."""
        ...
