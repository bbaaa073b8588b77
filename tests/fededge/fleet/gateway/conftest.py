"""A gateway in a process of its own with its registry, shared by the tests of a module, and an administrator."""

import time
from collections.abc import Callable, Iterator

import pytest

from fededge.fleet.registry.database import Registry
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of the gateway's registry; a module that runs on PostgreSQL, too, has a fixture of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('database')}/registry.db"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Gateway]:
    with Gateway.start(tmp_path_factory.mktemp("gateway"), database=database) as started:
        yield started


@pytest.fixture(scope="module")
def registry(database: str, gateway: Gateway) -> Iterator[Registry]:
    opened = Registry.open(database)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def admin(gateway: Gateway, registry: Registry) -> Iterator[Operator]:
    operator = Operator(gateway.url, token(registry))
    yield operator
    operator.close()


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until something is so; the test's own time limit ends that."""

    def wait(is_so: Callable[[], object]) -> None:
        while not is_so():
            time.sleep(0.02)

    return wait
