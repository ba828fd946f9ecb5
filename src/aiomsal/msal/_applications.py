"""MSAL's applications, awaited."""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, cast

from . import _device
from ._desk import Desk, own
from ._keys import beside, key_of
from ._throttle import HttpCache, Throttled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from ._desk import Process
    from ._interactive import Receiver

    Account = Mapping[str, Any]
    Result = dict[str, Any]
    Scopes = list[str] | tuple[str, ...] | set[str]

T = TypeVar("T")

_MUTABLE: Final[frozenset[Any]] = frozenset({list, dict, set})
_OBJECTS: Final = frozenset({"token_cache", "http_client", "http_cache"})
TIMEOUT: Final = (5.0, 25.0)
"""Seconds to connect and to answer, where MSAL would wait for ever."""


class Awaited:
    """What MSAL's classes have in common here: built once, in a worker thread, by whatever needs it first."""

    _desk: Desk

    async def ready(self) -> Self:
        """Build MSAL's object, if that has not been done: all its attributes are here from then on.

        Raises:
            Exception: what MSAL's constructor raised; nothing of it is remembered, so the next call tries again.
        """
        await self._desk.ready()
        return self

    def __getattr__(self, name: str) -> Any:
        """MSAL's own attribute, once it is built."""
        desk = self.__dict__.get("_desk")
        if desk is None or (name.startswith("__") and name.endswith("__")):  # copy and pickle look for these
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if desk.built is None:
            words = f"{type(self).__name__} has no attribute {name!r}; MSAL's are there only when it is built"
            raise AttributeError(f"{words}: `await app.ready()` first")
        return getattr(desk.built, name)


