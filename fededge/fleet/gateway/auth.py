"""Who calls the HTTP API, and what they may do: bearer tokens (RFC 6750) of this gateway or of an identity provider."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from fededge.errors import GatewayError
from fededge.fleet.functions import operators
from fededge.fleet.gateway.database import Database
from fededge.fleet.gateway.oidc import Provider
from fededge.fleet.gateway.settings import Oidc
from fededge.protocol.api import Scope
from fededge.protocol.fields import Name

SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each allows what those before it allow."""
SEEN_SECONDS = 60.0
"""How old the time of a token's last use may be before it is written anew."""
LONGEST_TOKEN = 8192
LONGEST_ACTOR = 200
_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True)
class Actor:
    """Who calls.

    Attributes:
        tenant: whose clients, rounds and tokens it deals with.
        name: as the audit log has it.
        scope: what it may do.
    """

    tenant: str
    name: str
    scope: Scope

    def require(self, scope: Scope) -> None:
        """Raise GatewayError (403) unless this caller's scope covers `scope`."""
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            raise GatewayError(
                f"this needs a token of scope {scope}, and yours is of scope {self.scope}: use another",
                "FORBIDDEN",
                403,
            )


class Authentication:
    """Knows callers by their tokens.

    Args:
        database: holds the gateway's own tokens, as digests.
        provider: an identity provider, None for none.
        oidc: the provider's settings.
    """

    def __init__(self, database: Database, provider: Provider | None, oidc: Oidc | None) -> None:
        self._database = database
        self._provider = provider
        self._tenant_claim, self._scope_claim = (oidc.tenant_claim, oidc.scope_claim) if oidc else ("", "")
        self._accounts = oidc.accounts if oidc else {}

    async def actor(self, headers: Mapping[str, str]) -> Actor:
        """Who sends a request with these headers.

        Raises:
            GatewayError: nobody that is known here (401); or the provider cannot be asked (503).
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN:
            raise GatewayError(
                "send a token as Authorization: Bearer TOKEN; `fededge gateway token` makes one",
                "UNAUTHORIZED",
                401,
            )
        token = token.strip()
        if self._provider is not None and token.count(".") == 2:
            return self._from_claims(await self._provider.claims(token))
        at = time.time()
        found = await self._database.look(operators.token_of, token, at)
        if found is None:
            raise GatewayError(
                "this token is not known here, expired or revoked: ask an administrator for a new one",
                "UNAUTHORIZED",
                401,
            )
        if found.last_used is None or found.last_used + SEEN_SECONDS <= at:
            await self._database.together(operators.used, found.id, at)
        return Actor(found.tenant, found.name, found.scope)

    def _from_claims(self, claims: dict[str, Any]) -> Actor:
        name = f"oidc:{claims['sub']}"[:LONGEST_ACTOR]
        if (account := self._accounts.get(claims["sub"])) is not None:
            return Actor(account, name, "operator")
        try:
            tenant = _NAME.validate_python(claims.get(self._tenant_claim))
        except ValidationError as error:
            raise GatewayError(
                f"the token's claim {self._tenant_claim} names no tenant: have the provider set it",
                "FORBIDDEN",
                403,
            ) from error
        told = claims.get(self._scope_claim)
        words = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
        scopes = [scope for scope in SCOPES if scope in words]
        if not scopes:
            raise GatewayError(
                f"the token's claim {self._scope_claim} holds none of {', '.join(SCOPES)}: have the provider set it",
                "FORBIDDEN",
                403,
            )
        return Actor(tenant, name, scopes[-1])
