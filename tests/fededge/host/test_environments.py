"""Environments are made once, from their lock files, and an interruption leaves nothing that looks whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fededge.errors import SetupError
from fededge.host import environments
from fededge.host.layout import NAMES


class Machine:
    """A checkout in tmp_path with lock files and an installer that records instead of installing."""

    def __init__(self, folder: Path) -> None:
        self.venvs, self.images = folder / ".venvs", folder / "images"
        self.calls: list[list[str]] = []
        self.fail: str | None = None
        self.status = 0
        for name in NAMES:
            (self.images / name).mkdir(parents=True)
            (self.images / name / "requirements.lock").write_text(f"# {name}")
            (self.images / name / "test.lock").write_text(f"# tests of {name}")
        for file in ("setup.cfg", "images/uv.lock", "images/build.lock"):
            (folder / file).write_text(file)

    def require(self, doing: str, command: list[str | Path], extra: object = None) -> None:
        self.calls.append([str(part) for part in command])
        if self.fail and self.fail in doing:
            raise SetupError(f"{doing} failed")
        if "venv" in self.calls[-1]:
            python = Path(self.calls[-1][-1]) / "bin" / "python"
            shutil.rmtree(python.parents[1], ignore_errors=True)
            python.parent.mkdir(parents=True)
            python.touch()

    def call(self, command: list[str | Path], extra: object = None, output: object = None) -> int:
        self.calls.append([str(part) for part in command])
        return self.status

    def synced(self) -> list[list[str]]:
        """Lock files of each `uv pip sync` since the last call, by their folder and name."""
        calls = [call for call in self.calls if "sync" in call]
        self.calls.clear()
        return [["/".join(Path(a).parts[-2:]) for a in c if a.endswith(".lock")][1:] for c in calls]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Machine(tmp_path)
    for name, value in (("ROOT", tmp_path), ("VENVS", made.venvs), ("IMAGES", made.images)):
        monkeypatch.setattr(environments, name, value)
    monkeypatch.setattr(environments, "require", made.require)
    monkeypatch.setattr(environments, "call", made.call)
    monkeypatch.setattr(environments, "interpreter", lambda name: made.venvs / name / "bin" / "python")
    monkeypatch.setattr(
        environments,
        "lock_file",
        lambda name, tests=False: made.images / name / ("test.lock" if tests else "requirements.lock"),
    )
    return made


def test_set_up_makes_every_environment_once(machine: Any) -> None:
    environments.set_up()
    assert machine.synced() == [[f"{name}/requirements.lock"] for name in NAMES]
    environments.set_up()
    assert machine.calls == []


def test_what_is_set_up_for_tests_serves_to_run_and_not_the_other_way_round(machine: Any) -> None:
    environments.set_up()
    machine.synced()
    environments.set_up(tests=True)
    assert machine.synced() == [[f"{name}/requirements.lock", f"{name}/test.lock"] for name in NAMES]
    environments.set_up()
    assert machine.calls == []


@pytest.mark.parametrize("status", [0, 1])
def test_the_tests_get_pytorch_where_pip_finds_it(
    machine: Any, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.status = status
    environments.set_up(tests=True)
    asked = [call for call in machine.calls if "torch==2.13.0+cpu" in call]
    assert [call[call.index("--python") + 1] for call in asked] == [str(machine.venvs / "worker/bin/python")]
    assert ("the tests of PyTorch will skip" in capsys.readouterr().out) == bool(status)
    machine.calls.clear()
    environments.set_up(tests=True)
    assert machine.calls == []


def test_a_changed_lock_renews_its_environment_only(machine: Any) -> None:
    environments.set_up()
    machine.synced()
    (machine.images / "serving" / "requirements.lock").write_text("# newer")
    environments.set_up()
    assert not any("venv" in call for call in machine.calls)
    assert machine.synced() == [["serving/requirements.lock"]]


def test_another_python_makes_every_environment_anew(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    environments.set_up()
    machine.calls.clear()
    monkeypatch.setattr(environments, "python_version", lambda: "3.11.99")
    environments.set_up()
    assert sum("venv" in call for call in machine.calls) == 1 + len(NAMES)


def test_an_interrupted_set_up_is_taken_up_where_it_broke(machine: Any) -> None:
    machine.fail = "installing worker"
    with pytest.raises(SetupError):
        environments.set_up()
    machine.fail = None
    machine.calls.clear()
    environments.set_up()
    assert sum("venv" in call for call in machine.calls) == 3, (
        "worker, serving and edge; platform and uv were done"
    )
    assert machine.synced() == [[f"{name}/requirements.lock"] for name in NAMES[1:]]


def test_an_interrupted_renewal_does_not_leave_the_old_stamp(machine: Any) -> None:
    environments.set_up()
    (machine.images / "edge" / "requirements.lock").write_text("# newer")
    machine.fail = "installing edge"
    with pytest.raises(SetupError):
        environments.set_up()
    (machine.images / "edge" / "requirements.lock").write_text("# edge")
    machine.fail = None
    machine.calls.clear()
    environments.set_up()
    assert machine.synced() == [["edge/requirements.lock"]]
