"""The notebook runs from top to bottom, on fewer rounds."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from fededge.delivery.endpoints import local as local_endpoint

from .conftest import ROOT

pytestmark = pytest.mark.slow

NOTEBOOK = ROOT / "notebooks" / "federated_training.ipynb"


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDEDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source = "rounds = 1\nmin_accuracy = 0.0"
    client = NotebookClient(notebook, timeout=540, resources={"metadata": {"path": str(tmp_path)}})
    try:
        client.execute()
    finally:
        local_endpoint.stop("notebook")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "run-rounds: round 1/1" in printed
    assert "write-report finished" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    tags = [output["data"]["text/plain"] for output in outputs if output.output_type == "execute_result"]
    assert any("sha256:" in text and "model_version" in text for text in tags)
