"""Scopes, as the v2.0 endpoint reads them."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import RefusedError, missing

GRAPH = "https://graph.microsoft.com"
OPENID_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})


@dataclass(frozen=True)
class Scopes:
    """What was asked: permissions of one resource, and OpenID Connect's own."""

    resource: str
    """The audience of the access token. A scope without a resource is Microsoft Graph's."""
    permissions: tuple[str, ...]
    """Without their resource: "User.Read", ".default"."""
    asked: tuple[str, ...]
    """As they were written, sorted."""
    openid: frozenset[str]

    @classmethod
    def parse(cls, text: str, *, for_token: bool = True) -> Scopes:
        """Read the parameter "scope", or refuse it. A token is for one resource; the sign-in page may name several."""
        asked = tuple(sorted(set(text.split())))
        if not asked:
            raise missing("scope")
        ours = [scope for scope in asked if scope not in OPENID_SCOPES]
        split = [_split(scope) for scope in ours]
        resources = {resource for resource, _ in split}
        permissions = tuple(permission for _, permission in split)
        if len(resources) > 1 and for_token:
            raise RefusedError(70011, f"The scopes '{' '.join(ours)}' belong to more than one resource: ask for one.")
        if ".default" in permissions and len(permissions) > len(resources):
            raise RefusedError(70011, f"'.default' cannot be combined with other scopes of a resource: '{text}'.")
        return cls(next(iter(resources), GRAPH), permissions, asked, OPENID_SCOPES.intersection(asked))

    @property
    def granted(self) -> str:
        """Return the parameter "scope" of the answer: all but offline_access, which Entra leaves out."""
        return " ".join(scope for scope in self.asked if scope != "offline_access")

    def contains(self, scope: str) -> bool:
        """Say whether a scope, with its resource or without, is among those asked."""
        asked = {_split(each) for each in self.asked if each not in OPENID_SCOPES}
        return scope in self.openid or _split(scope) in asked


def _split(scope: str) -> tuple[str, str]:
    resource, slash, permission = scope.rpartition("/")
    if not permission or (slash and not resource):
        raise RefusedError(70011, f"The scope '{scope}' is not valid: it is a resource, '/' and a permission.")
    return resource or GRAPH, permission