class ClientApplication(Awaited):
    """`msal.ClientApplication`, awaited: use one of its subclasses. See `aiomsal.msal` for what is shared and shielded.

    The arguments are MSAL's. They are kept until the application is built, by the first call or `await app.ready()`.
    """

    ACQUIRE_TOKEN_SILENT_ID: ClassVar = "84"
    ACQUIRE_TOKEN_BY_REFRESH_TOKEN: ClassVar = "85"
    ACQUIRE_TOKEN_BY_USERNAME_PASSWORD_ID: ClassVar = "301"
    ACQUIRE_TOKEN_ON_BEHALF_OF_ID: ClassVar = "523"
    ACQUIRE_TOKEN_BY_DEVICE_FLOW_ID: ClassVar = "622"
    ACQUIRE_TOKEN_FOR_CLIENT_ID: ClassVar = "730"
    ACQUIRE_TOKEN_BY_AUTHORIZATION_CODE_ID: ClassVar = "832"
    ACQUIRE_TOKEN_INTERACTIVE: ClassVar = "169"
    ACQUIRE_TOKEN_BY_USER_FIC_ID: ClassVar = "950"
    GET_ACCOUNTS_ID: ClassVar = "902"
    REMOVE_ACCOUNT_ID: ClassVar = "903"
    ATTEMPT_REGION_DISCOVERY: ClassVar = True
    DISABLE_MSAL_FORCE_REGION: ClassVar = False

    _PATIENCE: ClassVar = 5
    """Seconds for which MSAL does not repeat what was refused without a Retry-After."""

    def __init__(
        self,
        client_id: str,
        client_credential: str | Mapping[str, Any] | None = None,
        authority: object = None,
        validate_authority: bool = True,
        token_cache: object = None,
        http_client: object = None,
        verify: bool | str = True,
        proxies: Mapping[str, str] | None = None,
        timeout: float | tuple[float | None, float | None] | None = None,
        client_claims: Mapping[str, Any] | None = None,
        app_name: str | None = None,
        app_version: str | None = None,
        client_capabilities: list[str] | None = None,
        azure_region: str | bool | None = None,
        exclude_scopes: list[str] | None = None,
        http_cache: MutableMapping[str, Any] | None = None,
        instance_discovery: bool | None = None,
        allow_broker: bool | None = None,
        enable_pii_log: bool | None = None,
        oidc_authority: str | None = None,
    ) -> None:
        self._prepare(
            {
                "client_id": client_id,
                "client_credential": client_credential,
                "authority": authority,
                "validate_authority": validate_authority,
                "token_cache": token_cache,
                "http_client": http_client,
                "verify": verify,
                "proxies": proxies,
                "timeout": timeout,
                "client_claims": client_claims,
                "app_name": app_name,
                "app_version": app_version,
                "client_capabilities": client_capabilities,
                "azure_region": azure_region,
                "exclude_scopes": exclude_scopes,
                "http_cache": http_cache,
                "instance_discovery": instance_discovery,
                "allow_broker": allow_broker,
                "enable_pii_log": enable_pii_log,
                "oidc_authority": oidc_authority,
            }
        )

    def _prepare(self, arguments: dict[str, Any]) -> None:
        name = self._msals_name()
        credential = arguments.get("client_credential")
        if isinstance(credential, dict) and any(map(inspect.iscoroutinefunction, cast("Any", credential).values())):
            raise TypeError(
                "client_credential: MSAL calls a client_assertion in a worker thread, so it cannot be async"
            )
        # As they are now: MSAL would have read them by the time its constructor returns.
        arguments = {each: value if each in _OBJECTS else own(value) for each, value in arguments.items()}
        if arguments.get("timeout") is None and not arguments.get("http_client"):
            arguments["timeout"] = TIMEOUT
        patience = None if arguments.get("http_cache") is not None else self._PATIENCE
        if patience is not None:
            arguments["http_cache"] = HttpCache()

        def build() -> Any:
            import msal

            application = getattr(msal, name)(**arguments)
            if patience is not None:
                throttled = application.http_client  # MSAL's, around the client that was given or made
                throttled.http_client = Throttled(throttled.http_client, patience)
            return application

        self._desk = Desk(build)

    def _msals_name(self) -> str:
        """Which of MSAL's classes a class here, or a user's own that inherits from it, stands for."""
        return next(each.__name__ for each in type(self).__mro__ if each.__module__ == __name__)

    async def is_pop_supported(self) -> bool:
        """As MSAL's, once the application is built."""
        return cast("bool", (await self._desk.ready()).application.is_pop_supported())

    async def initiate_auth_code_flow(
        self,
        scopes: Scopes,
        redirect_uri: str | None = None,
        state: str | None = None,
        prompt: str | None = None,
        login_hint: str | None = None,
        domain_hint: str | None = None,
        claims_challenge: str | None = None,
        max_age: int | None = None,
        response_mode: str | None = None,
    ) -> Result:
        """As MSAL's: a new flow for each call."""

        def question(application: Any) -> Result:
            return cast(
                "Result",
                application.initiate_auth_code_flow(
                    scopes,
                    redirect_uri=redirect_uri,
                    state=state,
                    prompt=prompt,
                    login_hint=login_hint,
                    domain_hint=domain_hint,
                    claims_challenge=claims_challenge,
                    max_age=max_age,
                    response_mode=response_mode,
                ),
            )

        return await self._desk.call(None, question)

    async def get_authorization_request_url(
        self,
        scopes: Scopes,
        login_hint: str | None = None,
        state: str | None = None,
        redirect_uri: str | None = None,
        response_type: str = "code",
        prompt: str | None = None,
        nonce: str | None = None,
        domain_hint: str | None = None,
        claims_challenge: str | None = None,
        **kwargs: object,
    ) -> str:
        """As MSAL's; deprecated there."""

        def question(application: Any) -> str:
            return cast(
                "str",
                application.get_authorization_request_url(
                    scopes,
                    login_hint=login_hint,
                    state=state,
                    redirect_uri=redirect_uri,
                    response_type=response_type,
                    prompt=prompt,
                    nonce=nonce,
                    domain_hint=domain_hint,
                    claims_challenge=claims_challenge,
                    **kwargs,
                ),
            )

        return await self._desk.call(None, question)

    async def acquire_token_by_auth_code_flow(
        self,
        auth_code_flow: dict[str, Any],
        auth_response: dict[str, Any],
        scopes: Scopes | None = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's. Never shared: a code is redeemed once."""
        return await self._desk.change(
            lambda app: app.acquire_token_by_auth_code_flow(auth_code_flow, auth_response, scopes, **kwargs)
        )

    async def acquire_token_by_authorization_code(
        self,
        code: str,
        scopes: list[str],
        redirect_uri: str | None = None,
        nonce: str | None = None,
        claims_challenge: str | None = None,
        forwarded_client_claims: str | None = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's; deprecated there. Never shared: a code is redeemed once."""
        options = {"redirect_uri": redirect_uri, "nonce": nonce, "claims_challenge": claims_challenge, **kwargs}
        options |= _newer(forwarded_client_claims=forwarded_client_claims)
        return await self._desk.change(lambda app: app.acquire_token_by_authorization_code(code, scopes, **options))

    async def get_accounts(self, username: str | None = None) -> list[dict[str, Any]]:
        """As MSAL's, which asks the authority for its other names where it knows no account."""
        key = key_of("get_accounts", None, None, (username,), {})
        return await self._desk.call(key, lambda app: app.get_accounts(username=username))

    async def remove_account(self, account: Account) -> None:
        """As MSAL's, once all who work for this account are done; who comes meanwhile waits."""
        account = _kept(account)
        await self._desk.remove(_home(account), lambda app: app.remove_account(account))

    async def acquire_token_silent(
        self,
        scopes: list[str],
        account: Account | None,
        authority: str | None = None,
        force_refresh: bool = False,
        claims_challenge: str | None = None,
        forwarded_client_claims: str | None = None,
        auth_scheme: object = None,
        **kwargs: object,
    ) -> Result | None:
        """As MSAL's."""
        fields = (authority, force_refresh, claims_challenge, forwarded_client_claims, auth_scheme)
        key = key_of("silent", scopes, account, fields, kwargs)
        return await self._silently("acquire_token_silent", key, scopes, account, fields, kwargs)

    async def acquire_token_silent_with_error(
        self,
        scopes: list[str],
        account: Account | None,
        authority: str | None = None,
        force_refresh: bool = False,
        claims_challenge: str | None = None,
        forwarded_client_claims: str | None = None,
        auth_scheme: object = None,
        **kwargs: object,
    ) -> Result | None:
        """As MSAL's."""
        fields = (authority, force_refresh, claims_challenge, forwarded_client_claims, auth_scheme)
        key = key_of("silent_with_error", scopes, account, fields, kwargs)
        return await self._silently("acquire_token_silent_with_error", key, scopes, account, fields, kwargs)

    def _silently(
        self,
        method: str,
        key: tuple[Any, ...] | None,
        scopes: list[str],
        account: Account | None,
        fields: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> Awaitable[Result | None]:
        account_kept, kwargs_kept = _kept(account), own(kwargs) if kwargs else kwargs  # those of the key
        # Neither a coroutine more for each who waits, nor a cell for each argument: the garbage collector visits them.
        question = partial(_silent, method, _kept(scopes), account_kept, fields, kwargs_kept)
        return self._desk.call(key, question, account=_home(account))

    async def acquire_token_by_refresh_token(self, refresh_token: str, scopes: Scopes, **kwargs: object) -> Result:
        """As MSAL's. Never shared: the authority may rotate it."""
        return await self._desk.change(lambda app: app.acquire_token_by_refresh_token(refresh_token, scopes, **kwargs))

    async def acquire_token_by_username_password(
        self,
        username: str,
        password: str,
        scopes: Scopes,
        claims_challenge: str | None = None,
        auth_scheme: object = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's; deprecated there for public clients. Never shared."""
        options = {"claims_challenge": claims_challenge, **_newer(auth_scheme=auth_scheme), **kwargs}
        return await self._desk.change(
            lambda app: app.acquire_token_by_username_password(username, password, scopes, **options)
        )


class PublicClientApplication(ClientApplication):
    """`msal.PublicClientApplication`, awaited. See `aiomsal.msal` for what is shared and shielded."""

    DEVICE_FLOW_CORRELATION_ID: ClassVar = "_correlation_id"
    CONSOLE_WINDOW_HANDLE: ClassVar = object()
    """MSAL's own may be passed too."""

    _PATIENCE: ClassVar = 60

    def __init__(
        self,
        client_id: str,
        client_credential: None = None,
        *,
        enable_broker_on_windows: bool | None = None,
        enable_broker_on_mac: bool | None = None,
        enable_broker_on_linux: bool | None = None,
        enable_broker_on_wsl: bool | None = None,
        **kwargs: object,
    ) -> None:
        if client_credential is not None:
            raise ValueError("Public Client should not possess credentials")  # MSAL's words
        if unknown := kwargs.keys() - _OF_ALL_APPLICATIONS:
            raise TypeError(f"PublicClientApplication() got an unexpected keyword argument {min(unknown)!r}")
        self._prepare(
            {
                "client_id": client_id,
                "enable_broker_on_windows": enable_broker_on_windows,
                "enable_broker_on_mac": enable_broker_on_mac,
                **_newer(
                    enable_broker_on_linux=enable_broker_on_linux,
                    enable_broker_on_wsl=enable_broker_on_wsl,
                ),
                **kwargs,
            }
        )

    async def acquire_token_interactive(
        self,
        scopes: Scopes,
        prompt: str | None = None,
        login_hint: str | None = None,
        domain_hint: str | None = None,
        claims_challenge: str | None = None,
        timeout: float | None = None,
        port: int | None = None,
        extra_scopes_to_consent: Scopes | None = None,
        max_age: int | None = None,
        parent_window_handle: object = None,
        on_before_launching_ui: Callable[..., object] | None = None,
        auth_scheme: object = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's, by the listener of `aiomsal.Browser`: one window for all who ask for the same, then the next.

        It ends at once when the last who waits is cancelled. `on_before_launching_ui` and `auth_uri_callback` are
        called in a worker thread; the latter may be async. A `welcome_template` is not shown.
        """
        scopes, extra_scopes_to_consent, kwargs = own((scopes, extra_scopes_to_consent, kwargs))
        fields = (prompt, login_hint, domain_hint, claims_challenge, auth_scheme)
        wire = {"timeout": timeout, "port": port, "max_age": max_age, "extra": extra_scopes_to_consent}
        rest = {name: value for name, value in kwargs.items() if name != "auth_uri_callback"}
        key = key_of("interactive", scopes, None, fields, {"wire": wire, "rest": rest})
        window = (parent_window_handle, on_before_launching_ui, kwargs.get("auth_uri_callback"))

        def question(application: Any, listening: int | None, receiver: Receiver | None) -> Result:
            handle = parent_window_handle
            if handle is self.CONSOLE_WINDOW_HANDLE:
                handle = application.CONSOLE_WINDOW_HANDLE
            options = {**kwargs, **_newer(auth_scheme=auth_scheme)}
            if receiver is not None:
                options["auth_code_receiver"] = receiver
            return cast(
                "Result",
                application.acquire_token_interactive(
                    scopes,
                    prompt=prompt,
                    login_hint=login_hint,
                    domain_hint=domain_hint,
                    claims_challenge=claims_challenge,
                    timeout=timeout,
                    port=listening,
                    extra_scopes_to_consent=extra_scopes_to_consent,
                    max_age=max_age,
                    parent_window_handle=handle,
                    on_before_launching_ui=on_before_launching_ui,
                    **options,
                ),
            )

        async def conduct(process: Process) -> Result:
            from ._interactive import interact  # and h11 with it

            async with process.turns.take("window"):  # a person answers one question at a time
                if kwargs.get("auth_code_receiver") is not None:
                    return await process.hop(lambda application: question(application, port, None))
                return await interact(process, port, question)

        return await self._desk.converse(None if key is None else beside(key, window), conduct)

    async def initiate_device_flow(
        self, scopes: Scopes | None = None, *, claims_challenge: str | None = None, **kwargs: object
    ) -> Result:
        """As MSAL's: a new code for each call."""
        options = {**_newer(claims_challenge=claims_challenge), **kwargs}
        return await self._desk.call(None, lambda app: app.initiate_device_flow(scopes, **options))

    async def acquire_token_by_device_flow(
        self, flow: dict[str, Any], claims_challenge: str | None = None, **kwargs: object
    ) -> Result:
        """As MSAL's, waiting on the event loop between polls: polled once for all who wait for the same code.

        It ends at once when the last who waits is cancelled. An `exit_condition` is called on the event loop,
        and may be async.
        """
        options = own(kwargs)
        code = flow.get("device_code")  # the caller may use the dict again, for another
        key = key_of("device_flow", None, None, (claims_challenge,), options, secret=code)
        exit_condition = cast("Callable[[Result], object]", options.pop("exit_condition", _device.expired))

        def ask(application: Any, /, *, flow: Result) -> Result:
            if code is not None:
                flow["device_code"] = code
            return cast(
                "Result",
                application.acquire_token_by_device_flow(
                    flow, claims_challenge=claims_challenge, exit_condition=_after_one_poll, **options
                ),
            )

        async def conduct(process: Process) -> Result:
            return await _device.poll(process, flow, ask, exit_condition)

        return await self._desk.converse(key, conduct)


class ConfidentialClientApplication(ClientApplication):
    """`msal.ConfidentialClientApplication`, awaited. See `aiomsal.msal` for what is shared and shielded."""

    async def acquire_token_for_client(
        self,
        scopes: list[str],
        claims_challenge: str | None = None,
        fmi_path: str | None = None,
        forwarded_client_claims: str | None = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's."""
        scopes, kwargs = _kept(scopes), kwargs and own(kwargs)
        key = key_of("for_client", scopes, None, (claims_challenge, fmi_path, forwarded_client_claims), kwargs)

        def question(application: Any) -> Result:
            newer = _newer(fmi_path=fmi_path, forwarded_client_claims=forwarded_client_claims)
            return cast(
                "Result",
                application.acquire_token_for_client(
                    scopes, claims_challenge=claims_challenge, **newer, **_shielded(kwargs)
                ),
            )

        return await self._desk.call(key, question)

    async def remove_tokens_for_client(self) -> None:
        """As MSAL's, which may ask the authority for its other names."""
        await self._desk.change(lambda app: app.remove_tokens_for_client())

    async def acquire_token_on_behalf_of(
        self,
        user_assertion: str,
        scopes: Scopes,
        claims_challenge: str | None = None,
        forwarded_client_claims: str | None = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's, which does not look into its cache: shared only while the request is under way."""
        scopes, kwargs = _kept(scopes), kwargs and own(kwargs)
        fields = (claims_challenge, forwarded_client_claims)
        key = key_of("on_behalf_of", scopes, None, fields, kwargs, secret=user_assertion)
        options = {"claims_challenge": claims_challenge, **kwargs}
        options |= _newer(forwarded_client_claims=forwarded_client_claims)
        return await self._desk.call(key, lambda app: app.acquire_token_on_behalf_of(user_assertion, scopes, **options))

    async def acquire_token_by_user_federated_identity_credential(
        self,
        scopes: Scopes,
        assertion: str,
        username: str | None = None,
        user_object_id: str | None = None,
        claims_challenge: str | None = None,
        forwarded_client_claims: str | None = None,
        **kwargs: object,
    ) -> Result:
        """As MSAL's, from the version on that has it."""
        scopes, kwargs = _kept(scopes), kwargs and own(kwargs)
        fields = (username, user_object_id, claims_challenge, forwarded_client_claims)
        key = key_of("user_fic", scopes, None, fields, kwargs, secret=assertion)
        options = {
            "username": username,
            "user_object_id": user_object_id,
            "claims_challenge": claims_challenge,
            "forwarded_client_claims": forwarded_client_claims,
            **kwargs,
        }
        return await self._desk.call(
            key, lambda app: app.acquire_token_by_user_federated_identity_credential(scopes, assertion, **options)
        )


_OF_ALL_APPLICATIONS: Final = inspect.signature(ClientApplication).parameters.keys() - {
    "client_id",
    "client_credential",
}


def _home(account: object) -> str | None:
    """The home account id: whose refresh token it is, under whatever name."""
    found = cast("Account", account).get("home_account_id") if hasattr(account, "get") else None
    return found if isinstance(found, str) else None


def _silent(
    method: str,
    scopes: list[str],
    account: Account | None,
    fields: tuple[object, ...],
    kwargs: dict[str, object],
    application: Any,
) -> Result | None:
    authority, force_refresh, claims_challenge, forwarded_client_claims, auth_scheme = fields
    options = {"authority": authority, "force_refresh": force_refresh, "claims_challenge": claims_challenge}
    options |= _newer(forwarded_client_claims=forwarded_client_claims, auth_scheme=auth_scheme)
    return cast("Result | None", getattr(application, method)(scopes, account, **options, **_shielded(kwargs)))


def _kept(value: T) -> T:
    """A flat list, dict or set as it is now: the caller may change theirs while others wait for what it asked."""
    return cast("T", cast("list[Any]", value).copy()) if type(value) in _MUTABLE else value


def _after_one_poll(_: object) -> bool:
    return True


def _newer(**options: object) -> dict[str, object]:
    """Those that were given: an older MSAL does not know the others."""
    return {name: value for name, value in options.items() if value is not None}


def _shielded(kwargs: Mapping[str, object]) -> dict[str, object]:
    """With MSAL's `http_exceptions`, after which a token that it holds still serves, widened by a 5xx. In a thread."""
    return {"http_exceptions": _outages(), **kwargs}


@cache
def _outages() -> tuple[type[Exception], ...]:
    from msal.exceptions import MsalServiceError
    from requests.exceptions import RequestException

    return RequestException, MsalServiceError
