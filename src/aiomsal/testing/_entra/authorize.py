"""The authorization endpoint (RFC 6749, section 4.1; OpenID Connect Core, section 3.1.2)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .codes import AuthorizationCode
from .errors import EntraError, RefusedError, error_members, missing
from .scopes import Scopes
from .steps import AuthorizationAnswer, Told
from .tokens import client_info, requested_claims
from .visits import Purpose, begin

if TYPE_CHECKING:
    from .directory import Application
    from .signins import SignIn
    from .state import Call, State
    from .steps import ResponseMode, Step

_MODES: dict[str, ResponseMode] = {"query": "query", "fragment": "fragment", "form_post": "form_post"}
_PROMPTS = ("", "none", "login", "select_account", "consent", "create")
_DECLINED = EntraError(65004, error="access_denied")
_CANCELLED = EntraError(65004, error="access_denied", description="The user cancelled the sign-in.")
_CHALLENGE_SIZE = 43
_LOOPBACK = ("localhost", "127.0.0.1")


def authorize(state: State, call: Call) -> Step:
    """Let a person come with an authorization request. What is wrong with it goes back to who sent it, if it may."""
    try:
        back = _WayBack.of(state, call)
    except RefusedError as refused:
        return Told("We cannot sign you in", str(refused), refused.error.error)
    try:
        if call.refusal:
            raise RefusedError(call.refusal.code, error=call.refusal)
        return begin(state, call, _Authorization.parse(call, back))
    except RefusedError as refused:
        return back.error(call, refused.error)


@dataclass(frozen=True)
class _WayBack:
    """To whom the answer goes, and how. Nothing is sent to an address that is not registered."""

    application: Application
    redirect_uri: str
    response_mode: ResponseMode
    state: str = field(repr=False)

    @classmethod
    def of(cls, state: State, call: Call) -> _WayBack:
        application = state.directory.application(call.form.get("client_id", ""), state.directory.tenant(call.tenant))
        redirect_uri = call.form.get("redirect_uri", "")
        if not redirect_uri:
            raise RefusedError(900971)
        if not any(_same_address(redirect_uri, registered) for registered in application.redirect_uris):
            text = f"The redirect URI '{redirect_uri}' does not match those configured for '{application.client_id}'."
            raise RefusedError(50011, text)
        mode = _MODES.get(call.form.get("response_mode", ""), "query")
        return cls(application, redirect_uri, mode, call.form.get("state", ""))

    def answer(self, params: dict[str, str]) -> AuthorizationAnswer:
        if self.state:
            params["state"] = self.state
        return AuthorizationAnswer(self.redirect_uri, params, self.response_mode)

    def error(self, call: Call, error: EntraError) -> AuthorizationAnswer:
        members = error_members(error, call.request, call.now)
        names = ("error", "error_description", "error_uri", "claims")
        params = {name: str(members[name]) for name in names if name in members}
        if error.error == "access_denied":
            params["error_subcode"] = "cancel"
        return self.answer(params)


@dataclass(frozen=True, kw_only=True)
class _Authorization(Purpose):
    """An authorization request that is in order."""

    back: _WayBack
    challenge: str = field(repr=False)
    nonce: str = field(repr=False)
    wants_client_info: bool

    @classmethod
    def parse(cls, call: Call, back: _WayBack) -> _Authorization:
        get = call.form.get
        if call.required("response_type") != "code":
            raise RefusedError(700051)
        if get("response_mode", "query") not in _MODES:
            raise RefusedError(70007)
        prompt = get("prompt", "")
        if prompt not in _PROMPTS:
            raise RefusedError(90023, f"The value '{prompt}' of the parameter 'prompt' is not supported.")
        return cls(
            client_id=back.application.client_id,
            scopes=Scopes.parse(get("scope", ""), for_token=False),
            claims=requested_claims(call),
            prompt=prompt,
            login_hint=get("login_hint", ""),
            max_age=_max_age(get("max_age", "")),
            back=back,
            challenge=_challenge(get("code_challenge", ""), get("code_challenge_method", "")),
            nonce=get("nonce", ""),
            wants_client_info=get("client_info") == "1",
        )

    def approve(self, state: State, call: Call, sign_in: SignIn) -> Step:
        """Send a code to the application."""
        code = AuthorizationCode(
            self.client_id,
            self.back.redirect_uri,
            " ".join(self.scopes.asked),
            self.challenge,
            self.nonce,
            self.max_age,
            sign_in,
            call.now + state.settings.authorization_code_expires_in,
        )
        params = {"code": state.authorization_codes.issue(code)}
        if self.wants_client_info and state.settings.client_info:
            params["client_info"] = client_info(sign_in.user)
        return self.back.answer({**params, "session_state": secrets.token_hex(16)})

    def decline(self, state: State, call: Call) -> Step:
        """Tell the application that the user does not consent."""
        del state
        return self.back.error(call, _DECLINED.completed())

    def cancel(self, state: State, call: Call) -> Step:
        """Tell the application that the user did not sign in."""
        del state
        return self.back.error(call, _CANCELLED.completed())


def _same_address(uri: str, registered: str) -> bool:
    """Say whether `uri` is the one registered; on loopback any port will do (RFC 8252, section 7.3)."""
    try:
        ours, theirs = urlsplit(uri), urlsplit(registered)
        ports = ours.port, theirs.port
    except ValueError:
        return False
    if ours.scheme == "http" and ours.hostname in _LOOPBACK:
        ports = None, None
    return (
        uri.isascii()
        and uri.isprintable()  # a line's end would end the header that it is sent in
        and not ours.fragment
        and "@" not in ours.netloc
        and (ours.scheme, ours.hostname, ours.path or "/", ours.query, ports[0])
        == (theirs.scheme, theirs.hostname, theirs.path or "/", theirs.query, ports[1])
    )


def _max_age(text: str) -> int | None:
    if text and not (text.isascii() and text.isdigit()):
        raise RefusedError(9002313, f"The value '{text}' of the parameter 'max_age' is not a number of seconds.")
    return int(text) if text else None


def _challenge(challenge: str, method: str) -> str:
    """Check the challenge of PKCE (RFC 7636, section 4.3), of which the method "plain" proves nothing."""
    if not challenge:
        if method:
            raise missing("code_challenge")
        return ""
    if method != "S256":
        raise RefusedError(9002313, "The code_challenge_method must be 'S256'.")
    if len(challenge) != _CHALLENGE_SIZE:
        raise RefusedError(501491)
    return challenge
