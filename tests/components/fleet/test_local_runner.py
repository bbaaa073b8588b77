"""The fleet's components through Kubeflow's local runner."""

import json
from pathlib import Path

import pytest
from kfp import dsl, local
from kfp.dsl import Artifact, Dataset, Model

from components.fleet.release_variants.component import release_variants
from components.fleet.select_cohort.component import select_cohort
from fededge import lineage, settings, storage
from fededge.fleet import release
from fededge.signing import TrustedKey, public_file
from fededge.task import FederatedTask

ROOT = Path(__file__).resolve().parents[3]
TASK = FederatedTask.from_json(
    json.dumps(
        {
            "name": "tiny",
            "data": {"source": "digits"},
            "learning": {"cohort": {"size": 2}},
            "devices": [{"name": "camera"}],
        }
    )
)


@pytest.fixture(autouse=True)
def _runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "outputs"))


def test_select_cohort_runs_as_a_step(tmp_path: Path, artifact) -> None:
    data, state = artifact(Dataset, "data"), artifact(Model, "state")
    Path(data.path).mkdir()
    clients = [{"id": f"site-{i}", "train": 10, "test": 1, "labels": [10]} for i in range(3)]
    (Path(data.path) / "population.json").write_text(json.dumps({"clients": clients}))
    Path(state.path).write_bytes(b"weights")
    lineage.seal(data)
    lineage.seal(state, round=0)

    @dsl.pipeline
    def steps(task: str) -> Artifact:
        given = dsl.importer(artifact_uri=data.uri, artifact_class=Dataset, metadata=data.metadata)
        start = dsl.importer(artifact_uri=state.uri, artifact_class=Model, metadata=state.metadata)
        return select_cohort(task=task, run="run-1", data=given.output, state=start.output, rounds=2).output

    cohorts = steps(task=TASK.to_json()).output
    selected = json.loads(Path(cohorts.path).read_text())
    assert {number: len(cohort) for number, cohort in selected.items()} == {"1": 2, "2": 2}
    lineage.verify(cohorts)


def test_release_variants_runs_as_a_step(tmp_path: Path, artifact) -> None:
    model = b"a model file"
    url = storage.join(settings.storage(), "models", "0", "int8.tflite")
    storage.write(url, model)
    document = {
        "version": 4,
        "state_digest": storage.digest(b"state"),
        "round": 12,
        "shape": [28, 28, 1],
        "classes": 10,
        "variants": [{"kind": "int8", "url": url, "digest": storage.digest(model), "bytes": len(model)}],
        "devices": {"camera": "int8"},
    }
    version = artifact(Model, "version")
    Path(version.path).write_text(json.dumps(document))
    lineage.seal(version)

    @dsl.pipeline
    def steps(task: str) -> Artifact:
        given = dsl.importer(artifact_uri=version.uri, artifact_class=Model, metadata=version.metadata)
        return release_variants(task=task, run="run-1", version=given.output).output

    output = steps(task=TASK.to_json()).output
    trusted = TrustedKey.load(public_file(settings.signing_key_file()))
    assert release.open_envelope(Path(output.path).read_bytes(), trusted, "tiny").version == 4
    assert storage.read(release.address(settings.storage(), "tiny")) == Path(output.path).read_bytes()
    lineage.verify(output)
