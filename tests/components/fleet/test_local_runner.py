"""The fleet's components through Kubeflow's local runner."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local
from kfp.dsl import Artifact, Model

from components.fleet.release_variants.component import release_variants
from components.fleet.select_cohort.component import select_cohort
from fededge import lineage, settings, storage
from fededge.documents import (
    ClientCounts,
    Feature,
    Label,
    Population,
    Release,
    Schema,
    Selection,
    release_url,
)
from fededge.signing import TrustedKey, public_file
from fededge.task import FederatedTask
from tests.registered_models import register_version

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


def test_select_cohort_runs_as_a_step(tmp_path: Path, artifact: Any) -> None:
    population = artifact(Artifact, "population")
    Population(
        clients=[ClientCounts(id=f"site-{i}", train=10, test=1) for i in range(3)],
        example=Schema(features=[Feature(name="x", dtype="float32", shape=[2])], label=Label(classes=2)),
        examples=30,
        simulated=True,
    ).write(population.path)
    lineage.seal(population)

    @dsl.pipeline
    def steps(task: str) -> Artifact:
        given = dsl.importer(
            artifact_uri=population.uri, artifact_class=Artifact, metadata=population.metadata
        )
        return select_cohort(task=task, compiled=task, run="run-1", population=given.output).output

    selection = steps(task=TASK.to_json()).output
    assert Selection.read(selection.path).size == 2
    lineage.verify(selection)


def test_release_variants_runs_as_a_step(tmp_path: Path, artifact: Any) -> None:
    registered, _ = register_version(TASK, "run-1", {"float32": b"a model file"})
    version = artifact(Model, "version")
    registered.write(version.path)
    lineage.seal(version)

    @dsl.pipeline
    def steps(task: str) -> Artifact:
        given = dsl.importer(artifact_uri=version.uri, artifact_class=Model, metadata=version.metadata)
        return release_variants(task=task, run="run-1", version=given.output).output

    output = steps(task=TASK.to_json()).output
    trusted = TrustedKey.load(public_file(settings.signing_key_file()))
    assert Release.opened(Path(output.path).read_bytes(), trusted, "tiny").version == 1
    assert storage.read(release_url(settings.storage(), "tiny")) == Path(output.path).read_bytes()
    lineage.verify(output)
