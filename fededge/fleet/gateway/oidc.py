"""Access tokens of an identity provider: signed JWTs (RFC 9068) whose keys are found by OpenID Connect Discovery 1.0."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from fededge.errors import GatewayError, StorageError, shown
from fededge.fleet.gateway.settings import Oidc

DISCOVERY = ".well-known/openid-configuration"
LEEWAY = 60  # seconds by which two clocks may differ
LARGEST_ANSWER = 1 << 20
PAUSE = 60.0  # seconds between two looks for a key that nobody has heard of
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Provider:
    """An identity provider, whose keys are kept for a while.

    Args:
        settings: what is asked of its tokens.
        clock: seconds; never goes back.

    Raises:
        GatewayError: its URL is not HTTPS.
        StorageError: the file of its CA cannot be read.
    """

    def __init__(self, settings: Oidc, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        _check_url(settings.issuer)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise StorageError(
                f"cannot read the identity provider's CA {settings.ca_file}: {error}. Name a PEM file"
            ) from error
        self._client = httpx.AsyncClient(verify=context, timeout=10)
        self._keys: KeySet | None = None
        self._fetched = -float("inf")
        self._fetching = asyncio.Lock()

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of `token`, once it is proven to be the provider's, for this gateway, and good now.

        Raises:
            GatewayError: it is not (401), or the provider cannot be asked for its keys (503).
        """
        try:
            return self._checked(token, await self._current(self._settings.keys_seconds))
        except InvalidKeyIdError:
            keys = await self._current(PAUSE)
        except (JoseError, ValueError) as error:
            raise _refused(error) from None
        try:
            return self._checked(token, keys)
        except (JoseError, ValueError) as error:
            raise _refused(error) from None

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    def _checked(self, token: str, keys: KeySet) -> dict[str, Any]:
        claims = jwt.decode(token, keys, algorithms=list(self._settings.algorithms)).claims
        self._claims.validate(claims)
        return claims

    async def _current(self, seconds: float) -> KeySet:
        """The provider's keys, no older than `seconds`."""
        async with self._fetching:
            if self._keys is None or self._clock() - self._fetched > seconds:
                self._keys = await self._fetch()
                self._fetched = self._clock()
            return self._keys

    async def _fetch(self) -> KeySet:
        issuer = self._settings.issuer
        about = await self._get(f"{issuer.rstrip('/')}/{DISCOVERY}")
        if about.get("issuer") != issuer:
            raise _unavailable(f"it calls itself {shown(str(about.get('issuer')))}, not {issuer}")
        address = str(about.get("jwks_uri"))
        _check_url(address)
        try:
            return KeySet.import_key_set(await self._get(address))  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise _unavailable(f"its keys cannot be read ({type(error).__name__})") from error

    async def _get(self, url: str) -> dict[str, Any]:
        body = b""
        try:
            async with self._client.stream("GET", url) as response:
                response.raise_for_status()
                async for block in response.aiter_bytes():
                    body += block
                    if len(body) > LARGEST_ANSWER:
                        raise _unavailable(f"{shown(url)} answers with more than {LARGEST_ANSWER:,} bytes")
            content = json.loads(body)
        except (httpx.HTTPError, ValueError, RecursionError) as error:
            raise _unavailable(f"{shown(url)}: {shown(str(error)) or type(error).__name__}") from error
        if not isinstance(content, dict):
            raise _unavailable(f"{shown(url)} is no JSON object")
        return content


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise GatewayError(
            f"the identity provider's URL {shown(url)} is not HTTPS: its keys could be anybody's",
            "UNAVAILABLE",
            503,
        )


def _refused(error: Exception) -> GatewayError:
    # Only the kind of mistake: a message may quote the token.
    return GatewayError(
        f"the identity provider's token is not accepted ({type(error).__name__}): get a new one for this gateway",
        "UNAUTHORIZED",
        401,
    )


def _unavailable(why: str) -> GatewayError:
    return GatewayError(
        f"the identity provider cannot be asked for its keys: {why}. Try again", "UNAVAILABLE", 503
    )
