"""What a person is asked, and what a web application remembers between asking and the answer: data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._token import Account, TokenRequest

Prompt = Literal["none", "login", "select_account", "consent", "create"]
"""What the sign-in page must or must not show (OpenID Connect Core section 3.1.2.1; "create" is a registration)."""
ResponseMode = Literal["query", "form_post"]
"""How the browser brings the answer to a web application: in the URL, or in the body of a POST from another site."""


class SignInOptions(TypedDict, total=False):
    """The keywords of a sign-in. Leave a keyword out rather than passing None or an empty string.

    account: who must sign in, an `Account` or its home account id; another is refused.
    login_hint: the user name to fill in; the person may choose another.
    domain_hint: "organizations", "consumers" or a domain, to go there without asking.
    prompt: "select_account" lets the person choose, "login" has them prove who they are, "consent" shows the scopes
        again, "create" offers to register, "none" shows nothing or fails with `InteractionRequired`.
    claims: a claims challenge (JSON).
    extra_scopes_to_consent: scopes, of other resources too, to consent to on the way.
    max_age: seconds since the person last proved who they are, at most.
    """

    account: Account | str
    """Who must sign in, an `Account` or its home account id: another is refused."""
    login_hint: str
    """The user name to fill in; the person may choose another."""
    domain_hint: str
    """Which kind of account, or which domain, to go to without asking: "organizations", "consumers", or a domain."""
    prompt: Prompt
    """By default the page shows what it needs to, and nothing to whom it knows."""
    claims: str
    """A claims challenge (JSON)."""
    extra_scopes_to_consent: Iterable[str]
    """Scopes, of other resources too, to consent to on the way; the token is for the others."""
    max_age: int
    """Seconds since the person last proved who they are, at most; 0 is now (OpenID Connect Core section 3.1.2.1)."""


class SignInRequest(NamedTuple):
    """All that is asked of a person: a key, for equal ones share one sign-in. It holds no secret."""

    request: TokenRequest
    """For whom, which scopes and which claims."""
    login_hint: str = ""
    domain_hint: str = ""
    prompt: str = ""
    extra_scopes_to_consent: tuple[str, ...] = ()
    max_age: int | None = None


class TenantProfile(NamedTuple):
    """A user in one tenant: at home, or as a guest. An account has one for each tenant it was used in."""

    tenant_id: str
    object_id: str
    """The user's object id there: a guest has another than at home."""
    username: str
    is_home: bool


class SignInFlow(dict[str, Any]):
    """A sign-in that was begun in a web application: keep it in the user's session, until the answer comes.

    A dict of JSON values: `json.dumps(flow)` and back gives what `complete_sign_in` takes. It holds the PKCE verifier
    and the nonce, so keep it where the user's session is kept, on the server if you can. Its repr shows neither.
    """

    def __init__(self, auth_uri: str = "", **members: Any) -> None:
        super().__init__(members)
        self.auth_uri = auth_uri
        """Where to redirect the browser to. No member: the answer does not need it, and a cookie has 4 KB."""

    @property
    def state(self) -> str:
        """What the answer must bring back."""
        return str(self["state"])

    @property
    def expires_at(self) -> float:
        """Epoch seconds after which an answer is refused."""
        return float(self["expires_at"])

    def __repr__(self) -> str:
        return f"<SignInFlow to {self.get('redirect_uri', 'nowhere')}>"
