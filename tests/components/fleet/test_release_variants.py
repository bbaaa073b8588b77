"""release_variants: a model version becomes a signed release."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Model

from fededge import lineage, settings, storage
from fededge.documents import Release, release_url
from fededge.errors import IntegrityError, StorageError
from fededge.signing import TrustedKey, public_file
from fededge.task import FederatedTask
from fededge.tracking.run import TrackedRun

TASK = FederatedTask.from_json(
    json.dumps({"name": "tiny", "data": {"source": "digits"}, "devices": [{"name": "camera"}]})
)


@pytest.fixture
def version(artifact, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    model = b"a model file"
    url = storage.join(settings.storage(), "models", "0", "int8.tflite")
    storage.write(url, model)
    variant = {"kind": "int8", "url": url, "digest": storage.digest(model), "bytes": len(model)}
    document = {
        "name": "tiny",
        "version": 4,
        "state_digest": storage.digest(b"state"),
        "round": 12,
        "shape": [28, 28, 1],
        "classes": 10,
        "variants": [variant],
        "devices": {"camera": "int8"},
    }
    made = artifact(Model, "version")
    Path(made.path).write_text(json.dumps(document))
    lineage.seal(made, round=12)
    return made


def test_a_version_is_released_signed_sealed_and_recorded(plain, artifact, version) -> None:
    output = artifact(Artifact, "release")
    plain("fleet/release_variants")(TASK.to_json(), "run-1", version, output)
    trusted = TrustedKey.load(public_file(settings.signing_key_file()))
    envelope = storage.read(release_url(settings.storage(), "tiny"))
    manifest = Release.opened(envelope, trusted, "tiny")
    assert (manifest.version, manifest.round) == (4, 12)
    assert manifest.variant_for("camera").kind == "int8"
    assert Path(output.path).read_bytes() == envelope
    assert output.metadata["parents"] == [version.metadata["digest"]]
    lineage.verify(output)
    records = TrackedRun.join("run-1", TASK).records()
    assert records["release"]["key"] == trusted.id
    assert records["release"]["classes"]["camera"]["digest"] == manifest.variant_for("camera").digest
    assert records["steps/release_variants"]["status"] == "succeeded"


def test_a_retry_releases_nothing_new(plain, artifact, version) -> None:
    outputs = [artifact(Artifact, name) for name in ("first", "again")]
    for output in outputs:
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, output)
    assert outputs[0].metadata["digest"] == outputs[1].metadata["digest"]


def test_a_tampered_version_is_not_released(plain, artifact, version) -> None:
    Path(version.path).write_text(Path(version.path).read_text().replace("int8.tflite", "evil.tflite"))
    with pytest.raises(IntegrityError, match="was changed"):
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    assert not storage.exists(release_url(settings.storage(), "tiny"))


def test_a_tampered_model_is_not_released(plain, artifact, version) -> None:
    url = json.loads(Path(version.path).read_text())["variants"][0]["url"]
    storage.write(url, b"another file")
    with pytest.raises(IntegrityError, match="changed or damaged"):
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    assert not storage.exists(release_url(settings.storage(), "tiny"))


def test_on_a_cluster_without_the_key_nothing_is_released(
    plain, artifact, version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "kubernetes")
    with pytest.raises(StorageError, match="no signing key"):
        plain("fleet/release_variants")(TASK.to_json(), "run-1", version, artifact(Artifact, "release"))
    assert not settings.signing_key_file().exists()
    assert not storage.exists(release_url(settings.storage(), "tiny"))
