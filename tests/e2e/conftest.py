"""A tiny task, run once by the real command in the real environments; tests look at what it left."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fededge.host.layout import UV

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / ".venvs"
TASK = """\
name: tiny
seed: 7
data: {source: digits}
partition: {kind: dirichlet, alpha: 0.5, clients: 3}
learning:
  engine: federated
  rounds: 2
  client: {optimizer: sgd, learning_rate: 0.05, epochs: 1, batch_size: 32}
  cohort: {size: 2}
operation: {rounds_per_step: 1}
compare: {centralized: true}
gate: {min: 0.05, max_gap_to_centralized: 1.0}
variants:
  - {kind: float32, max_score_loss: 1.0}
  - {kind: int8, max_score_loss: 1.0}
devices:
  - {name: gateway}
  - {name: sensor-hub, kinds: [int8]}
endpoint: {name: tiny}
"""

Ended = subprocess.CompletedProcess[str]


class Machine:
    """A machine of one user: a home folder, and the `fededge` command."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.variables = {**os.environ, "FEDEDGE_HOME": str(home), "COLUMNS": "200"}

    def fededge(
        self, *arguments: str | Path, variables: Mapping[str, str] | None = None, **options: Any
    ) -> Ended:
        """Run the command to its end; a stopped test stops it, and with it all that it started."""
        process = subprocess.Popen(
            [sys.executable, "-m", "fededge", *arguments],
            cwd=ROOT,
            env={**self.variables, **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        try:
            out, err = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture(scope="session", autouse=True)
def _environments() -> None:
    missing = [
        n for n in ("platform", "worker", "serving", "edge") if not (VENVS / n / "bin/python").exists()
    ]
    if missing:
        pytest.skip(f"environments {missing} are not set up in {VENVS}: run `python -m fededge.host`")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine where nothing ran yet."""
    fresh = Machine(tmp_path / "home")
    yield fresh
    fresh.fededge("stop")


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the tiny task, with texts replaced, and give its path."""

    def write(*replacements: tuple[str, str]) -> Path:
        text = TASK
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path_factory.mktemp("task") / "task.yaml"
        file.write_text(text)
        return file

    return write


@pytest.fixture(scope="session")
def job(
    tmp_path_factory: pytest.TempPathFactory, task: Callable[..., Path]
) -> Iterator[tuple[Machine, Ended, Ended]]:
    """The tiny task on a machine where the endpoint's port is taken at first: the failed and the next run."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    file = task()
    with socket.create_server(("0.0.0.0", 0)) as taken:
        ports = ",".join(str(taken.getsockname()[1] + offset) for offset in range(3))
        first = machine.fededge("run", file, "--devices", "2", variables={"FEDEDGE_ENDPOINT_PORTS": ports})
    second = machine.fededge("run", file, "--devices", "2")
    yield machine, first, second
    machine.fededge("stop")


def wheel(project: Path, folder: Path) -> Path:
    """The wheel of a project, built into a new folder."""
    subprocess.run(
        [UV, "build", "--quiet", "--wheel", "--out-dir", folder, "--python", sys.executable, project],
        check=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree, to build wheels from."""
    copy = tmp_path_factory.mktemp("tree") / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "__pycache__"))
    return copy


@pytest.fixture(scope="session")
def wheels(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of this tree."""
    folder = tmp_path_factory.mktemp("wheels")
    return {
        "fededge": wheel(tree, folder / "library"),
        "fededge_pipelines": wheel(tree / "packaging" / "pipelines", folder / "pipelines"),
    }


@pytest.fixture(scope="session")
def device(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the library alone, as on a device, and pip."""
    venv = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    subprocess.run(
        [
            UV,
            "pip",
            "install",
            "--quiet",
            "--python",
            venv / "bin" / "python",
            f"{wheels['fededge']}[edge]",
            "pip",
        ],
        check=True,
    )
    return venv
