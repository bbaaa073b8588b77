"""Memory is bounded while bytes of an enemy are read: whoever takes more than that fails the test."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

MORE = 1 << 30


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    """Let the process have a gigabyte more address space than it has now."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MORE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
