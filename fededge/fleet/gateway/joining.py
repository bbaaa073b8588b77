"""A client proves who it is, and gets a session: whatever its messages come over."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fededge.errors import GatewayError, shown
from fededge.fleet.functions import monitoring
from fededge.fleet.functions.monitoring import Connected
from fededge.fleet.gateway.observing import log, span
from fededge.fleet.gateway.service import Service, now
from fededge.protocol import Hello, connection_bytes


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
        key = await service.database.call(monitoring.key_of, hello.tenant, hello.client)
        if key is None or not _proven(hello, key, nonce, gateway):
            log.info("refused", client=hello.client, tenant=hello.tenant, known=key is not None)
            raise GatewayError(
                f"no client {shown(hello.client)} with this key is enrolled here, or it was revoked: enroll it",
                "REVOKED",
                403,
            )
        return await service.database.together(monitoring.connect, gateway, hello, heartbeat_seconds, now())


def _proven(hello: Hello, key: bytes, nonce: bytes, gateway: str) -> bool:
    told = connection_bytes(nonce, gateway, hello.tenant, hello.client)
    try:
        signature = base64.b64decode(hello.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, told)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
