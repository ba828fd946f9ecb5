"""One object for what is equal in many tokens: of 100,000 held, most name the same tenants, scopes and users.

Each answer is parsed anew, so each would bring its own copies. The memos are bounded and hold nothing secret; whoever
gets an older copy back, or a new one after it was dropped, gets an equal one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from aiomsal._token import Account

KEPT: Final = 1_024
"""How many of each are remembered."""


@lru_cache(KEPT)
def shared(text: str) -> str:
    """The same text: a tenant, an environment, a token type."""
    return text


@lru_cache(KEPT)
def shared_scopes(granted: str) -> tuple[str, ...]:
    """The scopes in an answer's `scope`, sorted and each once."""
    return tuple(sorted({shared(scope) for scope in granted.split()}))


@lru_cache(KEPT)
def shared_account(home_account_id: str, environment: str, username: str, tenant_id: str) -> Account:
    """The account of these fields."""
    return Account(home_account_id, shared(environment), username, shared(tenant_id))
