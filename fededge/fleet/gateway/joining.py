"""What is said to clients that prove who they are, and to those that are refused: whatever their messages come over."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fededge.errors import FedEdgeError, GatewayError, ProtocolError, RegistryError, shown
from fededge.fleet.functions import monitoring
from fededge.fleet.functions.monitoring import Connected
from fededge.fleet.gateway.observing import log, span
from fededge.fleet.gateway.service import Service, now
from fededge.protocol import Cancel, Hello, Refused, Welcome, agreed, connection_bytes
from fededge.protocol.fields import Said

TEXT = 500
"""Most characters of what a client is told."""


async def joined(
    service: Service, hello: Hello, nonce: bytes, gateway: str, heartbeat_seconds: float
) -> Connected:
    """The session of a client that answers a challenge.

    Args:
        service: holds the registry.
        hello: the answer.
        nonce: of the challenge; `gateway`: its id, which holds the connection.
        heartbeat_seconds: how often the client will be heard.

    Raises:
        GatewayError: it is not enrolled, was revoked, or its proof is wrong.
    """
    with span("connect", client=hello.client, tenant=hello.tenant):
        key = await service.database.look(monitoring.key_of, hello.tenant, hello.client)
        if key is None or not _proven(hello, key, nonce, gateway):
            log.info("refused", client=hello.client, tenant=hello.tenant, known=key is not None)
            raise GatewayError(
                f"no client {shown(hello.client)} with this key is enrolled here, or it was revoked: enroll it",
                "REVOKED",
                403,
            )
        return await service.database.together(monitoring.connect, gateway, hello, heartbeat_seconds, now())


def welcome(hello: Hello, connected: Connected, heartbeat_seconds: float) -> list[Said]:
    """What is said to a client that is in.

    Raises:
        ProtocolError: it speaks no version that is spoken here.
    """
    met = Welcome(
        version=agreed(hello.oldest, hello.newest),
        session=connected.session,
        heartbeat_seconds=heartbeat_seconds,
        resumed=connected.resumed,
        region=connected.region,
    )
    return [met, *(Cancel(assignment=each, reason="nobody waits for it") for each in connected.forget)]


def refusal(service: Service, error: FedEdgeError, session: str | None) -> Refused:
    """What is said to a client whose message raised `error`."""
    if isinstance(error, RegistryError):
        log.error("registry", problem=str(error), session=session)
        retry = service.load.turn_away()
        told = "the registry does not answer: try again"
        return Refused(reason="UNAVAILABLE", message=told, retry_seconds=retry)
    if isinstance(error, ProtocolError | GatewayError):
        return Refused(reason=error.reason, message=str(error)[:TEXT])
    log.error("message", problem=str(error), session=session)
    return Refused(reason="FAILED", message="the gateway could not do that: try again", retry_seconds=1.0)


def _proven(hello: Hello, key: bytes, nonce: bytes, gateway: str) -> bool:
    told = connection_bytes(nonce, gateway, hello.tenant, hello.client)
    try:
        signature = base64.b64decode(hello.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, told)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
