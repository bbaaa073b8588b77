"""Who a client is, in `identity.json` of its folder, written when it was enrolled (fededge.device.enrollment).

<folder>/key.pem        Ed25519 private key, mode 0600; key.pub.pem beside it
<folder>/identity.json  the document `identity`
"""

import ssl
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from fededge.device.addresses import Address
from fededge.documents import Document
from fededge.errors import SiteError
from fededge.protocol.api import ClientKind
from fededge.protocol.fields import Digest, Name

KEY = "key.pem"
IDENTITY = "identity.json"


class Identity(Document):
    """Who a client is, and where its gateway is.

    Attributes:
        gateway: its URL; `plain`: whether the owner allowed plain HTTP to it.
        tenant, client, kind, region: as the gateway said.
        key: digest of the public key.
        authorities: PEM file of the CAs that prove the gateway; None: the system's.
    """

    KIND: ClassVar = "identity"
    LIMIT: ClassVar = 1 << 14
    REMEDY: ClassVar = "Enroll again, in another folder"

    gateway: Annotated[str, Field(max_length=4096)]
    plain: bool = False
    tenant: Name
    client: Name
    kind: ClientKind
    region: Name | None = None
    key: Digest
    authorities: str | None = None

    @property
    def address(self) -> Address:
        """The gateway's. Raises SiteError where it is none."""
        return Address.of(self.gateway, self.plain)

    @property
    def tls(self) -> ssl.SSLContext:
        """How to prove its certificate. Raises SiteError where the CAs cannot be read."""
        return self.address.tls(Path(self.authorities) if self.authorities else None)


def identity_in(folder: Path) -> Identity:
    """Who the client in `folder` is.

    Raises:
        SiteError: it is not enrolled.
    """
    if not (folder / IDENTITY).exists():
        raise SiteError(
            f"{folder} holds no enrolled client: `fededge site enroll GATEWAY` or `fededge agent enroll GATEWAY` makes "
            "it one"
        )
    return Identity.read(folder / IDENTITY)
