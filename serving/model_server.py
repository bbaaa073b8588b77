"""The model server: one variant behind Seldon's REST and gRPC protocol.

    seldon-core-microservice serving.model_server.ModelServer --service-type MODEL --parameters '[
      {"name": "model_url", "value": "s3://models/3f..e1/int8.tflite", "type": "STRING"},
      {"name": "model_digest", "value": "sha256:3f..e1", "type": "STRING"},
      {"name": "variant", "value": "int8", "type": "STRING"},
      {"name": "model_version", "value": "3", "type": "STRING"}]'

It starts only with the bytes that were promised: a model with another digest ends the process.
"""

import time
from typing import Any

import numpy as np
from seldon_core.proto import prediction_pb2

from fededge import storage
from fededge.errors import RequestError
from fededge.inference import Runtime, load_runtime
from serving import lifetime, payloads, rest, rpc

MODEL_LIMIT = 1 << 30  # bytes of a model file
BODY_LIMIT = 16 << 20


class ModelServer:
    """Seldon component that answers with one variant of a model version.

    Args:
        model_url: where the variant lies.
        model_digest: `sha256:` and the SHA-256 that its bytes must have.
        variant: its kind, told in the tags of every answer.
        model_version: its version, told likewise.
        threads: CPU threads for one prediction.
        body_limit: largest request in bytes.

    Raises:
        StorageError: the variant cannot be read.
        IntegrityError: its digest is not `model_digest`.
    """

    def __init__(
        self,
        model_url: str,
        model_digest: str,
        variant: str,
        model_version: str,
        threads: int = 1,
        body_limit: int = BODY_LIMIT,
    ) -> None:
        lifetime.end_together()
        rpc.install(body_limit)
        self._model = storage.read_verified(model_url, model_digest, limit=MODEL_LIMIT)
        self._threads = threads
        self._runtime: Runtime | None = None
        self._tags = {"model_version": model_version, "variant": variant, "digest": model_digest}
        self.model_error_handler = rest.blueprint(lambda: self._runtime is not None, body_limit)

    def load(self) -> None:
        """Load the model and answer a first blank example; Seldon calls this in each serving process.

        Raises:
            VariantError: the file is not a model.
        """
        runtime = load_runtime(self._model, kind="litert", threads=self._threads)
        runtime.predict(np.zeros((1, *runtime.input_shape), np.float32))
        self._runtime = runtime

    def predict_raw(self, message: Any) -> Any:
        """Answer a request: a SeldonMessage for gRPC, parsed JSON for REST, in the same form.

        Raises:
            RequestError: the request is malformed, has the wrong shape or is not finite.
        """
        if self._runtime is None:
            raise RequestError("the model is still loading: try again", "LOADING", 503)
        over_grpc = isinstance(message, prediction_pb2.SeldonMessage)
        decode = payloads.from_proto if over_grpc else payloads.from_json
        examples, kind = decode(message, self._runtime.input_shape)
        begun = time.perf_counter()
        outputs = self._runtime.predict(examples)
        metrics = _metrics(len(examples), 1000 * (time.perf_counter() - begun), kind)
        if over_grpc:
            answer, described = payloads.to_proto(outputs, kind)
            for metric in metrics:
                answer.meta.metrics.add(**metric)
            _tag(answer.meta, {**self._tags, **described})
            return answer
        answer, described = payloads.to_json(outputs, kind)
        return {**answer, "meta": {"tags": {**self._tags, **described}, "metrics": metrics}}


def _metrics(examples: int, milliseconds: float, kind: str) -> list[dict[str, Any]]:
    tags = {"payload": kind}
    return [
        {"key": "fededge_examples_total", "type": "COUNTER", "value": examples, "tags": tags},
        {"key": "fededge_predict_seconds", "type": "TIMER", "value": milliseconds, "tags": tags},
    ]


def _tag(meta: prediction_pb2.Meta, tags: dict[str, Any]) -> None:
    for name, value in tags.items():
        if isinstance(value, list):
            meta.tags[name].list_value.extend(value)
        else:
            meta.tags[name].string_value = value
