"""The notebooks run from top to bottom, on fewer rounds."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from fededge.delivery.endpoints import local as local_endpoint

from .conftest import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = ROOT / "notebooks"


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_a_notebook_is_kept_without_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []


def executed(name: str, parameters: str, endpoint: str, folder: Path, patch: pytest.MonkeyPatch) -> list[Any]:
    """What the cells of a notebook put out, with `parameters` in place of its own."""
    patch.setenv("FEDEDGE_HOME", str(folder / "home"))
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source = parameters
    client = NotebookClient(notebook, timeout=540, resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    finally:
        local_endpoint.stop(endpoint)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.timeout(600)
def test_the_notebook_of_federated_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = "rounds = 1\nmin_accuracy = 0.0"
    outputs = executed("federated_training.ipynb", parameters, "notebook", tmp_path, monkeypatch)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "run-rounds: round 1/1" in printed
    assert "write-report finished" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    tags = [output["data"]["text/plain"] for output in outputs if output.output_type == "execute_result"]
    assert any("sha256:" in text and "model_version" in text for text in tags)


@pytest.mark.timeout(600)
def test_the_notebook_of_ones_own_model_and_data_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = 'rounds = 4\nfolder = "own"'
    outputs = executed("own_model_and_data.ipynb", parameters, "own", tmp_path, monkeypatch)
    printed = "".join(output.get("text", "") for output in outputs)
    assert "source: csv" in printed
    assert "Delivered" in printed
    (answer,) = [
        output for output in outputs if output.output_type == "execute_result" and "value" in str(output)
    ]
    assert answer["data"]["text/plain"].count("value") == 2


@pytest.mark.timeout(600)
def test_the_notebook_of_a_fleet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEDEDGE_GATEWAY", "FEDEDGE_GATEWAY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    parameters = 'rounds = 2\nfolder = "fleet"'
    outputs = executed("watch_a_fleet.ipynb", parameters, "fleet", tmp_path, monkeypatch)
    printed = "".join(output.get("text", "") for output in outputs)
    assert printed.count("connected") == 5
    assert "train 2: 5 of 5 clients" in printed
    assert printed.count(": version 1, ") == 3
