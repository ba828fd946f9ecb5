"""Functions of the user's that fail: whose cancellation it was, and that nothing secret is left in what is raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from aiomsal import SignInError
from aiomsal.sign_in._callbacks import call

if TYPE_CHECKING:
    from types import TracebackType

URL = "https://authority.example/authorize?state=a-state"


def locals_in(traceback: TracebackType | None) -> str:
    shown = ""
    while traceback is not None:
        shown += repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next
    return shown


@pytest.mark.anyio
async def test_neither_words_nor_frames_of_a_failure_hold_the_url() -> None:
    def show(_url: str) -> None:
        del _url
        raise OSError("no screen")

    with pytest.raises(SignInError) as caught:
        await call(show, URL, name="open", code="not_opened", secrets=("a-state",))
    assert isinstance(caught.value.__cause__, OSError)
    assert "a-state" not in locals_in(caught.value.__cause__.__traceback__)


async def test_a_task_of_the_users_own_that_was_cancelled_is_a_failure_of_theirs() -> None:
    async def show(_url: str) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(SignInError, match="CancelledError") as caught:
        await call(show, URL, name="on_code", code="not_shown", secrets=())
    assert caught.value.code == "not_shown"


@pytest.mark.anyio
async def test_who_is_cancelled_while_it_is_shown_is_cancelled() -> None:
    shown, ended = anyio.Event(), []

    async def show(_url: str) -> None:
        shown.set()
        await anyio.sleep_forever()

    async def caller() -> None:
        try:
            await call(show, URL, name="open", code="not_opened", secrets=())
        except BaseException as error:
            ended.append(type(error))
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(caller)
        await shown.wait()
        cancelled = anyio.get_cancelled_exc_class()
        group.cancel_scope.cancel()
    assert ended == [cancelled]
