"""The function that answers with one variant: it starts, answers and stops.

    python -m serving.functions.predict --model URL --digest sha256:... --kind int8

It takes the endpoint's payloads (fededge.payloads) at the endpoint's path, and tells what it is at /metadata; /ready
answers once it can.
"""

import argparse
import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fededge import payloads, storage
from fededge.errors import RequestError
from fededge.inference import load_model
from fededge.kinds import MODEL_LIMIT, runtime_of
from serving.functions import http
from serving.functions.http import Answer

if TYPE_CHECKING:
    from fededge.documents import Schema

LARGEST_BODY = 2 << 20
"""Bytes of a request: two of them at once, decoded and answered, leave the process below 100 MB."""
MOST_VALUES = 100_000
"""Numbers, lists and objects of a request: each takes far more memory than its text."""
PATHS = ("/api/v1.0/predictions", "/api/v0.1/predictions", "/predict")


class Predictor:
    """Answers with the model at `url`.

    Args:
        url: where it lies; `digest`: that its bytes must have.
        kind: of variant; `version`: of the model.

    Raises:
        StorageError, IntegrityError, VariantError: it cannot be read, was changed, or is no model.
    """

    def __init__(self, url: str, digest: str, kind: str, version: str) -> None:
        self._model = load_model(storage.read_verified(url, digest, limit=MODEL_LIMIT), kind)
        self._platform = runtime_of(kind)
        self._tags = {"model_version": version, "variant": kind, "digest": digest}

    @functools.cached_property
    def _schema(self) -> "Schema | None":
        """Read when it is asked for: images in bytes do without."""
        return self._model.schema

    def predict(self, body: bytes) -> Answer:
        """What the model answers to a request.

        Raises:
            RequestError: the request is malformed, too large, or it or its answer is not finite.
        """
        if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise RequestError(
                f"the body has more than {MOST_VALUES:,} values: send fewer examples at a time, as binData",
                "TOO_LARGE",
                413,
            )
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the body is not JSON: {error}", "MALFORMED_JSON") from error
        binary = isinstance(message, dict) and "binData" in message
        schema = None if binary else self._schema
        examples, kind = payloads.from_json(message, self._model.input_shape, schema)
        outputs = self._model.predict(examples)
        payloads.check_outputs(outputs)
        answer, described = payloads.to_json(outputs, kind, examples, schema)
        return _json({**answer, "meta": {"tags": {**self._tags, **described}}})

    def metadata(self, _: bytes) -> Answer:
        """What is served, as the endpoint tells it."""
        schema = self._schema

        def tensor(name: str, *sizes: int) -> dict[str, Any]:
            return {"name": name, "datatype": "FP32", "shape": [-1, *sizes]}

        told = {name: self._tags[name] for name in ("variant", "digest")}
        return _json(
            {
                "name": "model",
                "versions": [self._tags["model_version"]],
                "platform": self._platform,
                "inputs": [tensor("examples", *self._model.input_shape)],
                "outputs": [tensor("outputs", self._model.classes)],
                "custom": told | ({"schema": schema.to_bytes().decode()} if schema else {}),
            }
        )


def _json(content: Any) -> Answer:
    return Answer(json.dumps(content, default=np.ndarray.tolist, allow_nan=False).encode())


def program() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(
        prog="serving.functions.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="URL or path of the variant")
    parser.add_argument("--digest", required=True, help="sha256:... that its bytes must have")
    parser.add_argument("--kind", default="float32", help="kind of variant (default: float32)")
    parser.add_argument("--model-version", default="1", help="told in every answer (default: 1)")
    http.arguments(parser)
    options = parser.parse_args()
    predictor = Predictor(options.model, options.digest, options.kind, options.model_version)
    routes: dict[tuple[str, str], http.Route] = {("POST", path): predictor.predict for path in PATHS}
    routes |= {("GET", path): predictor.metadata for path in ("/metadata", "/api/v1.0/metadata")}
    routes |= {("GET", path): lambda _: _json({"status": "ready"}) for path in ("/ready", "/live")}
    http.serve(options, routes, LARGEST_BODY)


if __name__ == "__main__":
    sys.exit(http.main(program))
