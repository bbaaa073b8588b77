"""A small published fleet: two tiny models that take 4x4 images and know 3 classes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fededge import settings, storage
from fededge.documents import ModelVersion, Release, release_url
from fededge.fleet import release
from fededge.signing import SigningKey, public_file
from fededge.task import FederatedTask

FIXTURES = Path(__file__).parent / "fixtures"
MEASURED = {"compressed_bytes": 100, "score": 0.97, "latency_ms_1": 0.1, "latency_ms_500": 10.0}
CLASSES = {"gateway": "float32", "camera": "float32", "sensor-hub": "float32"}


@dataclass
class Fleet:
    """What a publisher has: a storage root, a task and a signing key."""

    root: str
    task: FederatedTask
    key: SigningKey
    key_file: Path

    @property
    def trusted_key(self) -> Path:
        return public_file(self.key_file)

    def document(self, version: int, model: str | bytes = "first") -> dict:
        data = model if isinstance(model, bytes) else (FIXTURES / f"{model}.tflite").read_bytes()
        digest = storage.digest(data)
        url = storage.join(self.root, "models", digest.removeprefix("sha256:"), "float32.tflite")
        storage.write(url, data)
        variant = {"kind": "float32", "url": url, "digest": digest, "bytes": len(data)}
        return {
            "format": "fededge-model-version-1",
            "name": self.task.name,
            "version": version,
            "state_digest": storage.digest(b"state"),
            "task_digest": storage.digest(b"task"),
            "weights_digest": storage.digest(b"weights"),
            "git_commit": "unknown",
            "run": "run-1",
            "champion": True,
            "round": 12,
            "shape": [4, 4, 1],
            "classes": 3,
            "score": 0.98,
            "variants": [{**variant, **MEASURED}],
            "devices": CLASSES,
        }

    def manifest(self, version: int, model: str | bytes = "first") -> Release:
        return release.build(ModelVersion.from_content(self.document(version, model)))

    def publish(self, version: int, model: str | bytes = "first") -> Release:
        return release.publish(self.root, self.manifest(version, model), self.key)[0]

    @property
    def url(self) -> str:
        return release_url(self.root, self.task.name)

    def model_url(self, manifest: Release) -> str:
        return manifest.devices["camera"].url


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    devices = [{"name": name} for name in CLASSES]
    content = {"name": "tiny", "data": {"source": "digits"}, "devices": devices}
    path = settings.signing_key_file()
    key = SigningKey.create(path)
    return Fleet(f"file://{tmp_path}/storage", FederatedTask.from_json(json.dumps(content)), key, path)


@pytest.fixture
def examples() -> tuple[np.ndarray, np.ndarray]:
    """Forty 4x4 images, labeled as the first model answers."""
    x = np.random.default_rng(5).random((40, 4, 4, 1), dtype=np.float32)
    weights = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    return x, (x.reshape(40, 16) @ weights).argmax(axis=1).astype(np.int64)
