"""The four images that components run in. The local runner maps each to an environment."""

import os

from fededge import __version__

REGISTRY = os.environ.get("FEDEDGE_REGISTRY", "ghcr.io/fededge")


def image(name: str) -> str:
    """Reference of one of our images: the tag is the version of this package."""
    return f"{REGISTRY}/{name}:{__version__}"


PLATFORM = image("platform")
WORKER = image("worker")
SERVING = image("serving")
