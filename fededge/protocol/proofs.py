"""Bytes that keys sign to prove who is there, and the random key of selection: one definition for both sides."""

import hashlib


def enrollment_bytes(token: str, public_key: bytes) -> bytes:
    """What a new client's key signs when it enrolls: the token is worth nothing to who holds another key.

    Args:
        token: one-time, as the operator got it.
        public_key: Ed25519, 32 bytes.
    """
    return b"fededge enrollment 1\0" + hashlib.sha256(token.encode()).digest() + public_key


def connection_bytes(nonce: bytes, gateway: str, tenant: str, client: str) -> bytes:
    """What a client's key signs when it connects.

    Args:
        nonce: of the challenge.
        gateway: its id, so that no gateway can play the proof to another one.
        tenant, client: as whom it connects.
    """
    return b"\0".join([b"fededge connection 1", nonce, gateway.encode(), tenant.encode(), client.encode()])


def random_key(client: str) -> int:
    """The random number in [0, 2^63) by which a client lies in the order of selection (fededge.fleet.selection)."""
    return int.from_bytes(hashlib.sha256(f"fededge selection\0{client}".encode()).digest()[:8], "big") >> 1
