"""What `fededge` itself gives, for notebooks and programs; names here are not taken away again."""

import subprocess
import sys

import pytest

import fededge

EXPORTED = {
    "Endpoint",
    "Evaluation",
    "FedEdgeError",
    "FederatedTask",
    "GateDecision",
    "ModelVersion",
    "Release",
    "load_task",
    "parse_task",
    "predict",
}


def test_gives_these_names_and_no_others() -> None:
    assert set(fededge.__all__) == EXPORTED
    assert all(callable(getattr(fededge, name)) for name in EXPORTED)
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        fededge.load  # noqa: B018


def test_a_task_is_parsed_and_a_mistake_is_named() -> None:
    assert fededge.parse_task("name: a\ndata: {source: digits}\n").name == "a"
    with pytest.raises(fededge.FedEdgeError):
        fededge.parse_task("name: []\n")


def test_importing_it_imports_nothing_else() -> None:
    code = "import sys, fededge; print([m for m in sys.modules if m.split('.')[0] in ('pydantic', 'numpy')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
