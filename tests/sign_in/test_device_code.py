"""Sign-in by device code: the waiting is on the loop, and moves by a sleep of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiomsal import AuthorityUnavailable, InteractionRequired, SignInError, Throttled
from aiomsal.clients.public import PublicClient
from aiomsal.sign_in import DeviceAuthorization, Pending
from aiomsal.sign_in.device_code import LONGEST_PAUSE, SHORTEST_INTERVAL, SLOW_DOWN, DeviceCode, DevicePrompt
from aiomsal.testing.pytest_plugin import fake_clock, fake_entra
from tests.clients.helpers import impatient, no_sleep, public
from tests.sign_in.support import ASKED, DONE

if TYPE_CHECKING:
    from aiomsal._asked import SignInRequest
    from aiomsal._client import Acquired
    from aiomsal.testing import Application, FakeClock, FakeEntra

__all__ = ["fake_clock", "fake_entra"]  # the plugin itself is not loaded where the package is not installed

pytestmark = pytest.mark.anyio


class Steps:
    """An authority that gives these answers, one for each poll."""

    def __init__(self, *answers: Acquired | Pending | Exception, **changes: Any) -> None:
        given = {
            "device_code": "dc",
            "user_code": "ABC",
            "verification_uri": "https://h/device",
            "message": "Go there.",
        }
        self.authorization = DeviceAuthorization(**{**given, "expires_in": 900.0, "interval": 5.0, **changes})
        self.answers = list(answers)
        self.asked: list[SignInRequest] = []
        self.polls = 0

    async def start_device_code(self, asked: SignInRequest) -> DeviceAuthorization:
        await anyio.lowlevel.checkpoint()
        self.asked.append(asked)
        return self.authorization

    async def poll_device_code(self, asked: SignInRequest, authorization: DeviceAuthorization) -> Acquired | Pending:
        await anyio.lowlevel.checkpoint()
        assert authorization is self.authorization
        assert [asked] == self.asked
        self.polls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Slept:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await anyio.lowlevel.checkpoint()


async def test_it_waits_the_interval_before_each_poll() -> None:
    sleep = Slept()
    steps = Steps(Pending(), Pending(), DONE)
    assert await DeviceCode(lambda _: None, sleep=sleep).sign_in(steps, ASKED) is DONE
    assert sleep.seconds == [5.0, 5.0, 5.0]


async def test_each_slow_down_is_heeded_from_then_on() -> None:
    sleep = Slept()
    steps = Steps(Pending(slow_down=True), Pending(), Pending(slow_down=True), DONE)
    await DeviceCode(lambda _: None, sleep=sleep).sign_in(steps, ASKED)
    assert sleep.seconds == [5.0, 5.0 + SLOW_DOWN, 5.0 + SLOW_DOWN, 5.0 + 2 * SLOW_DOWN]


async def test_an_outage_between_polls_is_waited_out_with_longer_and_longer_pauses() -> None:
    sleep = Slept()
    down = AuthorityUnavailable("down")
    steps = Steps(*[down] * 5, Pending(), down, DONE)
    await DeviceCode(lambda _: None, sleep=sleep).sign_in(steps, ASKED)
    assert sleep.seconds == [5.0, 10.0, 20.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, 5.0, 10.0]


async def test_an_interval_longer_than_the_longest_pause_is_kept_in_an_outage() -> None:
    sleep = Slept()
    await DeviceCode(lambda _: None, sleep=sleep).sign_in(
        Steps(AuthorityUnavailable("down"), DONE, interval=60.0), ASKED
    )
    assert sleep.seconds == [60.0, 60.0]


@pytest.mark.parametrize(("retry_after", "pause"), [(33.0, 33.0), (0.0, 5.0), (2.0, 5.0)])
async def test_patience_asked_for_between_polls_is_kept_and_never_less_than_the_interval(
    retry_after: float, pause: float
) -> None:
    sleep = Slept()
    steps = Steps(Throttled("slowly", retry_after=retry_after), Pending(), DONE)
    await DeviceCode(lambda _: None, sleep=sleep).sign_in(steps, ASKED)
    assert sleep.seconds == [5.0, pause, 5.0]


async def test_patience_asked_for_beyond_the_life_of_the_code_ends_it() -> None:
    sleep = Slept()
    steps = Steps(throttled := Throttled("slowly", retry_after=901.0), DONE)
    with pytest.raises(Throttled) as caught:
        await DeviceCode(lambda _: None, sleep=sleep).sign_in(steps, ASKED)
    assert caught.value is throttled
    assert sleep.seconds == [5.0]


async def test_an_authority_that_names_no_interval_is_not_polled_without_pause() -> None:
    sleep = Slept()
    await DeviceCode(lambda _: None, sleep=sleep).sign_in(Steps(DONE, interval=0.0), ASKED)
    assert sleep.seconds == [SHORTEST_INTERVAL]


async def test_a_code_that_expires_ends_the_sign_in() -> None:
    steps = Steps(expires_in=0.02, interval=3600.0)
    with pytest.raises(SignInError, match="expired") as caught:
        await DeviceCode(lambda _: None).sign_in(steps, ASKED)
    assert caught.value.code == "expired_token"
    assert steps.polls == 0


@pytest.mark.parametrize("error", [SignInError("declined"), InteractionRequired("blocked")], ids=repr)
async def test_whatever_else_the_authority_says_ends_it(error: Exception) -> None:
    steps = Steps(error, DONE)
    with pytest.raises(type(error)) as caught:
        await DeviceCode(lambda _: None, sleep=no_sleep).sign_in(steps, ASKED)
    assert caught.value is error


async def test_the_prompt_says_what_the_person_must_know(fake_clock: FakeClock) -> None:
    shown: list[DevicePrompt] = []
    await DeviceCode(shown.append, sleep=no_sleep, clock=fake_clock).sign_in(Steps(DONE), ASKED)
    await DeviceCode(shown.append, sleep=no_sleep).sign_in(Steps(DONE, message=""), ASKED)
    assert shown[0] == DevicePrompt("ABC", "https://h/device", "Go there.", fake_clock() + 900.0)
    assert "https://h/device" in shown[1].message
    assert "ABC" in shown[1].message
    assert "ABC" not in repr(shown)
    with pytest.raises(AttributeError):
        shown[0].user_code = "XYZ"  # type: ignore[misc]


async def test_on_code_may_be_async_and_is_awaited_before_the_first_poll() -> None:
    log: list[str] = []

    async def show(prompt: DevicePrompt) -> None:
        await anyio.lowlevel.checkpoint()
        log.append(prompt.user_code)

    async def sleep(_seconds: float) -> None:
        log.append("slept")
        await anyio.lowlevel.checkpoint()

    await DeviceCode(show, sleep=sleep).sign_in(Steps(DONE), ASKED)
    assert log == ["ABC", "slept"]


async def test_a_code_that_cannot_be_shown_ends_it() -> None:
    def broken(_prompt: DevicePrompt) -> None:
        raise OSError("no terminal")

    steps = Steps(DONE)
    with pytest.raises(SignInError, match="OSError") as caught:
        await DeviceCode(broken, sleep=no_sleep).sign_in(steps, ASKED)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.code == "not_shown"
    assert steps.polls == 0


async def test_the_code_is_not_in_the_error_that_says_that_it_could_not_be_shown() -> None:
    def broken(prompt: DevicePrompt) -> None:
        raise UnicodeError(f"cannot print {prompt.message} {prompt.user_code}")

    with pytest.raises(SignInError, match=r"on_code failed.*UnicodeError.*withheld") as caught:
        await DeviceCode(broken, sleep=no_sleep).sign_in(Steps(DONE), ASKED)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "ABC" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"prompt": "login"}, "prompt="),
        ({"max_age": 0}, "max_age="),
        ({"domain_hint": "consumers"}, "domain_hint="),
        ({"extra_scopes_to_consent": ("Mail.Read",)}, "extra_scopes_to_consent="),
        ({"prompt": "consent", "max_age": 60}, "prompt=, max_age="),
    ],
    ids=str,
)
async def test_what_no_device_code_carries_is_refused_before_one_is_asked_for(
    asked: dict[str, Any], named: str
) -> None:
    steps = Steps(DONE)
    with pytest.raises(ValueError, match=rf"cannot carry {named}: .*Browser\(\)"):
        await DeviceCode(lambda _: None, sleep=no_sleep).sign_in(steps, ASKED._replace(**asked))
    assert steps.asked == []


async def test_a_login_hint_is_but_a_hint() -> None:
    steps = Steps(DONE)
    asked = ASKED._replace(login_hint="ann@home.example")
    assert await DeviceCode(lambda _: None, sleep=no_sleep).sign_in(steps, asked) is DONE


async def test_it_stops_at_once_when_cancelled() -> None:
    steps = Steps(DONE, interval=3600.0)
    waiting = anyio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await anyio.sleep(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(DeviceCode(lambda _: None, sleep=sleep).sign_in, steps, ASKED)
        await waiting.wait()
        tasks.cancel_scope.cancel()
    assert steps.polls == 0


async def test_one_strategy_serves_several_sign_ins_at_once() -> None:
    strategy = DeviceCode(lambda _: None, sleep=no_sleep)
    several = [Steps(Pending(), DONE) for _ in range(5)]
    async with anyio.create_task_group() as tasks:
        for steps in several:
            tasks.start_soon(strategy.sign_in, steps, ASKED)
    assert [steps.polls for steps in several] == [2] * 5


def test_what_cannot_be_called_cannot_show_a_code() -> None:
    wrong: Any = None
    with pytest.raises(TypeError, match="function"):
        DeviceCode(wrong)


# -- by MSAL, against FakeEntra --------------------------------------------------------------------------------------


@pytest.fixture
def program(fake_entra: FakeEntra) -> Application:
    fake_entra.add_user("ann@home.example")
    fake_entra.configure(device_code_interval=0)
    return fake_entra.add_application(public=True)


async def test_an_approved_code_brings_a_token_and_a_session(fake_entra: FakeEntra, program: Application) -> None:
    def approve(prompt: DevicePrompt) -> None:
        fake_entra.approve_device_code(prompt.user_code, "ann@home.example")

    client = public(fake_entra, program, sign_in=DeviceCode(approve, sleep=no_sleep))
    acquired = await client.sign_in(client.sign_in_request(("User.Read",), {}))
    assert acquired.token.account is not None
    assert client.accounts(acquired.session or b"") == (acquired.token.account,)


async def test_polls_go_on_until_the_person_has_approved(fake_entra: FakeEntra, program: Application) -> None:
    shown: list[DevicePrompt] = []

    async def sleep(_seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        if fake_entra.count("token.device_code") == 3:
            fake_entra.approve_device_code(shown[0].user_code, "ann@home.example")

    client = public(fake_entra, program, sign_in=DeviceCode(shown.append, sleep=sleep))
    await client.sign_in(client.sign_in_request(("User.Read",), {}))
    assert fake_entra.count("token.device_code") == 4
    assert fake_entra.count("devicecode") == 1


async def test_the_authority_s_slow_down_is_understood(
    fake_clock: FakeClock, fake_entra: FakeEntra, program: Application
) -> None:
    fake_entra.configure(device_code_interval=5)
    shown: list[DevicePrompt] = []
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) != 2:  # the second comes too soon
            fake_clock.advance(seconds)
        if len(slept) == 4:
            fake_entra.approve_device_code(shown[0].user_code, "ann@home.example")
        await anyio.lowlevel.checkpoint()

    client = public(fake_entra, program, sign_in=DeviceCode(shown.append, sleep=sleep))
    await client.sign_in(client.sign_in_request(("User.Read",), {}))
    assert slept == [5.0, 5.0, 10.0, 10.0]


async def test_a_person_who_declines_is_believed(fake_entra: FakeEntra, program: Application) -> None:
    strategy = DeviceCode(lambda prompt: fake_entra.deny_device_code(prompt.user_code), sleep=no_sleep)
    client = public(fake_entra, program, sign_in=strategy)
    with pytest.raises(SignInError, match="the person declined") as caught:
        await client.sign_in(client.sign_in_request(("User.Read",), {}))
    assert caught.value.code == "authorization_declined"
    assert caught.value.error_codes == (65004,)


async def test_a_code_the_authority_calls_expired_is(
    fake_clock: FakeClock, fake_entra: FakeEntra, program: Application
) -> None:
    strategy = DeviceCode(lambda _: fake_clock.advance(901), sleep=no_sleep)
    client = public(fake_entra, program, sign_in=strategy)
    with pytest.raises(SignInError, match="expired before it was used"):
        await client.sign_in(client.sign_in_request(("User.Read",), {}))


async def test_a_sign_in_that_is_refused_does_not_ask_for_a_sign_in(
    fake_entra: FakeEntra, program: Application
) -> None:
    from aiomsal.testing import EntraError

    fake_entra.fault("token.device_code", error=EntraError(53003))
    client = public(fake_entra, program)
    with pytest.raises(SignInError) as caught:
        await client.sign_in(client.sign_in_request(("User.Read",), {}))
    assert caught.value.error_codes == (53003,)


async def test_an_unknown_application_is_told_before_a_code_is_shown(fake_entra: FakeEntra) -> None:
    shown: list[DevicePrompt] = []
    client: PublicClient = impatient(
        PublicClient(
            "nobody",
            authority=fake_entra.authority(),
            http_client=fake_entra.http_client(),
            sign_in=DeviceCode(shown.append),
        )
    )
    from aiomsal import InvalidClient

    with pytest.raises(InvalidClient):
        await client.sign_in(client.sign_in_request(("User.Read",), {}))
    assert shown == []


async def test_neither_client_info_nor_an_id_token_is_no_sign_in(fake_entra: FakeEntra, program: Application) -> None:
    class Nameless:
        def __init__(self) -> None:
            self._client = fake_entra.http_client()
            self.get = self._client.get

        def post(self, url: str, **options: Any) -> Any:
            response = self._client.post(url, **options)
            response.text = response.text.replace('"client_info"', '"x"').replace('"id_token"', '"y"')
            return response

    fake_entra.configure(auto_approve="ann@home.example")
    client = public(fake_entra, program, http_client=Nameless())
    with pytest.raises(SignInError, match="neither client_info nor an ID token"):
        await client.sign_in(client.sign_in_request(("User.Read",), {}))


async def test_without_client_info_the_id_token_names_the_account(fake_entra: FakeEntra, program: Application) -> None:
    class Plain:
        """Any OpenID Connect provider: client_info is Entra's own."""

        def __init__(self) -> None:
            self._client = fake_entra.http_client()
            self.get = self._client.get

        def post(self, url: str, **options: Any) -> Any:
            response = self._client.post(url, **options)
            response.text = response.text.replace('"client_info"', '"x"')
            return response

    from tests.clients.helpers import acquire

    fake_entra.configure(auto_approve="ann@home.example")
    client = public(fake_entra, program, http_client=Plain())
    acquired = await client.sign_in(client.sign_in_request(("User.Read",), {}))
    account = acquired.token.account
    assert account is not None
    assert account.home_account_id == acquired.token.id_token_claims["sub"]
    again = await acquire(client, "Mail.Read", session=acquired.session)
    assert again.token.account == account


async def test_cancelled_during_a_poll_it_leaves_at_once(fake_entra: FakeEntra, program: Application) -> None:
    client = public(fake_entra, program)
    with fake_entra.hold("token.device_code") as gate:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.sign_in, client.sign_in_request(("User.Read",), {}))
            await anyio.to_thread.run_sync(gate.wait_for, 1)
            tasks.cancel_scope.cancel()
        assert gate.waiting == 1, "the poll is still in the air, and nobody waits for it"
    assert fake_entra.count("token.device_code") == 1


async def test_claims_go_with_the_code_and_with_each_poll(fake_entra: FakeEntra, program: Application) -> None:
    fake_entra.configure(auto_approve="ann@home.example")
    client = public(fake_entra, program, client_capabilities=["CP1"])
    await client.sign_in(client.sign_in_request(("User.Read",), {"claims": '{"id_token": {"auth_time": null}}'}))
    for record in fake_entra.requests[-2:]:
        assert "auth_time" in record.claims
        assert "CP1" in record.claims
