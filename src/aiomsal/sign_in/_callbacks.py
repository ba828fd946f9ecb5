"""The functions that users give a strategy, to show something to the person."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeVar

from aiomsal._errors import SignInError
from aiomsal._spawn import being_cancelled, is_cancellation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def call(
    function: Callable[[T], Awaitable[object] | object], argument: T, *, name: str, code: str, secrets: tuple[str, ...]
) -> object:
    """Call it on the event loop, await what is to be awaited, and return what came of it.

    Raises:
        SignInError: it raised. Its exception is the cause, unless that has one of the secrets in its words: a command
            that failed has the URL it was given there.
    """
    cause: BaseException | None
    try:
        result = function(argument)
        return await result if inspect.isawaitable(result) else result
    except BaseException as error:
        # It is not ours, and may raise whatever it likes. A cancellation may be its own: that of a task it awaited.
        if not isinstance(error, Exception) and (not is_cancellation(error) or being_cancelled()):
            raise
        words = f"{name} failed, so the person does not know where to go: {type(error).__name__}"
        cause = _without_us(error)
        if _tells(error, secrets):
            words, cause = f"{words} (the rest of it is withheld, for it names what is not to be shown)", None
    failure = SignInError(words, code=code)
    try:
        raise failure from cause  # outside of the except clause: what is withheld is not to be its context
    finally:
        del failure, cause


def _without_us(error: BaseException) -> BaseException:
    """Without the frame of `call`, whose variables are the secrets."""
    return error.with_traceback(None if error.__traceback__ is None else error.__traceback__.tb_next)


def _tells(error: BaseException, secrets: tuple[str, ...]) -> bool:
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        try:
            words = f"{one} {one!r} {vars(one)}"  # notes are among its variables, members of a group in its repr
        except Exception:  # noqa: BLE001 -- so it cannot be shown anyway
            return True
        if any(secret in words for secret in secrets):
            return True
        todo += [one.__cause__, one.__context__]
    return False
