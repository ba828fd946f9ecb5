"""A person enters a device's code in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiomsal import DeviceCode, SignInError
from tests.end_to_end.support import ANN, Person, crowd, one_token, settle, until

from .support import PASSWORD, program

if TYPE_CHECKING:
    from aiomsal import DevicePrompt, TokenManager
    from tests.end_to_end.support import House

    from .chromium import Chromium
    from .conftest import Ask

CODE, POLL = "devicecode", "token.device_code"


@pytest.fixture
def person() -> Person:
    """Reads the code; the polls wait for the test."""
    return Person(patient=True)


@pytest.fixture
def tokens(house: House, person: Person) -> TokenManager:
    return program(house, DeviceCode(person.told, sleep=person.sleep, clock=house.clock))


async def shown(person: Person) -> DevicePrompt:
    await until(lambda: person.waits == 1)
    [prompt] = person.prompts
    return prompt


async def test_a_person_enters_the_code_signs_in_and_approves(
    house: House, chromium: Chromium, person: Person, tokens: TokenManager, ask: Ask
) -> None:
    asking = ask(crowd(200, tokens.get, "User.Read"))
    prompt = await shown(person)
    await chromium.visit(prompt.verification_uri)
    await chromium.types(user_code="NOT-THIS-ONE")
    await chromium.clicks("next")
    assert "did not work" in await chromium.text("message")
    await chromium.types(user_code=prompt.user_code)
    await chromium.clicks("next")
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees("Sign in on your device?")
    assert await chromium.text("user") == ANN
    await settle()
    assert not asking.done()
    await chromium.clicks("approve")
    await chromium.sees("You have signed in")
    person.let_poll()
    token = one_token(await asking)
    assert token.account is not None
    assert token.account.username == ANN
    assert (len(person.prompts), house.entra.count(CODE), house.entra.count(POLL)) == (1, 1, 1)


async def test_who_declines_is_told_so_on_both_sides(
    house: House, chromium: Chromium, person: Person, tokens: TokenManager, ask: Ask
) -> None:
    asking = ask(tokens.get("User.Read"))
    prompt = await shown(person)
    await chromium.visit(prompt.verification_uri)
    await chromium.types(user_code=prompt.user_code)
    await chromium.clicks("next")
    await chromium.signs_in(ANN, PASSWORD)
    await chromium.sees("Sign in on your device?")
    await chromium.clicks("decline")
    await chromium.sees("You have declined")
    person.let_poll()
    with pytest.raises(SignInError) as caught:
        await asking
    assert caught.value.code == "authorization_declined"
    assert (house.entra.count(CODE), house.entra.count(POLL)) == (1, 1)
    assert await tokens.accounts() == ()
