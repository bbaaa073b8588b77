"""The signed document by which devices take on another version of their own program (docs/guides/devices.md)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field

from fededge.documents.base import Digest, Document, NotNegative, Part, signed
from fededge.errors import ReleaseError

if TYPE_CHECKING:
    from fededge.signing import TrustedKey

PROGRAM = "fededge.agent"
"""What takes the place of a task's name where programs are released; no task can be called so."""


class ProgramBundle(Part):
    """The wheels (fededge.wheels) of one device class."""

    digest: Digest
    bytes: int = Field(ge=1, le=2 << 30)


class ProgramRelease(Document):
    """What program devices run.

    Attributes:
        version: of FedEdge, as its wheel has it.
        issued: seconds since the epoch; a device takes none that was issued no later than the one that it runs.
        bundles: by device class.
    """

    KIND: ClassVar = "program-release"
    REMEDY: ClassVar = "Release again (`fededge clients update`)"

    version: Annotated[str, Field(pattern=r"^[0-9][A-Za-z0-9._-]{0,63}$")]
    issued: NotNegative
    bundles: dict[str, ProgramBundle] = Field(min_length=1, max_length=1000)

    @classmethod
    def opened(cls, envelope: bytes, trusted: "TrustedKey") -> Self:
        """The release in `envelope`, once it is proven to be signed by `trusted`.

        Raises:
            IntegrityError: not signed by the trusted key, or changed since.
            ReleaseError: signed, but no release of a program, or one of a newer format.
        """
        return signed(cls, envelope, trusted)

    def bundle_for(self, device_class: str) -> ProgramBundle:
        """The bundle that devices of `device_class` install.

        Raises:
            ReleaseError: the release holds none for this class.
        """
        if device_class not in self.bundles:
            raise ReleaseError(
                f"release {self.version} of the program has nothing for device class {device_class!r} (it has "
                f"{sorted(self.bundles)}): release it for that class too"
            )
        return self.bundles[device_class]
