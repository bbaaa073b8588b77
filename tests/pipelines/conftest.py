"""Environments and compiled pipelines for the local runner's tests."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from kfp.compiler import Compiler


@pytest.fixture(scope="session")
def throwaway() -> ModuleType:
    """The throw-away components, loaded from their file."""
    path = Path(__file__).with_name("throwaway.py")
    spec = importlib.util.spec_from_file_location("throwaway", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """A folder of environments where all images stand for the interpreter that runs the tests."""
    folder = tmp_path / "environments"
    folder.mkdir()
    for name in ("platform", "worker", "serving"):
        (folder / name).symlink_to(sys.prefix, target_is_directory=True)
    return folder


@pytest.fixture
def compiled(tmp_path: Path, throwaway: ModuleType) -> Callable[[str], Path]:
    """Compile a throw-away pipeline by its name."""

    def compile_pipeline(name: str) -> Path:
        package = tmp_path / f"{name}.yaml"
        Compiler().compile(getattr(throwaway, name), str(package))
        return package

    return compile_pipeline
