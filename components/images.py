"""The four images that components run in. The local runner maps each to an environment."""

from fededge import __version__, settings
from fededge.documents import ImageDigests


def image(name: str) -> str:
    """Reference of one of our images: by its digest where `FEDEDGE_IMAGES` names a file of them, as `fededge images
    push` writes it; else in the registry, by the version of this package.

    Raises:
        StorageError, DocumentError: that file cannot be read, or does not name the image.
    """
    digests = settings.image_digests()
    return ImageDigests.read(digests).of(name) if digests else f"{settings.registry()}/{name}:{__version__}"


PLATFORM = image("platform")
WORKER = image("worker")
SERVING = image("serving")
