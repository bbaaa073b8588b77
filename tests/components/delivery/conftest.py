"""Every delivery component finds an MLflow store that is set up."""

from pathlib import Path

import pytest

from tests.mlflow_store import empty_store, store  # noqa: F401


@pytest.fixture(autouse=True)
def _store(store: Path) -> None:  # noqa: F811
    """The test's own store."""
