"""The digest of an object in HTTP: the header Repr-Digest (RFC 9530, Digest Fields, section 3) with SHA-256."""

import base64
import re

HEADER = "Repr-Digest"
_VALUE = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


def to_header(digest: str) -> str:
    """The header's value for `digest`, `sha256:` and 64 hexadecimal digits."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest.removeprefix('sha256:'))).decode()}:"


def from_header(value: str) -> str | None:
    """The digest that the header's `value` tells; None where it tells no SHA-256, or others besides."""
    told = _VALUE.fullmatch(value)
    return f"sha256:{base64.b64decode(told[1]).hex()}" if told else None
