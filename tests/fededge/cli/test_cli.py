"""The `fededge` command: help, exit statuses and messages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

import fededge
from fededge import settings
from fededge.cli import main
from fededge.task import json_schema, load

ROOT = Path(__file__).resolve().parents[3]
DIGITS = ROOT / "examples" / "digits" / "task.yaml"
VERBS = ["run", "compile", "upload", "schedule", "runs", "report", "models"]
VERBS += ["predict", "endpoints", "stop", "images", "schema", "manifests", "doctor", "agent"]

Captured = pytest.CaptureFixture[str]


def failing(capsys: Captured, *arguments: str) -> str:
    """The message of a command that must end with status 2 and print nothing else."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_help_lists_every_verb(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in VERBS if f"│ {verb} " not in shown] == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "agent"])
def test_each_verb_has_help(verb: str, capsys: Captured) -> None:
    assert main([verb, "--help"]) == 0
    assert f"fededge {verb}" in capsys.readouterr().out


def test_the_command_starts_without_the_heavy_libraries() -> None:
    code = (
        "import sys, fededge.cli; "
        "print([n for n in ('kfp', 'mlflow', 'numpy.random', 'kubernetes', 'matplotlib') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(found.stdout.replace("'", '"')))
    assert loaded.isdisjoint({"kfp", "mlflow", "kubernetes", "matplotlib"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["run"],
        ["run", str(DIGITS), "--on", "mars"],
        ["run", str(DIGITS), "--devices", "-1"],
        ["run", str(DIGITS), "--on", "kubeflow", "--devices", "2"],
        ["compile", str(DIGITS)],
        ["schedule", str(DIGITS)],
        ["schedule", str(DIGITS), "--every", "5"],
        ["schedule", str(DIGITS), "--cron", "* *"],
        ["schedule", str(DIGITS), "--cron", "0 3 * * 1", "--every", "1h"],
        ["predict", "digits"],
        ["runs", "--limit", "0"],
    ],
)
def test_a_mistake_in_the_usage_ends_with_status_2(arguments: list[str], capsys: Captured) -> None:
    assert "Usage: fededge" in failing(capsys, *arguments)


@pytest.mark.parametrize("verb", ["run", "compile", "upload", "schedule"])
def test_a_bad_task_file_is_one_message_and_nothing_is_written(
    verb: str, capsys: Captured, tmp_path: Path
) -> None:
    bad = tmp_path / "task.yaml"
    bad.write_text("name: x\ndata: {source: digits}\nlearning:\n  rouns: 3\n")
    more = {"compile": ["-o", str(tmp_path / "out.yaml")], "schedule": ["--every", "1h"]}.get(verb, [])
    message = failing(capsys, verb, str(bad), *more)
    assert message == f"error: {bad}:4: learning.rouns: unknown key; did you mean rounds?\n"
    assert list(tmp_path.iterdir()) == [bad]
    assert not (settings.home() / "runs").exists()


def test_devices_need_device_classes(capsys: Captured, tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("name: x\ndata: {source: digits}\n")
    assert "device classes" in failing(capsys, "run", str(file), "--devices", "2")


def test_compiles_a_task(capsys: Captured, tmp_path: Path) -> None:
    output = tmp_path / "new" / "digits.yaml"
    assert main(["compile", str(DIGITS), "-o", str(output), "--explain"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"compiled: {output}"
    assert said[1:3] == ["steps: 16", "pods: 35"]
    assert "name: fededge-digits" in output.read_text()


def test_compiling_into_a_file_in_the_way_is_one_message(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in failing(capsys, "compile", str(DIGITS), "-o", str(tmp_path / "file" / "x.yaml"))


def test_writes_the_schema(capsys: Captured, tmp_path: Path) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
    assert main(["schema", "-o", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == json_schema()
    capsys.readouterr()
    assert main(["schema", "--cluster"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.validate({"steps": {"default": {"cpu_limit": 2}}}, schema)
    with pytest.raises(jsonschema.ValidationError, match="cpu_limt"):
        jsonschema.validate({"steps": {"default": {"cpu_limt": 2}}}, schema)


def test_an_unconfigured_or_unreachable_kubeflow_is_one_message(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    assert "set KF_PIPELINES_ENDPOINT" in failing(capsys, "run", str(DIGITS), "--on", "kubeflow")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    for command in (["upload", str(DIGITS)], ["schedule", str(DIGITS), "--every", "1h"]):
        assert "cannot reach Kubeflow Pipelines at http://127.0.0.1:9" in failing(capsys, *command)
    assert "cannot reach" in failing(capsys, "runs", "--on", "kubeflow")


def test_there_is_nothing_to_show_yet(capsys: Captured) -> None:
    assert main(["runs"]) == 0
    assert "no runs yet" in capsys.readouterr().out
    assert main(["endpoints"]) == 0
    assert main(["stop"]) == 0
    assert "no endpoint runs here" in capsys.readouterr().out
    assert main(["models"]) == 0
    assert "no model is registered yet" in capsys.readouterr().out
    assert "no runs in" in failing(capsys, "report")
    assert "no run ghost in" in failing(capsys, "report", "ghost")
    assert "no endpoint digits runs here" in failing(capsys, "stop", "digits")
    assert "no run here has held-out examples" in failing(capsys, "predict", "digits", "--sample", "1")


def test_an_unreachable_tracking_server_is_one_message(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert failing(capsys, "models").startswith("error: ")


def test_the_examples_are_valid() -> None:
    for file in (ROOT / "examples").glob("*/task.yaml"):
        assert load(file).name


def test_the_agent_is_handed_its_own_options() -> None:
    if not (ROOT / ".venvs" / "edge" / "bin" / "python").exists():
        pytest.skip("no edge environment")

    def agent(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fededge", "agent", *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert "enroll" in agent("--help").stdout
    assert agent("digits").returncode == 2


def test_runs_as_a_module_entry(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "fededge"
    if not program.exists():
        pytest.skip("fededge is not installed in this environment")
    ended = subprocess.run(
        [program, "run", str(tmp_path / "none.yaml")], capture_output=True, text=True, env=dict(os.environ)
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert str(tmp_path / "none.yaml") in ended.stderr


def test_tells_its_version(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fededge {fededge.__version__}\n"


def test_set_changes_the_task(capsys: Captured, tmp_path: Path) -> None:
    package = tmp_path / "p.yaml"
    changes = ["--set", "learning.rounds=5", "--set", "seed=3"]
    assert main(["compile", str(DIGITS), "-o", str(package), *changes]) == 0
    spec = next(yaml.safe_load_all(package.read_text()))
    compiled = spec["root"]["inputDefinitions"]["parameters"]["task"]["defaultValue"]
    assert compiled == load(DIGITS, ["learning.rounds=5", "seed=3"]).to_json()
    capsys.readouterr()
    assert "--set goes with a task file" in failing(capsys, "upload", str(package), *changes)


@pytest.mark.parametrize("verb", ["run", "compile", "upload", "schedule"])
def test_a_wrong_change_is_one_message(verb: str, capsys: Captured, tmp_path: Path) -> None:
    more = {"compile": ["-o", str(tmp_path / "out.yaml")], "schedule": ["--every", "1h"]}.get(verb, [])
    message = failing(capsys, verb, str(DIGITS), *more, "--set", "learning.rounds=-5")
    assert "learning.rounds" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("verb", ["endpoints", "models", "runs"])
def test_an_empty_list_is_json_too(verb: str, capsys: Captured) -> None:
    assert main([verb, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("uri", ["http://[x", "http://127.0.0.1:9"])
def test_a_tracking_uri_that_leads_nowhere_is_one_message(
    uri: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for command in (["models"], ["runs", "compare", "a", "b"]):
        message = failing(capsys, *command)
        assert uri in message
        assert message.count("\n") == 1


def test_sigterm_ends_a_command_as_ctrl_c_does(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from fededge.cli import app, main\n"
        "@app.command('wait')\n"
        "def wait(): os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "sys.exit(main(['wait']))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 130
