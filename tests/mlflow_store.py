"""Fixtures: an MLflow store whose tables are made once and copied for each test (seconds saved a test)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fededge import settings


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with MLflow's tables and no runs."""
    home = tmp_path_factory.mktemp("store")
    code = "from fededge.tracking.connection import connect; connect()"
    environment = {**os.environ, "FEDEDGE_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return home / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, _home: None) -> Path:
    """The database file of this test's store."""
    target = settings.home() / "mlflow.db"
    shutil.copy(empty_store, target)
    return target
