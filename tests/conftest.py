"""Which environment a test module runs in, where shared data lies, and a home of its own for each test."""

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The first example of a property imports and compiles; how long it takes is no property of the code.
# In continuous integration the examples are always the same: a change does not fail there for what it did not touch.
hypothesis.settings.register_profile("fededge", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("fededge")

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ("platform", "worker", "serving", "edge")
MARK = re.compile(r"^pytestmark = pytest\.mark\.environment\(([^)]*)\)", re.MULTILINE)
SETTINGS = (
    "FEDEDGE_CLUSTER_FILE",
    "FEDEDGE_FLEET_DATABASE",
    "FEDEDGE_GATEWAY",
    "FEDEDGE_GATEWAY_CA_FILE",
    "FEDEDGE_GATEWAY_KEY_FILE",
    "FEDEDGE_GATEWAY_REDIS",
    "FEDEDGE_GATEWAY_TOKEN_FILE",
    "FEDEDGE_GATEWAY_URL",
    "FEDEDGE_IMAGES",
    "FEDEDGE_PLATFORM",
    "FEDEDGE_REGISTRY",
    "FEDEDGE_SIGNING_KEY_FILE",
    "FEDEDGE_STORAGE",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
)


def environment() -> str:
    """The environment that runs the tests: FEDEDGE_TEST_ENVIRONMENT, else what is installed tells."""
    named = os.environ.get("FEDEDGE_TEST_ENVIRONMENT")
    if named:
        return named
    for name, package in (
        ("worker", "tensorflow_federated"),
        ("serving", "seldon_core"),
        ("platform", "kfp_server_api"),
    ):
        if importlib.util.find_spec(package):
            return name
    return "edge"


def environments_of(module: Path) -> set[str]:
    """The environments that a test module asks for, by its text alone; platform where it asks for none.

    Raises:
        pytest.UsageError: the module names an environment that does not exist.
    """
    found = MARK.search(module.read_text(encoding="utf-8"))
    if found is None:
        return {"platform"}
    names = set(re.findall(r"[\"']([^\"']*)[\"']", found[1]))
    unknown = sorted(names.difference(ENVIRONMENTS))
    if unknown or not names:
        raise pytest.UsageError(
            f"{module}: environment mark names {unknown or 'nothing'}; use {ENVIRONMENTS}"
        )
    return names


def pytest_report_header() -> str:
    return f"environment: {environment()}"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out modules of other environments, and folders of nothing else, before they are imported."""
    if collection_path.is_dir():
        modules = list(collection_path.rglob("test_*.py"))
    elif collection_path.suffix == ".py" and collection_path.name.startswith("test_"):
        modules = [collection_path]
    else:
        return None
    here = environment()
    return None if any(here in environments_of(module) for module in modules) else True


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep fixtures of a wider scope than one test away from the user's files and servers, too."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(patch, tmp_path_factory.mktemp("home"))
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty FEDEDGE_HOME and none of the user's settings."""
    _isolate(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data sets and schemas beside the repository, or a skip where there is none."""
    folder = Path(os.environ.get("FEDEDGE_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (FEDEDGE_SHARED names another folder)")
    return folder


def _isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in SETTINGS:
        patch.delenv(name, raising=False)
    patch.setenv("FEDEDGE_HOME", str(home))
