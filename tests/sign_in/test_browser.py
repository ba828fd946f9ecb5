"""The browser sign-in as a strategy: who is shown what, what comes out, and when it ends."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
import webbrowser
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from aiomsal import AuthorityUnavailable, InteractionRequired, SignInError
from aiomsal.sign_in import _callbacks, _system_browser
from aiomsal.sign_in._conversation import Expected
from aiomsal.sign_in.browser import Browser
from tests.core.support import settle
from tests.sign_in.support import (
    ASKED,
    DONE,
    FORM,
    PATIENCE,
    STATE,
    URL,
    Authority,
    Response,
    Sitting,
    connect,
    everything_in,
    exchange,
    heard,
    nobody_listens,
    request,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiomsal._asked import SignInFlow
    from aiomsal._client import Acquired

pytestmark = pytest.mark.anyio


async def sign_in(authority: Authority, **options: Any) -> Acquired:
    with anyio.fail_after(PATIENCE):
        return await Browser(**options).sign_in(authority, ASKED)


def port_of(authority: Authority) -> int:
    return int(authority.redirect_uris[-1].rpartition(":")[2])


# -- who is shown where to go ----------------------------------------------------------------------------------------


async def test_the_browser_is_opened_where_the_authority_says_and_brings_the_answer_here() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group).opened()
        assert sitting.urls == [URL]
        assert sitting.authority.asked == [ASKED]
        assert sitting.authority.redirect_uris == [f"http://localhost:{sitting.port}"]
        assert Response(await exchange(sitting.port, request(sitting.port))).status == 200
        await sitting.over()
    assert sitting.value is DONE
    assert sitting.authority.redeemed == [FORM]


@pytest.mark.parametrize("said", [True, None, 0], ids=repr)
async def test_open_may_be_async_and_only_false_means_that_there_is_no_browser(said: object) -> None:
    authority, shown = Authority(), list[str]()

    async def open_and_use(url: str) -> object:
        await anyio.lowlevel.checkpoint()
        assert url == URL
        stream = await connect(port_of(authority))
        await stream.send(request(port_of(authority)))
        await stream.aclose()
        return said

    assert await sign_in(authority, open=open_and_use, on_url=shown.append) is DONE
    assert shown == []


@pytest.mark.parametrize("is_async", [False, True])
async def test_without_a_browser_on_url_is_given_the_url(is_async: bool) -> None:
    async with anyio.create_task_group() as group:
        shown: list[str] = []
        there = anyio.Event()

        def show(url: str) -> None:
            shown.append(url)
            there.set()

        async def show_later(url: str) -> None:
            await anyio.lowlevel.checkpoint()
            show(url)

        async def no_browser(url: str) -> bool:
            await anyio.lowlevel.checkpoint()
            return False

        options = {"open": no_browser, "on_url": show_later} if is_async else {"open": lambda _: False, "on_url": show}
        sitting = Sitting(group, **options)
        with anyio.fail_after(PATIENCE):
            await there.wait()
        await exchange(sitting.port, request(sitting.port))
        await sitting.over()
    assert shown == [URL]
    assert sitting.value is DONE


async def test_with_neither_browser_nor_on_url_it_says_what_to_pass() -> None:
    authority = Authority()
    with pytest.raises(SignInError, match=r"on_url=.*DeviceCode\(\.\.\.\)") as caught:
        await sign_in(authority, open=lambda _: False)
    assert caught.value.code == "no_browser"
    assert await nobody_listens(port_of(authority))


async def test_what_open_waits_for_holds_up_nobody_and_ends_with_the_sign_in() -> None:
    async with anyio.create_task_group() as group:
        opened, ended = anyio.Event(), list[str]()

        async def drive(url: str) -> None:
            opened.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(url)

        sitting = Sitting(group, open=drive)
        await opened.wait()
        await exchange(sitting.port, request(sitting.port))
        await sitting.over()
    assert sitting.value is DONE
    assert ended == [URL]


async def test_an_answer_that_comes_before_open_fails_is_taken() -> None:
    async with anyio.create_task_group() as group:
        opened, fail = anyio.Event(), anyio.Event()

        async def open_badly(url: str) -> None:
            opened.set()
            await fail.wait()
            raise OSError("closed")

        sitting = Sitting(group, open=open_badly)
        sitting.authority.park()
        await opened.wait()
        async with await connect(sitting.port) as stream:
            await stream.send(request(sitting.port))
            await sitting.authority.redeeming.wait()
            fail.set()
            await settle()
            sitting.authority.release.set()
            assert Response(await heard(stream)).status == 200
        await sitting.over()
    assert sitting.value is DONE


async def test_an_authority_cannot_have_a_program_opened() -> None:
    authority, opened = Authority(auth_uri=f"file:///usr/bin/calculator?state={STATE}"), list[str]()
    with pytest.raises(SignInError, match="no web page") as caught:
        await sign_in(authority, open=opened.append)
    assert caught.value.code == "not_opened"
    assert opened == []


# -- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        SignInError("another account", code="account_mismatch"),
        InteractionRequired("it has to show something"),
        AuthorityUnavailable("down"),
        ZeroDivisionError("a bug: <secret>"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_redeeming_raises_comes_out_as_it_is_and_the_page_tells_of_it(error: Exception) -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.error = error
        await sitting.opened()
        response = Response(await exchange(sitting.port, request(sitting.port)))
        await sitting.over()
    assert sitting.error is error
    response.check()
    assert response.status == 400
    assert "The sign-in did not succeed" in response.body
    assert ("secret" in response.body) is False
    assert (str(error) in response.body) is not isinstance(error, ZeroDivisionError)


async def test_whatever_an_error_says_there_is_a_page_of_it() -> None:
    async with anyio.create_task_group() as group:
        sitting = Sitting(group)
        sitting.authority.error = SignInError("\udc80 <&> " + "<" * 50_000)
        await sitting.opened()
        response = Response(await exchange(sitting.port, request(sitting.port)))
        await sitting.over()
    response.check()
    assert "? &lt;&amp;&gt; &lt;" in response.body
    assert len(response.body) < 6000, "it fits in the smallest buffer that a system has"


async def test_what_it_costs_to_redeem_is_not_the_person_s_time() -> None:
    async with anyio.create_task_group() as group:
        sitting = await Sitting(group, timeout=100.0).opened()
        await exchange(sitting.port, request(sitting.port))
        await sitting.over()
    assert sitting.authority.deadlines == [float("inf")]


async def test_it_redeems_in_the_caller_s_own_context() -> None:
    variable = ContextVar[str]("variable", default="nobody's")
    seen: list[str] = []

    class Looking(Authority):
        async def redeem_authorization(self, flow: SignInFlow, params: Mapping[str, str]) -> Acquired:
            seen.append(variable.get())
            return await super().redeem_authorization(flow, params)

    async with anyio.create_task_group() as group:
        variable.set("the caller's")
        sitting = await Sitting(group, Looking()).opened()
        await exchange(sitting.port, request(sitting.port))
        await sitting.over()
    assert seen == ["the caller's"]


async def test_one_strategy_serves_several_sign_ins_at_once() -> None:
    used: dict[str, Authority] = {}

    async def use(url: str) -> None:
        authority = used[url]
        port = port_of(authority)
        wrong = [request(port, {**FORM, "state": other.state}) for other in used.values() if other is not authority]
        for data in wrong:
            assert Response(await exchange(port, data)).status == 400
        await exchange(port, request(port, {**FORM, "state": authority.state}))

    browser = Browser(open=use)
    async with anyio.create_task_group() as group:
        for number in range(4):
            authority = Authority(state=f"state{number}", auth_uri=f"https://h/{number}")
            used[authority.auth_uri] = authority
            group.start_soon(browser.sign_in, authority, ASKED)
    assert [len(authority.redeemed) for authority in used.values()] == [1] * 4
    assert len({port_of(authority) for authority in used.values()}) == 4


# -- what users' functions raise, and what must not be shown ---------------------------------------------------------


@pytest.mark.parametrize("which", ["open", "on_url"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_function_of_the_user_s_raises_is_the_cause(which: str, is_async: bool) -> None:
    error = OSError("no display")

    def broken(_url: str) -> None:
        raise error

    async def broken_later(_url: str) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    authority = Authority()
    with pytest.raises(SignInError, match=f"{which} failed.*OSError") as caught:
        await sign_in(authority, **{"open": lambda _: False, which: broken_later if is_async else broken})
    assert caught.value.code == "not_opened"
    assert caught.value.__cause__ is error
    assert await nobody_listens(port_of(authority))


async def test_an_exception_that_is_its_own_cause_is_looked_at_once() -> None:
    def broken(_url: str) -> None:
        first, second = OSError("first"), OSError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    with pytest.raises(SignInError, match=r"open failed.*OSError") as caught:
        await sign_in(Authority(), open=broken)
    assert str(caught.value.__cause__) == "first"


def fails_to_start(url: str) -> None:
    raise subprocess.CalledProcessError(1, ["firefox", url])


def fails_in_a_group(url: str) -> None:
    raise ExceptionGroup("several", [OSError("harmless"), ValueError(url)])


def fails_with_a_note(url: str) -> None:
    error = OSError("no display")
    error.add_note(f"while opening {url}")
    raise error


def fails_because_of_another(url: str) -> None:
    try:
        fails_to_start(url)
    except subprocess.CalledProcessError:
        raise OSError("no display") from None


def fails_on_the_state(url: str) -> None:
    raise KeyError(STATE)


def fails_to_say_what(_url: str) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    raise Mute


TELLTALES = [
    fails_to_start,
    fails_in_a_group,
    fails_with_a_note,
    fails_because_of_another,
    fails_on_the_state,
    fails_to_say_what,
]


@pytest.mark.parametrize("which", ["open", "on_url"])
@pytest.mark.parametrize("broken", TELLTALES)
async def test_what_holds_the_url_is_withheld(broken: Any, which: str) -> None:
    with pytest.raises(SignInError, match=f"{which} failed.*withheld") as caught:
        await sign_in(Authority(), **{"open": lambda _: False, which: broken})
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    "end", ["no browser", "timeout", "not redeemed", "forged", *[each.__name__ for each in TELLTALES]]
)
async def test_neither_url_nor_state_nor_code_is_shown_anywhere(end: str, caplog: pytest.LogCaptureFixture) -> None:
    broken = {each.__name__: each for each in TELLTALES}
    options: dict[str, Any] = {"no browser": {"open": lambda _: False}, "timeout": {"timeout": 0.01}}.get(end, {})
    if end in broken:
        options = {"open": broken[end]}
    with caplog.at_level(logging.DEBUG):
        async with anyio.create_task_group() as group:
            sitting = Sitting(group, **options)
            if end == "not redeemed":
                sitting.authority.error = SignInError("no")
                await sitting.opened()
                await exchange(sitting.port, request(sitting.port))
            elif end == "forged":
                await sitting.opened()
                await exchange(sitting.port, request(sitting.port, {**FORM, "state": "x"}))
                sitting.leave()
            await sitting.over()
    shown = [record.getMessage() + str(record.exc_info) for record in caplog.records]
    if sitting.error is not None:
        shown += everything_in(sitting.error)
    shown.append(repr(Browser()))
    shown.append(repr(Expected(1, STATE)))
    for text in shown:
        assert STATE not in text
        assert "n0nce" not in text
        assert FORM["code"] not in text


# -- this machine's browser ------------------------------------------------------------------------------------------


class SystemBrowser:
    """What `webbrowser.get()` returns."""

    def __init__(self, name: str = "", opens: bool | Exception = True) -> None:
        self.name = name
        self.opens = opens
        self.opened: list[tuple[str, int]] = []

    def open(self, url: str) -> bool:
        self.opened.append((url, threading.get_ident()))
        if isinstance(self.opens, Exception):
            raise self.opens
        return self.opens


@pytest.mark.parametrize("name", ["", "firefox", "/usr/bin/x-www-browser"])
async def test_this_machine_s_browser_is_opened_in_a_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = SystemBrowser(name)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    with anyio.fail_after(PATIENCE):
        assert await _system_browser.open_browser(URL) is True
    ((url, thread),) = browser.opened
    assert url == URL
    assert thread != threading.get_ident()


@pytest.mark.parametrize("name", ["lynx", "/usr/bin/w3m", "elinks", "www-browser"])
async def test_a_browser_in_the_terminal_counts_as_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = SystemBrowser(name)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    monkeypatch.setattr(_system_browser.shutil, "which", {"www-browser": "/usr/bin/links2"}.get)
    assert await _system_browser.open_browser(URL) is False
    assert browser.opened == []


@pytest.mark.parametrize(
    "opens", [False, OSError(URL), webbrowser.Error("could not locate runnable browser")], ids=repr
)
async def test_a_browser_that_cannot_be_opened_counts_as_none(
    opens: bool | Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: SystemBrowser(opens=opens))
    with caplog.at_level(logging.DEBUG):
        assert await _system_browser.open_browser(URL) is False
    assert STATE not in caplog.text


async def test_a_browser_that_is_open_until_it_is_closed_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, close = threading.Event(), threading.Event()

    class Blocking(SystemBrowser):
        def open(self, url: str) -> bool:
            opened.set()
            return close.wait(PATIENCE)

    monkeypatch.setattr(webbrowser, "get", Blocking)
    try:
        async with anyio.create_task_group() as group:
            sitting = Sitting(group, open=None)
            await anyio.to_thread.run_sync(opened.wait, PATIENCE)
            await exchange(sitting.port, request(sitting.port))
            await sitting.over()
        assert sitting.value is DONE
    finally:
        close.set()


def test_a_browser_that_stays_open_does_not_hold_up_the_end_of_the_program() -> None:
    program = """
    import asyncio, threading, webbrowser
    from aiomsal.sign_in._system_browser import open_browser

    opened = threading.Event()

    class Blocking:
        def open(self, url):
            opened.set()
            threading.Event().wait()

    webbrowser.get = Blocking

    async def main():
        task = asyncio.create_task(open_browser("https://h"))
        await asyncio.to_thread(opened.wait)
        task.cancel()

    asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], timeout=PATIENCE, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": "8400"}, "port"),
        ({"port": True}, "port"),
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"timeout": None}, "timeout"),
        ({"timeout": "60"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"open": "firefox"}, "open"),
        ({"on_url": 1}, "on_url"),
    ],
    ids=str,
)
def test_what_cannot_be_right_is_refused_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Browser(**options)


def test_a_browser_says_its_port_and_no_more() -> None:
    assert repr(Browser(port=8400, open=print)) == "Browser(port=8400)"


async def test_a_function_is_called_on_the_event_loop() -> None:
    threads: list[int] = []

    def show(_argument: str) -> str:
        threads.append(threading.get_ident())
        return "shown"

    assert await _callbacks.call(show, "x", name="show", code="c", secrets=()) == "shown"
    assert threads == [threading.get_ident()]
