"""Documents of model versions, for tests that serve or release one without registering it."""

from typing import Any

from fededge import storage
from fededge.documents import ModelVersion, PublishedVariant

DIGEST = "sha256:" + "0" * 64


def published(url: str, kind: str = "float32", **facts: Any) -> PublishedVariant:
    """A variant whose file lies at `url`; `facts` replace what is said of the file there."""
    usual: dict[str, Any] = {
        "compressed_bytes": 100,
        "score": 0.97,
        "latency_ms_1": 0.1,
        "latency_ms_500": 9.0,
    }
    if not {"digest", "bytes"} <= set(facts):
        data = storage.read(url)
        usual |= {"digest": storage.digest(data), "bytes": len(data)}
    return PublishedVariant(kind=kind, url=url, **{**usual, **facts})


def model_version(variants: list[PublishedVariant], **facts: Any) -> ModelVersion:
    """A version of the model `tiny` that passed its gate; `facts` replace what is usual."""
    usual: dict[str, Any] = {
        "name": "tiny",
        "version": 1,
        "task_digest": DIGEST,
        "state_digest": DIGEST,
        "weights_digest": DIGEST,
        "round": 12,
        "git_commit": "unknown",
        "run": "run-1",
        "champion": True,
        "score": 0.98,
        "shape": [28, 28, 1],
        "classes": 10,
        "devices": {},
    }
    return ModelVersion(variants=variants, **{**usual, **facts})
