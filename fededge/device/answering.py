"""Answers requests with one model: the child of fededge.device.model_process.

    python -m fededge.device.answering SPEC

Its standard input is one end of a socket. It is sent the bytes of the model first, and then requests, each with the
payloads of the endpoint (fededge.payloads) as JSON; it sends an answer to each: an empty one to the model, once that is
loaded.

    message = length (uint32, big-endian), bytes        answer = status of HTTP (uint16), length (uint32), bytes
"""

import json
import os
import resource
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from fededge.documents import Schema
    from fededge.inference import LoadedModel

MESSAGE, ANSWER = struct.Struct(">I"), struct.Struct(">HI")
MOST_OUTPUTS = 1 << 20
"""Numbers in an answer."""
LOADED, UNUSABLE = 200, 500


def received(source: BinaryIO) -> bytes | None:
    """The next message; None where there is no further one."""
    head = source.read(MESSAGE.size)
    if len(head) < MESSAGE.size:
        return None
    (length,) = MESSAGE.unpack(head)
    body = source.read(length)
    return body if len(body) == length else None


def answer(
    model: "LoadedModel", schema: "Schema | None", tags: dict[str, Any], body: bytes
) -> tuple[int, bytes]:
    """Status of HTTP and body of the answer to the request `body`; `tags` are told beside it."""
    import numpy as np

    from fededge.errors import RequestError, VariantError

    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else str(value)

    try:
        return 200, json.dumps(_answered(model, schema, tags, body), default=plain).encode()
    except RequestError as error:
        return error.status, failure(error)
    except VariantError as error:
        return 422, failure(RequestError(str(error), "MODEL_FAILS", 422))


def _answered(
    model: "LoadedModel", schema: "Schema | None", tags: dict[str, Any], body: bytes
) -> dict[str, Any]:
    from fededge import payloads
    from fededge.errors import RequestError

    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}", "MALFORMED_JSON") from error
    examples, kind = payloads.from_json(message, model.input_shape, schema)
    if len(examples) * model.classes > MOST_OUTPUTS:
        raise RequestError(
            f"the answer would have more than {MOST_OUTPUTS:,} numbers: send fewer examples at a time",
            "TOO_LARGE",
            413,
        )
    outputs = model.predict(examples)
    payloads.check_outputs(outputs)
    told, described = payloads.to_json(outputs, kind, examples, schema)
    return {**told, "meta": {"tags": {**tags, **described}}}


def failure(error: Any) -> bytes:
    """What a RequestError is told as."""
    told = {"code": error.status, "reason": error.reason, "info": str(error), "status": "FAILURE"}
    return json.dumps({"status": told}).encode()


def main() -> None:
    """Load the model, within the memory that it may take, and answer until nobody asks any more."""
    spec = json.loads(sys.argv[1])
    owner = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    resource.setrlimit(resource.RLIMIT_DATA, (spec["memory_bytes"], spec["memory_bytes"]))
    from fededge.errors import FedEdgeError
    from fededge.inference import load_model

    source = owner.makefile("rb")

    def send(status: int, body: bytes) -> None:
        owner.sendall(ANSWER.pack(status, len(body)) + body)

    try:
        model = load_model(received(source) or b"", spec["kind"], threads=1)
        schema = model.schema
    except FedEdgeError as error:
        send(UNUSABLE, str(error).encode())
        return
    send(LOADED, b"")
    while (body := received(source)) is not None:
        send(*answer(model, schema, spec["tags"], body))


if __name__ == "__main__":
    main()
