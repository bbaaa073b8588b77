"""Signed JSON documents: Ed25519 (RFC 8032) over the exact bytes of the payload.

An envelope is a JSON object with three strings: `payload` (JSON text, signed byte for byte as UTF-8),
`signature` (base64) and `key` (digest of the raw public key). A reader trusts one public key, which
it holds beforehand; the envelope's `key` only makes a refusal understandable.
"""

import base64
import binascii
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fededge import settings, storage
from fededge.errors import IntegrityError, StorageError

LIMIT = 1 << 18
KEY_LIMIT = 1 << 14


class Envelope(BaseModel):
    """A signed payload as it is stored and sent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    payload: str = Field(max_length=LIMIT)
    signature: str = Field(max_length=88)
    key: str = Field(max_length=71)


class TrustedKey:
    """A public key that its holder decided to trust.

    Attributes:
        raw: the 32 bytes of the public key.
        id: `sha256:` digest of them.
    """

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.id = storage.digest(self.raw)

    @classmethod
    def load(cls, path: str | Path) -> "TrustedKey":
        """The Ed25519 public key in the PEM file `path`.

        Raises:
            StorageError: the file cannot be read.
            IntegrityError: it holds something else.
        """
        data = storage.read(str(path), KEY_LIMIT)
        try:
            key = serialization.load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise IntegrityError(
                f"{path} is not a PEM public key. Copy the .pub.pem file of the signer"
            ) from error
        if not isinstance(key, Ed25519PublicKey):
            raise IntegrityError(
                f"{path} holds a key of another kind than Ed25519. Copy the signer's .pub.pem file"
            )
        return cls(key)

    @property
    def pem(self) -> bytes:
        """The text of its PEM file."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def verify(self, data: bytes) -> dict[str, Any]:
        """The payload of the envelope `data`, once its signature is proven to be by this key.

        Raises:
            IntegrityError: `data` is too large, not an envelope, signed by another key, or changed.
        """
        if len(data) > LIMIT:
            raise IntegrityError(
                f"signed document of {len(data):,} bytes is larger than the {LIMIT:,} accepted"
            )
        try:
            envelope = Envelope.model_validate_json(data)
            signature = base64.b64decode(envelope.signature, validate=True)
        except (ValidationError, binascii.Error, ValueError) as error:
            raise IntegrityError("not a signed document, or cut short. Publish it again") from error
        if envelope.key != self.id:
            raise IntegrityError(
                f"signed by key {envelope.key!r} but only {self.id} is trusted here. "
                "Sign with the trusted key, or give the signer's public key file"
            )
        try:
            self._key.verify(signature, envelope.payload.encode())
            payload = json.loads(envelope.payload)
        except (InvalidSignature, ValueError, RecursionError) as error:
            raise IntegrityError(
                f"the signature by {self.id} does not fit the payload: it was changed after signing. "
                "Publish it again from a trusted run"
            ) from error
        if not isinstance(payload, dict):
            raise IntegrityError(f"signed payload is a {type(payload).__name__}, not a JSON object")
        return payload


class SigningKey:
    """The private key that signs. Its text forms never show it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = TrustedKey(key.public_key())

    def __repr__(self) -> str:
        return f"SigningKey({self.public.id})"

    @classmethod
    def create(cls, path: str | Path) -> "SigningKey":
        """Make a key in the new PEM file `path` (mode 0600) and its public key beside it.

        The file appears whole or not at all, and a key that is there already is never replaced.

        Raises:
            StorageError: `path` exists or cannot be written.
        """
        path = Path(path)
        made = cls(Ed25519PrivateKey.generate())
        text = made._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot create signing key {path}: {error.strerror}. "
                "Choose a new file in a folder with space that you may write"
            ) from error
        made.export_public(public_file(path))
        return made

    @classmethod
    def load(cls, path: str | Path) -> "SigningKey":
        """The Ed25519 private key in the PEM file `path`.

        Raises:
            StorageError: the file cannot be read.
            IntegrityError: it holds something else.
        """
        data = storage.read(str(path), KEY_LIMIT)
        try:
            key = serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # No cause: a parser's message may quote what it read.
            raise IntegrityError(f"{path} is not an unencrypted PEM private key. Make a new one") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise IntegrityError(f"{path} holds a key of another kind than Ed25519. Make a new one")
        return cls(key)

    @classmethod
    def load_or_create(cls, path: str | Path) -> "SigningKey":
        """The key in `path`, made there first where none is; for machines without a key service."""
        path = Path(path)
        if not path.exists():
            try:
                return cls.create(path)
            except StorageError:
                if not path.exists():  # else another process made it meanwhile
                    raise
        key = cls.load(path)
        if not public_file(path).exists():
            key.export_public(public_file(path))
        return key

    @classmethod
    def for_releases(cls) -> "SigningKey":
        """The key in FEDEDGE_SIGNING_KEY_FILE. On a machine without a cluster it is made on first use.

        Raises:
            StorageError: on a cluster, the key was not mounted; or it cannot be read or made.
        """
        path = settings.signing_key_file()
        if settings.platform() == "local":
            return cls.load_or_create(path)
        if not path.exists():
            raise StorageError(
                f"no signing key at {path}. Mount the secret that holds it and name the file in "
                "FEDEDGE_SIGNING_KEY_FILE"
            )
        return cls.load(path)

    def export_public(self, path: str | Path) -> None:
        """Write the public key as PEM to `path`: the file that devices are given to trust."""
        storage.write(str(path), self.public.pem)

    def sign(self, payload: dict[str, Any]) -> bytes:
        """The envelope of `payload`; the same payload always gives the same bytes.

        Raises:
            IntegrityError: the payload is not JSON (such as NaN), or too large to be accepted.
        """
        try:
            text = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise IntegrityError(f"cannot sign what is not JSON: {error}") from error
        signature = base64.b64encode(self._key.sign(text.encode())).decode()
        content = {"payload": text, "signature": signature, "key": self.public.id}
        data = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        if len(data) > LIMIT:
            raise IntegrityError(
                f"payload of {len(text):,} characters is too large to sign ({LIMIT:,} accepted)"
            )
        return data

    def proof(self, data: bytes) -> str:
        """The signature over `data` itself, in base64: shows who holds this key (fededge.protocol.proofs)."""
        return base64.b64encode(self._key.sign(data)).decode()


def public_file(path: str | Path) -> Path:
    """Where the public key of the signing key file `path` lies: release.pem -> release.pub.pem."""
    return Path(path).with_suffix(".pub.pem")
