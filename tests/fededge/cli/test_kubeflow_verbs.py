"""Verbs that talk to Kubeflow, against an API that speaks the v2beta1 paths."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge.cli import main
from fededge.task import load
from fededge.tracking.run import TrackedRun

ROOT = Path(__file__).resolve().parents[3]
DIGITS = str(ROOT / "examples" / "digits" / "task.yaml")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    file = ROOT / "tests" / "pipelines" / "fake_kfp_api.py"
    spec = importlib.util.spec_from_file_location("fake_kfp_api", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    for name in ("KFP_NAMESPACE", "KFP_EXISTING_TOKEN", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with module.serving() as fake:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", fake.url)
        yield fake


def printed(capsys: pytest.CaptureFixture[str], what: str) -> str:
    found = re.search(rf"^{what}:? (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert found is not None
    return found[1]


def test_runs_a_task_on_kubeflow(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", DIGITS, "--on", "kubeflow"]) == 0
    run = api.runs[printed(capsys, "run")]
    assert run["runtime_config"]["parameters"]["task"] == load(DIGITS).to_json()
    version = api.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    assert version["platform_spec"]["platforms"]["kubernetes"], "secrets travel in the platform spec"
    assert main(["runs", "--on", "kubeflow"]) == 0
    assert run["run_id"] in capsys.readouterr().out
    assert main(["runs", "list", "--on", "kubeflow", "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == [run["run_id"]]


def test_cancels_a_run_on_kubeflow(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", DIGITS, "--on", "kubeflow", "--set", "learning.rounds=3"]) == 0
    run = api.runs[printed(capsys, "run")]
    assert main(["runs", "cancel", run["run_id"], "--on", "kubeflow"]) == 0
    assert run["state"] == "CANCELED"
    assert main(["runs", "cancel", "ghost", "--on", "kubeflow"]) == 2
    assert "cannot cancel run ghost" in capsys.readouterr().err


def test_follows_a_run_on_kubeflow_to_its_end_and_reports_it(
    api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", DIGITS, "--on", "kubeflow"]) == 0
    run = api.runs[printed(capsys, "run")]
    with TrackedRun.join(run["run_id"], load(DIGITS)).step("prepare_data"):
        pass
    run["state"] = "SUCCEEDED"
    assert main(["runs", "watch", run["run_id"]]) == 0
    assert f"{run['run_id']} succeeded" in capsys.readouterr().out
    assert main(["report", run["run_id"], "--on", "kubeflow"]) == 0
    assert f"{run['run_id']}.html" in capsys.readouterr().out
    assert "prepare_data" in (tmp_path / f"{run['run_id']}.html").read_text()
    run["state"], run["error"] = "FAILED", {"code": 13, "message": "the store was away"}
    assert main(["runs", "watch", run["run_id"]]) == 1
    assert "the store was away" in capsys.readouterr().err


def test_uploads_a_task_once(api: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", DIGITS]) == 0
    assert printed(capsys, "uploaded").startswith("version ")
    assert main(["upload", DIGITS]) == 0
    assert printed(capsys, "already there").startswith("version ")
    assert [p["display_name"] for p in api.pipelines.values()] == ["fededge-digits"]


def test_uploads_a_compiled_pipeline_under_its_name(
    api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", DIGITS, "-o", str(tmp_path / "compiled.yaml")]) == 0
    assert main(["upload", str(tmp_path / "compiled.yaml")]) == 0
    assert "uploaded" in capsys.readouterr().out
    assert [p["display_name"] for p in api.pipelines.values()] == ["fededge-digits"]


@pytest.mark.parametrize(
    ("options", "trigger"),
    [
        (["--cron", "0 3 * * 1"], {"cron_schedule": {"cron": "0 0 3 * * 1"}}),
        (["--every", "6h"], {"periodic_schedule": {"interval_second": "21600"}}),
    ],
)
def test_schedules_a_task(
    options: list[str], trigger: dict[str, Any], api: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schedule", DIGITS, *options]) == 0
    found = api.recurring[printed(capsys, "recurring run")]["trigger"]
    assert {k: {n: str(v) for n, v in c.items()} for k, c in found.items()} == trigger
