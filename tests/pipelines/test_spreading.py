"""`fededge data spread`: the folders that a run would make, for clients that are somewhere else."""

from pathlib import Path

import numpy as np
import pytest

from fededge import task as tasks
from fededge.cli import main
from fededge.documents import Schema
from fededge.errors import StorageError
from fededge.host.layout import VENVS
from pipelines.spreading import spread

TASK = """
name: t
data: {source: csv, path: rooms.csv, label: warm, owner: room}
partition: {kind: natural}
learning: {cohort: {size: 2}}
variants: [{kind: float32}]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    if not (VENVS / "worker" / "bin" / "python3").exists():
        pytest.skip("the worker environment is not set up: run `python -m fededge.host`")
    rows = [f"{room},{i % 30}.5,{i % 7},{int(i % 30 > 15)}" for room in ("a", "b") for i in range(60)]
    (tmp_path / "rooms.csv").write_text("room,celsius,hours,warm\n" + "\n".join(rows) + "\n")
    (tmp_path / "task.yaml").write_text(TASK)
    return tmp_path / "task.yaml"


def test_each_owner_becomes_a_folder_that_a_client_can_learn_from(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "spread", str(task), "-o", str(tmp_path / "out")]) == 0
    assert "train" in capsys.readouterr().out
    clients = sorted((tmp_path / "out" / "clients").iterdir())
    assert len(clients) == 2
    forms = {Schema.read(folder / "train" / "schema.json").form_digest for folder in clients}
    assert len(forms) == 1
    for folder in clients:
        assert np.load(folder / "train" / "x.npy").shape[1:] == (2,)
    assert (tmp_path / "out" / "held-out" / "examples" / "x.npy").exists()


def test_a_folder_that_is_there_is_left_alone(task: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(StorageError, match="Name a new folder"):
        spread(tasks.load(task), tmp_path / "out")
