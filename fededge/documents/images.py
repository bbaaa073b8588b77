"""The document that says which bytes the images are."""

from typing import Annotated, ClassVar

from pydantic import Field

from fededge.documents.base import Document
from fededge.errors import DocumentError

Reference = Annotated[str, Field(pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$")]


class ImageDigests(Document):
    """The images that steps and endpoints run in, each named by its digest, by name.

    Attributes:
        images: such as {"worker": "registry.example/fededge/worker@sha256:..."}.
    """

    KIND: ClassVar = "image-digests"
    LIMIT: ClassVar = 64 << 10
    REMEDY: ClassVar = "Remove it, then write it again: fededge images push"

    images: dict[str, Reference]

    def of(self, name: str) -> str:
        """The reference of the image `name`.

        Raises:
            DocumentError: it is not among them.
        """
        if name not in self.images:
            raise DocumentError(
                f"the image digests name no {name}, only {', '.join(sorted(self.images)) or 'nothing'}: "
                f"fededge images push {name}"
            )
        return self.images[name]
