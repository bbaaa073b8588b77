"""What an endpoint adds to the model's own time: cold start, and 1 to 10,000 images in each kind of payload.

    .venvs/serving/bin/python -m benchmarks.serving [--kind dynamic-int8] [--model FILE] [--repeats 15]
        [--images 1 10 500 1000 10000]

The real server runs on this machine with the CNN of 317,066 parameters. The baseline is the interpreter
itself, in this process, with as many threads: it and the endpoint answer in turn, and `above ms` is the
median of their differences. Bodies are prepared before the clock starts; the answer's numbers are parsed
before it stops. What exceeds the server's limit for one body goes in slices of 1,000 images. The baseline
of the cold start is a process that imports what Seldon's server imports, and does nothing. Prints a table
and writes benchmarks/results/serving.json.
"""

import argparse
import base64
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import requests
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc

from benchmarks.results import save, table
from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.delivery.endpoints.pod import ENVIRONMENT
from fededge.delivery.endpoints.prediction import PATH, to_uint8
from fededge.documents import VariantFile
from fededge.inference import load_model
from serving import cost
from serving.limits import BODY_BYTES, DECODE_BYTES

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (1, 10, 500, 1000, 10_000)
SLICE = 1000
SLICES = {"gRPC ndarray": 50}  # images of a request, where all at once are refused
SLOW = {"gRPC ndarray": 500}  # most images of a payload that takes seconds, which is measured once
IMPORTS = "import seldon_core.microservice, ai_edge_litert.interpreter"
BUILD = """
import sys
from pathlib import Path
from fededge.delivery.variants import conversion
from fededge.documents import Feature, Label, Schema
from fededge.learning.frameworks import model_spec
from fededge.task import Model
image = Feature(name="image", dtype="float32", shape=[28, 28, 1])
spec = model_spec(Model(), Schema(features=[image], label=Label(classes=10)), 0)
model = spec.inference(spec.initial_weights())
Path(sys.argv[2]).write_bytes(conversion.build(model, sys.argv[1]))
"""

Send = Callable[[list[Any]], np.ndarray]


