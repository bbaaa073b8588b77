"""From a task file to devices, by the command that a user types."""

import json
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from fededge import storage
from fededge.delivery.endpoints.prediction import predict
from fededge.documents import Steps
from fededge.host.layout import interpreter

from .conftest import ROOT, Ended, Machine

pytestmark = pytest.mark.slow

Job = tuple[Machine, Ended, Ended]


def folder(machine: Machine) -> Path:
    (run,) = (machine.home / "runs").iterdir()
    return run


def steps(machine: Machine) -> dict[str, dict[str, str]]:
    found = Steps.read(folder(machine) / "steps.json").steps
    return {name: step.artifacts for name, step in found.items()}


@pytest.mark.timeout(600)
def test_a_taken_port_stops_the_run_with_one_message(job: Job) -> None:
    _, first, _ = job
    assert first.returncode == 2, first.stderr
    message = first.stderr.strip()
    assert message.startswith("error: ")
    assert "port" in message
    assert "FEDEDGE_ENDPOINT_PORTS" in message
    assert message.endswith("deploy-endpoint.log)")
    assert "release-variants started" not in first.stdout
    assert re.search(r"^report: .*/report.html$", first.stdout, re.MULTILINE)


def test_the_next_run_goes_on_after_the_steps_that_finished(job: Job) -> None:
    machine, first, second = job
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith(f"going on with run {folder(machine)}")
    for step in ("prepare-data", "run-rounds-2", "register-model"):
        assert f"{step} started" in first.stdout
        assert f"{step} started" not in second.stdout
    assert "check-endpoint finished" in second.stdout


def test_progress_shows_each_round(job: Job) -> None:
    _, first, _ = job
    assert re.search(r"^run-rounds: round 1/2: ", first.stdout, re.MULTILINE)
    assert re.search(r"^run-rounds-2: round 2/2: ", first.stdout, re.MULTILINE)
    assert re.search(r"^prepare-data finished after \d+\.\d s$", first.stdout, re.MULTILINE)


def test_the_command_says_what_came_of_it_and_what_to_do_next(job: Job) -> None:
    machine, _, second = job
    for line in (
        f"report: {folder(machine)}/report.html",
        "tracking: mlflow ui",
        "try it: fededge predict tiny",
    ):
        assert f"\n{line}" in second.stdout
    page = (folder(machine) / "report.html").read_text()
    assert "sensor-hub" in page
    assert json.loads((folder(machine) / "run.json").read_bytes())["status"] == "succeeded"


def test_every_artifact_is_sealed_and_traced_to_its_parents(job: Job) -> None:
    machine, _, _ = job
    digests = set()
    outputs = list((folder(machine) / "artifacts").rglob("executor_output.json"))
    documents = [json.loads(file.read_bytes()) for file in outputs]
    sealed = [
        entry
        for document in documents
        for found in document.get("artifacts", {}).values()
        for entry in found["artifacts"]
        if "digest" in entry["metadata"]
    ]
    for entry in sealed:
        path = entry["uri"]
        assert entry["metadata"]["digest"] == storage.digest_path(path), path
        digests.add(entry["metadata"]["digest"])
    assert len(sealed) >= 15
    for entry in sealed:
        assert set(entry["metadata"]["parents"]) <= digests, entry["uri"]


def test_each_device_runs_the_released_variant_of_its_class(job: Job) -> None:
    machine, _, _ = job
    release = json.loads(Path(steps(machine)["release-variants"]["release"]).read_bytes())
    classes = json.loads(release["payload"])["devices"]
    files = list((machine.home / "storage" / "fleet" / "tiny" / "devices").glob("*.json"))
    reports = [json.loads(file.read_bytes()) for file in files]
    assert {report["class"] for report in reports} == {"gateway", "sensor-hub"}
    for report in reports:
        assert report["status"] == "running"
        assert report["digest"] == classes[report["class"]]["digest"]
    assert classes["sensor-hub"]["kind"] == "int8"


def test_mlflow_holds_metrics_by_round_and_the_champion(job: Job) -> None:
    machine, _, _ = job
    with sqlite3.connect(machine.home / "mlflow.db") as database:
        found = database.execute("select key, step from metrics where key like 'held_out/%'").fetchall()
        others = {row[0] for row in database.execute("select distinct key from metrics")}
        aliases = {row[0] for row in database.execute("select alias from registered_model_aliases")}
    assert set(found) >= {(f"held_out/{name}", step) for name in ("accuracy", "loss") for step in (1, 2)}
    assert {"variant/int8/accuracy", "gate/passed", "clients/accuracy_min", "train/loss"} <= others
    assert aliases == {"candidate", "champion"}


def test_the_endpoint_answers_the_command_and_plain_rest(job: Job) -> None:
    import numpy as np

    machine, _, _ = job
    answered = machine.fededge("predict", "tiny", "--sample", "3")
    assert answered.returncode == 0, answered.stderr
    assert "example 2" in answered.stdout
    assert "answered by version 1, float32, sha256:" in answered.stdout
    endpoint = json.loads(Path(steps(machine)["deploy-endpoint"]["endpoint"]).read_bytes())
    probabilities, tags = predict(endpoint["rest"], np.zeros((2, 28, 28, 1), np.uint8))
    assert probabilities.shape == (2, 10)
    assert tags["digest"] == endpoint["digest"]


def test_runs_models_and_endpoints_are_listed(job: Job) -> None:
    machine, _, _ = job
    assert folder(machine).name in machine.fededge("runs").stdout
    assert "candidate" in machine.fededge("models").stdout
    assert "float32" in machine.fededge("endpoints").stdout
    again = machine.fededge("report")
    assert again.returncode == 0, again.stderr
    assert f"report: {folder(machine)}/report.html" in again.stdout


def test_a_device_refuses_a_tampered_manifest(job: Job, tmp_path: Path) -> None:
    machine, _, _ = job
    published = machine.home / "storage" / "releases" / "tiny.json"
    envelope = json.loads(published.read_bytes())
    envelope["payload"] = envelope["payload"].replace('"version"', '"version" ')
    tampered = tmp_path / "storage"
    storage.write(str(tampered / "releases" / "tiny.json"), json.dumps(envelope).encode())
    (key,) = (machine.home / "keys").glob("*.pub*")
    ended = subprocess.run(
        [
            *(interpreter("edge"), "-m", "fededge.device.agent"),
            *("tiny", "--device", "d1", "--class", "gateway", "--once"),
            *("--trusted-key", key, "--storage", f"file://{tampered}", "--folder", tmp_path / "device"),
        ],
        cwd=ROOT,
        env=machine.variables,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "signature" in ended.stdout + ended.stderr
