"""The model server: one variant behind Seldon's REST and gRPC protocol.

    seldon-core-microservice serving.model_server.ModelServer --service-type MODEL --parameters '[
      {"name": "model_url", "value": "s3://models/3f..e1/int8.tflite", "type": "STRING"},
      {"name": "model_digest", "value": "sha256:3f..e1", "type": "STRING"},
      {"name": "variant", "value": "int8", "type": "STRING"},
      {"name": "model_version", "value": "3", "type": "STRING"}]'

It starts only with the bytes that were promised: a model with another digest ends the process. It
listens on `FEDEDGE_ENDPOINT_HOST`: on this machine only by default, on all interfaces in a pod.
"""

import time
from typing import Any

import numpy as np
from seldon_core.env_utils import get_deployment_name
from seldon_core.proto import prediction_pb2

from fededge import payloads, storage
from fededge.errors import RequestError
from fededge.inference import LoadedModel, load_model
from fededge.kinds import MODEL_LIMIT, runtime_of
from serving import connections, feedback, lifetime, metrics, proto_payloads, rest, rpc


class ModelServer:
    """Seldon component that answers with one variant of a model version.

    Args:
        model_url: where the variant lies.
        model_digest: `sha256:` and the SHA-256 that its bytes must have.
        variant: its kind, which says what executes it, told in the tags of every answer.
        model_version: its version, told likewise.
        threads: CPU threads for one prediction.

    Raises:
        StorageError: the variant cannot be read.
        IntegrityError: its digest is not `model_digest`.
        VariantError: the file is not a model.
    """

    def __init__(
        self, model_url: str, model_digest: str, variant: str, model_version: str, threads: int = 1
    ) -> None:
        lifetime.end_together()
        for each in (connections, feedback, rpc):
            each.install()
        metrics.install(model_version)
        self._model = storage.read_verified(model_url, model_digest, limit=MODEL_LIMIT)
        self._kind, self._threads = variant, threads
        described = load_model(self._model, variant)
        self._shape, self._outputs = described.input_shape, described.classes
        self._schema = described.schema
        self._runtime: LoadedModel | None = None
        self._tags = {"model_version": model_version, "variant": variant, "digest": model_digest}
        self.model_error_handler = rest.blueprint(lambda: self._runtime is not None)

    def load(self) -> None:
        """Load the model and answer a first blank example; Seldon calls this in each serving process."""
        runtime = load_model(self._model, self._kind, self._threads)
        runtime.predict(np.zeros((1, *runtime.input_shape), np.float32))
        self._runtime = runtime

    def init_metadata(self) -> dict[str, Any]:
        """What is served, in Seldon's form of metadata; -1 stands for any number of examples."""

        def tensor(name: str, *sizes: int) -> dict[str, Any]:
            return {"name": name, "datatype": "FP32", "shape": [-1, *sizes]}

        return {
            "name": get_deployment_name("model"),
            "versions": [self._tags["model_version"]],
            "platform": runtime_of(self._kind),
            "inputs": [tensor("examples", *self._shape)],
            "outputs": [tensor("outputs", self._outputs)],
            "custom": {
                "variant": self._tags["variant"],
                "digest": self._tags["digest"],
                **({"schema": self._schema.to_bytes().decode()} if self._schema else {}),
            },
        }

    def predict_raw(self, message: Any) -> Any:
        """Answer a request: a SeldonMessage for gRPC, parsed JSON for REST, in the same form.

        Raises:
            RequestError: the request is malformed, has the wrong shape, or it or its answer is not finite.
        """
        if self._runtime is None:
            raise RequestError("the model is still loading: try again", "LOADING", 503)
        over_grpc = isinstance(message, prediction_pb2.SeldonMessage)
        decode = proto_payloads.from_proto if over_grpc else payloads.from_json
        examples, kind = decode(message, self._runtime.input_shape, self._schema)
        begun = time.perf_counter()
        outputs = self._runtime.predict(examples)
        milliseconds = 1000 * (time.perf_counter() - begun)
        payloads.check_outputs(outputs)
        counted = [
            self._metric("fededge_examples_total", "COUNTER", len(examples), payload=kind),
            self._metric("fededge_predict_seconds", "TIMER", milliseconds, payload=kind),
        ]
        if over_grpc:
            answer, described = proto_payloads.to_proto(outputs, kind, examples, self._schema)
            return _tagged(answer, {**self._tags, **described}, counted)
        answer, described = payloads.to_json(outputs, kind, examples, self._schema)
        return {**answer, "meta": {"tags": {**self._tags, **described}, "metrics": counted}}

    def send_feedback_raw(self, message: prediction_pb2.Feedback) -> prediction_pb2.SeldonMessage:
        """Count a feedback, over REST and gRPC; Seldon has added its reward to the total."""
        counted = [self._metric("fededge_feedback_total", "COUNTER", 1)]
        return _tagged(prediction_pb2.SeldonMessage(), self._tags, counted)

    def _metric(self, key: str, kind: str, value: float, **tags: str) -> dict[str, Any]:
        labels = {"version": self._tags["model_version"], "variant": self._tags["variant"], **tags}
        return {"key": key, "type": kind, "value": value, "tags": labels}


def _tagged(
    answer: prediction_pb2.SeldonMessage, tags: dict[str, Any], counted: list[dict[str, Any]]
) -> prediction_pb2.SeldonMessage:
    for metric in counted:
        answer.meta.metrics.add(**metric)
    for name, value in tags.items():
        if isinstance(value, list):
            answer.meta.tags[name].list_value.extend(value)
        else:
            answer.meta.tags[name].string_value = value
    return answer
