"""One real server for all tests of serving: the tiny model behind REST and gRPC."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import VariantFile

TINY = Path(__file__).parent / "fixtures" / "tiny.tflite"


@pytest.fixture(scope="session")
def tiny() -> bytes:
    """float32 [n, 28, 28, 1] -> float32 [n, 10]."""
    return TINY.read_bytes()


@pytest.fixture(scope="session")
def variant(tiny: bytes) -> VariantFile:
    """The tiny model's file."""
    return VariantFile(kind="float16", url=str(TINY), digest=storage.digest(tiny), bytes=len(tiny))


@pytest.fixture(scope="session")
def server(variant: VariantFile) -> Iterator[LocalEndpoint]:
    yield local_endpoint.start("tiny", variant, 3)
    local_endpoint.stop("tiny")
