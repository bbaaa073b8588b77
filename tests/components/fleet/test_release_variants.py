"""release_variants: a model version becomes a signed release."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Model

from fededge import lineage, settings, storage
from fededge.documents import ModelVersion, Release, release_url
from fededge.errors import IntegrityError, StorageError
from fededge.signing import TrustedKey, public_file
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun
from tests.registered_models import register_version

TASK = FederatedTask.from_json(
    json.dumps({"name": "tiny", "data": {"source": "digits"}, "devices": [{"name": "camera"}]})
)


MODEL = b"a model file"


@pytest.fixture
def version(artifact: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    return sealed(artifact, register_version(TASK, "run-1", {"float32": MODEL})[0])


def sealed(artifact: Any, version: ModelVersion) -> Any:
    made = artifact(Model, f"version-{version.version}")
    version.write(made.path)
    lineage.seal(made, round=version.round)
    return made


def test_a_version_is_released_signed_sealed_and_recorded(plain: Any, artifact: Any, version: Any) -> None:
    output = artifact(Artifact, "release")
    plain("fleet/release_variants")(TASK.to_json(), "run-1", version, output)
    trusted = TrustedKey.load(public_file(settings.signing_key_file()))
    envelope = storage.read(release_url(settings.storage(), "tiny"))
    manifest = Release.opened(envelope, trusted, "tiny")
    assert manifest.version == 1
    assert manifest.variant_for("camera").digest == storage.digest(MODEL)
    assert Path(output.path).read_bytes() == envelope
    assert output.metadata["parents"] == [version.metadata["digest"]]
    lineage.verify(output)
    records = TrackedRun.join("run-1", TASK).records()
    assert Release.from_content(records["release"]) == manifest
    assert output.metadata["key"] == trusted.id
    assert records["steps/release_variants"]["status"] == "succeeded"


def test_a_retry_releases_nothing_new(plain: Any, artifact: Any, version: Any) -> None:
    outputs = [artifact(Artifact, name) for name in ("first", "again")]
    for output in outputs:
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, output)
    assert outputs[0].metadata["digest"] == outputs[1].metadata["digest"]


def test_a_tampered_version_is_not_released(plain: Any, artifact: Any, version: Any) -> None:
    Path(version.path).write_text(Path(version.path).read_text().replace("float32.tflite", "evil.tflite"))
    with pytest.raises(IntegrityError, match="was changed"):
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    assert not storage.exists(release_url(settings.storage(), "tiny"))


def test_a_tampered_model_is_not_released(plain: Any, artifact: Any, version: Any) -> None:
    url = ModelVersion.read(version.path).variants[0].url
    storage.write(url, b"another file")
    with pytest.raises(IntegrityError, match="changed or damaged"):
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    assert not storage.exists(release_url(settings.storage(), "tiny"))


def test_on_a_cluster_without_the_key_nothing_is_released(
    plain: Any, artifact: Any, version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "kubernetes")
    with pytest.raises(StorageError, match="no signing key"):
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    assert not settings.signing_key_file().exists()
    assert not storage.exists(release_url(settings.storage(), "tiny"))


def test_an_older_run_that_is_resumed_releases_the_champion(
    plain: Any, artifact: Any, version: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    register_version(TASK, "run-2", {"float32": MODEL}, weights=b"others")
    plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    trusted = TrustedKey.load(public_file(settings.signing_key_file()))
    published = Release.opened(storage.read(release_url(settings.storage(), "tiny")), trusted, "tiny")
    assert published.version == 2
    assert "version 1 is no longer the champion: version 2 is" in capsys.readouterr().out
