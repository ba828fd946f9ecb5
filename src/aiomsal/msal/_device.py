"""MSAL's device flow, one poll at a time: the waiting between them is done on the event loop."""

from __future__ import annotations

import inspect
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._desk import Process

    Flow = dict[str, Any]

PENDING: Final = frozenset({"authorization_pending", "slow_down"})
SLOWER: Final = 5
"""Seconds more between polls that come too fast (RFC 8628 section 3.5)."""

sleep = anyio.sleep  # a seam


class Ask(Protocol):
    """One poll, by MSAL."""

    def __call__(self, application: Any, /, *, flow: Flow) -> dict[str, Any]: ...


def expired(flow: Flow) -> bool:
    """MSAL's own `exit_condition`: the caller may end the polling by `flow["expires_at"] = 0`."""
    return bool(flow.get("expires_at", 0) < time.time())


async def poll(
    process: Process,
    flow: Flow,
    ask: Ask,
    exit_condition: Callable[[Flow], object],
) -> dict[str, Any]:
    """What MSAL returns when the person has decided, or when the exit condition, asked each second, ends it.

    Args:
        process: whose application is asked.
        flow: as `initiate_device_flow` returned it, and changed as MSAL changes it.
        ask: polls once, with a flow that stands for this one.
        exit_condition: called on the event loop; it may be async.
    """
    while True:
        once = {**flow, "interval": max(1, flow.get("interval", SLOWER))}  # MSAL polls without end at an interval of 0
        result = await process.hop(partial(ask, flow=once))
        flow["latest_attempt_at"] = once.get("latest_attempt_at")
        if result.get("error") == "slow_down":
            flow["interval"] = flow.get("interval", SLOWER) + SLOWER
        if result.get("error") not in PENDING:
            return result
        for _ in range(max(1, flow.get("interval", SLOWER))):
            enough = exit_condition(flow)
            if inspect.isawaitable(enough):  # whoever migrates makes it async, as all else
                enough = await enough
            if enough:
                return result
            await sleep(1)