def main() -> None:
    """Measure, print and write the result."""
    options = _options()
    with tempfile.TemporaryDirectory() as home:
        os.environ["FEDEDGE_HOME"] = home
        model = options.model.resolve() if options.model else built(options.kind, Path(home))
        data = model.read_bytes()
        variant = VariantFile(kind=options.kind, url=str(model), digest=storage.digest(data), bytes=len(data))
        try:
            rows = [_cold(variant, options.repeats)]
            endpoint = local_endpoint.start("benchmark", variant, 1)
            rows += _rows(endpoint, data, options.images, options.repeats)
        finally:
            local_endpoint.stop("benchmark")
    print(f"{options.kind}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print(table(rows))
    print(save("serving", rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what an endpoint adds to its model's own time.")
    kinds = ("float32", "float16", "dynamic-int8")
    parser.add_argument(
        "--kind", default="dynamic-int8", choices=kinds, help="variant to build (default: dynamic-int8)"
    )
    parser.add_argument("--model", type=Path, help="a .tflite file of 10 classes for [n, 28, 28, 1] instead")
    parser.add_argument(
        "--images", type=int, nargs="+", default=COUNTS, help=f"in a request (default: {COUNTS})"
    )
    parser.add_argument("--repeats", type=int, default=15, help="of each measurement (default: 15)")
    return parser.parse_args()


def built(kind: str, folder: Path) -> Path:
    """The CNN as a variant of this kind, in a file in `folder`."""
    file = folder / f"{kind}.tflite"
    worker = ROOT / ".venvs" / "worker" / "bin" / "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([worker, "-c", BUILD, kind, file], check=True, cwd=ROOT, env=environment)
    return file


def _cold(variant: VariantFile, repeats: int) -> dict[str, Any]:
    """From starting a server to its first answer."""

    environment = {**os.environ, **ENVIRONMENT}

    def imports() -> None:
        subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORTS], check=True, env=environment)

    def first_answer() -> None:
        endpoint = local_endpoint.start("benchmark", variant, 1)
        over_rest(endpoint)([_body("REST uint8 binData", np.zeros((1, 28, 28, 1), np.uint8))])

    times = []
    for _ in range(repeats):
        times.append((_seconds(imports), _seconds(first_answer)))
        local_endpoint.stop("benchmark")
    return _row("cold start, above its imports", 1, 1, times)


def _rows(
    endpoint: LocalEndpoint, model: bytes, counts: Sequence[int], repeats: int
) -> Iterator[dict[str, Any]]:
    images = to_uint8(np.random.default_rng(0).random((max(counts), 28, 28, 1), dtype=np.float32))
    runtime = load_model(model, threads=len(os.sched_getaffinity(0)))
    expected = runtime.predict(_scaled(images))
    rest, rpc = over_rest(endpoint), _grpc(endpoint)
    payloads: dict[str, Send] = {
        "REST uint8 binData": rest,
        "REST float32 binData": rest,
        "REST tensor": rest,
        "REST ndarray": rest,
        "gRPC uint8 binData": rpc,
        "gRPC ndarray": rpc,
    }
    for payload, send in payloads.items():
        for count in counts:
            if count > SLOW.get(payload, count):
                continue
            bodies, examples = bodies_of(payload, images[:count]), _scaled(images[:count])
            if not np.allclose(send(bodies), expected[:count], atol=1e-3):
                raise SystemExit(f"{payload}: the endpoint's answers are not the model's")
            times = [
                (
                    _seconds(lambda examples=examples: runtime.predict(examples)),  # type: ignore[misc]
                    _seconds(lambda send=send, bodies=bodies: send(bodies)),  # type: ignore[misc]
                )
                for _ in range(1 if payload in SLOW and count > 10 else repeats)
            ]
            yield _row(payload, count, len(bodies), times)


def _row(payload: str, count: int, requests_: int, times: list[tuple[float, float]]) -> dict[str, Any]:
    """A line of the table from pairs of seconds: of the baseline, and of the endpoint."""
    baseline = statistics.median(before for before, _ in times)
    seconds = statistics.median(ours for _, ours in times)
    above = statistics.median(ours - before for before, ours in times)
    return {
        "payload": payload,
        "images": count,
        "requests": requests_,
        "baseline ms": round(1000 * baseline, 2),
        "endpoint ms": round(1000 * seconds, 2),
        "above ms": round(1000 * above, 2),
        "ratio": round(seconds / baseline, 2),
        "fastest ms": round(1000 * min(ours for _, ours in times), 2),
    }


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _scaled(images: np.ndarray) -> np.ndarray:
    return np.divide(images, np.float32(255), dtype=np.float32)


def bodies_of(payload: str, images: np.ndarray) -> list[Any]:
    """Requests with uint8 `images` [n, 28, 28, 1]: one, or slices where the server's limits ask for it."""
    body = _body(payload, images)
    if isinstance(body, bytes):
        size, needed = len(body), cost.of_json(body)
    else:
        size, needed = body.ByteSize(), cost.of_message(body.SerializeToString())
    if size <= BODY_BYTES and needed <= DECODE_BYTES:
        return [body]
    count = SLICES.get(payload, SLICE)
    return [_body(payload, images[at : at + count]) for at in range(0, len(images), count)]


def _body(payload: str, images: np.ndarray) -> Any:
    """A request: bytes for REST, a message for gRPC."""
    if payload == "gRPC uint8 binData":
        return prediction_pb2.SeldonMessage(binData=images.tobytes())
    numbers = _scaled(images).astype(np.float64).round(4)
    if payload == "gRPC ndarray":
        message = prediction_pb2.SeldonMessage()
        message.data.ndarray.extend(numbers.tolist())
        return message
    if payload == "REST ndarray":
        return orjson.dumps({"data": {"ndarray": numbers.tolist()}})
    if payload == "REST tensor":
        return orjson.dumps(
            {"data": {"tensor": {"shape": numbers.shape, "values": numbers.ravel().tolist()}}}
        )
    if payload == "REST uint8 binData":
        return orjson.dumps({"binData": base64.b64encode(images.tobytes()).decode()})
    content = base64.b64encode(_scaled(images).astype("<f4").tobytes()).decode()
    return orjson.dumps({"binData": content, "meta": {"tags": {"dtype": "float32"}}})


def over_rest(endpoint: LocalEndpoint) -> Send:
    """Sends bodies over REST, one after the other; gives float32 [n, 10]."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Content-Type"] = "application/json"

    def send(bodies: list[Any]) -> np.ndarray:
        found = []
        for body in bodies:
            answer = session.post(endpoint.rest + PATH, data=body, timeout=300)
            answer.raise_for_status()
            content = orjson.loads(answer.content)
            if "binData" in content:
                found.append(np.frombuffer(base64.b64decode(content["binData"]), "<f4").reshape(-1, 10))
            else:
                data = content["data"]
                values = data["tensor"]["values"] if "tensor" in data else data["ndarray"]
                found.append(np.array(values, np.float32).reshape(-1, 10))
        return np.concatenate(found)

    return send


def _grpc(endpoint: LocalEndpoint) -> Send:
    sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    stub = prediction_pb2_grpc.SeldonStub(grpc.insecure_channel(endpoint.grpc, sizes))

    def send(bodies: list[Any]) -> np.ndarray:
        found = []
        for body in bodies:
            answer = stub.Predict(body, timeout=300)
            if answer.binData:
                found.append(np.frombuffer(answer.binData, "<f4").reshape(-1, 10))
            else:
                rows = [
                    [each.number_value for each in row.list_value.values]
                    for row in answer.data.ndarray.values
                ]
                found.append(np.array(rows, np.float32))
        return np.concatenate(found)

    return send


if __name__ == "__main__":
    main()
