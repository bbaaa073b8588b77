"""Keys of clients: Ed25519 (RFC 8032), and proof of them."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fededge.errors import GatewayError
from fededge.protocol import Enrollment, enrollment_bytes

P = 2**255 - 19
"""The prime of Curve25519."""
_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
LOW_ORDER = frozenset({0, 1, P - 1, _EIGHT, P - _EIGHT})
"""y-coordinates of the points of Ed25519 whose order divides 8: signatures that fit such keys prove nothing."""


def proven_key(enrollment: Enrollment) -> bytes:
    """The public key that asks to be enrolled, once it is proven that somebody holds its private half.

    Raises:
        GatewayError: it is no key, one that proves nothing, or did not sign.
    """
    try:
        key = base64.b64decode(enrollment.public_key, validate=True)
        signature = base64.b64decode(enrollment.signature, validate=True)
    except binascii.Error as error:
        raise GatewayError("the key or its signature is not base64", "KEY", 400) from error
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    if len(key) != 32 or y >= P or y in LOW_ORDER:
        raise GatewayError("this is no Ed25519 key that proves anything: make a new one", "KEY", 400)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, enrollment_bytes(enrollment.token, key))
    except (InvalidSignature, ValueError) as error:
        raise GatewayError("the key did not sign this enrollment", "PROOF", 403) from error
    return key
