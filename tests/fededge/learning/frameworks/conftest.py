"""The conformance suite runs once for each kind of label that a framework learns."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("kind", list(metafunc.cls.models), scope="class")
