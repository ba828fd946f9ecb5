"""No token, refresh token or ID token is in a repr, a log record, an error's text or the counts."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

import anyio

from aiomsal import AuthorityError, InteractionRequired, Token
from aiomsal._client import Acquired
from aiomsal._records import new_session
from tests.core.manager_support import ALICE, BOB, Call, SharedStore, people, settle

if TYPE_CHECKING:
    import pytest

SECRET = "TOPSECRET"


async def test_nothing_that_is_shown_contains_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    store = SharedStore()
    rig = people(store=store)
    shown: list[Any] = []
    session = rig.client.sign_in_session(ALICE, f"{SECRET}-refresh", 1)
    async with anyio.create_task_group() as group:
        Call(group, rig.tokens.sign_in, "openid")
        (await rig.asking()).land(f"{SECRET}-sign-in", account=ALICE, session=session)
    token = await rig.hold("mail", landing={"value": f"{SECRET}-access"})
    assert SECRET in token.value
    shown += [token, Acquired(token, session), new_session(session), rig.client.acquisitions, rig.client.sign_ins]
    rig.clock.advance(3400)
    store.failing = {"set", "lock"}
    await rig.tokens.get("mail")
    acquisition = await rig.parked()
    shown += [acquisition, rig.tokens._flights, *rig.tokens._flights._flights()]
    acquisition.fail(RuntimeError(f"{SECRET} in an error of somebody else"))
    await settle()
    store.failing = set()
    for key in store.of("session"):
        store.values[key] = SECRET.encode()
    errors = []
    for failing in (rig.tokens.get("x", account=BOB), rig.tokens.get("x", account="")):
        async with anyio.create_task_group() as group:
            call = Call(group, lambda failing=failing: failing)
            await settle()
            for each in rig.client.sign_ins.parked:
                each.land(f"{SECRET}-wrong", account=ALICE)
            await settle()
        errors.append(call.error)
    async with anyio.create_task_group() as group:
        call = Call(group, rig.tokens.get_silent, "mail", rejected=Token(f"{SECRET}-r", 0.0, 0.0))
        await settle()
        for each in rig.client.parked:
            each.fail(InteractionRequired("no"))
    source = rig.tokens.source("mail")
    shown += [
        rig.tokens,
        source,
        rig.tokens.stats(),
        rig.tokens._hot,
        rig.tokens._sessions,
        rig.tokens._shelf,
        rig.client,
    ]
    shown += [rig.tokens._flights, rig.tokens._people, AuthorityError("no"), call.outcome]
    for thing in shown:
        assert SECRET not in repr(thing)
        assert SECRET not in str(thing)
    for error in errors:
        assert SECRET not in "".join(traceback.format_exception(error))
    assert len(caplog.records) >= 3
    for record in caplog.records:
        assert SECRET not in record.getMessage()
        assert SECRET not in repr(record.args)
        assert record.exc_info is None
    assert all(SECRET not in key for key in store.values)
