"""Every example's task runs through, from its data to what it delivers, on few rounds."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fededge import task as tasks
from fededge.delivery import registry
from fededge.delivery.endpoints import local as local_endpoint
from fededge.host.layout import ROOT, interpreter
from pipelines.job import run_task

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
FEWER = ("learning.rounds=2", "compare.centralized=false", "compare.alone=false")
TASKS = sorted(file for file in EXAMPLES.glob("*/*.yaml") if file.stem != "fleet")
"""A fleet's task is run by tests/e2e/test_fleet.py."""


def test_every_example_has_a_task_and_says_what_came_of_it() -> None:
    folders = {file.parent for file in TASKS}
    assert folders == {folder for folder in EXAMPLES.iterdir() if folder.is_dir()}
    for folder in folders:
        text = (folder / "README.md").read_text()
        assert "fededge run examples/" in text
        assert "federated" in text.lower()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", TASKS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_an_example_delivers_a_version(file: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shutil.copytree(file.parent, tmp_path, dirs_exist_ok=True)
    if file.parent.name == "mnist":
        (tmp_path / "mnist.npz").symlink_to(request.getfixturevalue("shared") / "data" / "mnist.npz")
    fetch = tmp_path / "fetch.py"
    if fetch.exists() and subprocess.run([interpreter("worker"), fetch], check=False, timeout=120).returncode:
        pytest.skip("its data cannot be downloaded here")
    packages = interpreter("worker").parents[1] / "lib" / "python3.11" / "site-packages"
    if "framework: torch" in file.read_text() and not (packages / "torch").exists():
        pytest.skip("PyTorch is not installed in the worker environment")
    gate = "gate={metric: loss, max: 100.0}"
    task = tasks.load(tmp_path / file.name, [*FEWER, gate])
    variants = [variant.model_copy(update={"max_score_loss": 1.0}) for variant in task.variants]
    finished = run_task(task.model_copy(update={"variants": variants}))
    try:
        assert finished.report.outcome.title == "Delivered"
        assert registry.champion_document(task.name).score == finished.report.facts.evaluations[-1].loss
    finally:
        if task.endpoint:
            local_endpoint.stop(task.endpoint.name)
