"""Components as plain functions, without the compiler that the worker and serving images lack."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("kfp_server_api") is None:
    # kfp without its dependencies imports only what a running component needs.
    os.environ["_KFP_RUNTIME"] = "true"

COMPONENTS = Path(__file__).resolve().parents[2] / "components"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[..., Any]]:
    """`plain("learning/prepare_data")` is the function that the component wraps."""
    dsl = pytest.importorskip("kfp.dsl", reason="kfp is not part of this environment")

    def component(function: Callable[..., Any] | None = None, **_: Any) -> Any:
        return function if function is not None else lambda wrapped: wrapped

    def load(path: str) -> Callable[..., Any]:
        floor, name = Path(path.removesuffix("/component.py")).parts[-2:]
        file = COMPONENTS / floor / name / "component.py"
        spec = importlib.util.spec_from_file_location(f"plain_{floor}_{name}", file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        function: Callable[..., Any] = getattr(module, name)
        return function

    monkeypatch.setattr(dsl, "component", component, raising=False)
    return load


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[type, str], Any]:
    """`artifact(Dataset, "data")` is an artifact of that class whose path, not yet there, is in tmp_path."""

    def make(cls: type, name: str) -> Any:
        path = tmp_path / "artifacts" / name
        path.parent.mkdir(exist_ok=True)
        return cls(name=name, uri=str(path), metadata={})

    return make
