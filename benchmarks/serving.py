"""How fast an endpoint answers: cold start, and 1 to 10,000 images in each kind of payload.

    .venvs/serving/bin/python -m benchmarks.serving [--kind dynamic-int8] [--model FILE] [--repeats 7]

The real server runs on this machine with the CNN of 317,066 parameters. Bodies are prepared before
the clock starts; the answer's numbers are parsed before it stops. What exceeds the server's limit
for one body goes in slices of 1,000 images. Beside it stand the figures of paper 004 for its own
platform: 5 s for a cold and 0.3 s for a warm request.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import requests
from seldon_core.proto import prediction_pb2, prediction_pb2_grpc

from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.delivery.endpoints.prediction import PATH, to_uint8
from fededge.inference import load_runtime
from serving.model_server import BODY_LIMIT

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serving.json"
COUNTS = (1, 10, 500, 1000, 10_000)
SLICE = 1000
PAPER_COLD, PAPER_WARM = 5.0, 0.3  # seconds
BUILD = """
import sys
from pathlib import Path
from fededge.delivery.variants import conversion as variants
from fededge.learning.frameworks.keras import models
from fededge.task import load
task = load("examples/digits/task.yaml")
model = models.inference_model(task, models.initial_weights(task))
import numpy as np
samples = np.random.default_rng(0).random((64, 28, 28, 1), dtype=np.float32)
Path(sys.argv[2]).write_bytes(variants.build(model, sys.argv[1], samples))
"""

Send = Callable[[list[Any]], np.ndarray]


def main() -> None:
    """Measure, print and write benchmarks/results/serving.json."""
    options = _options()
    with tempfile.TemporaryDirectory() as home:
        os.environ["FEDEDGE_HOME"] = home
        model = options.model.resolve() if options.model else _built(options.kind, Path(home))
        variant = {"kind": options.kind, "url": str(model), "digest": storage.digest(model.read_bytes())}
        try:
            cold = [_cold(variant) for _ in range(options.repeats)]
            endpoint = local_endpoint.start("benchmark", variant, 1)
            rows = list(_rows(endpoint, model.read_bytes(), options.repeats))
        finally:
            local_endpoint.stop("benchmark")
    result = {
        "kind": options.kind,
        "model": str(options.model) if options.model else "CNN, 317,066 parameters",
        "processors": os.cpu_count(),
        "load_1_minute": os.getloadavg()[0],
        "cold_seconds": statistics.median(cold),
        "cold_seconds_fastest": min(cold),
        "cold_ratio_to_paper": PAPER_COLD / statistics.median(cold),
        "rows": rows,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1))
    _print(result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how fast an endpoint answers.")
    parser.add_argument("--kind", default="dynamic-int8", help="variant to build (default: dynamic-int8)")
    parser.add_argument("--model", type=Path, help="a .tflite file of 10 classes for [n, 28, 28, 1] instead")
    parser.add_argument("--repeats", type=int, default=7, help="of each measurement (default: 7)")
    return parser.parse_args()


def _built(kind: str, folder: Path) -> Path:
    file = folder / f"{kind}.tflite"
    worker = ROOT / ".venvs" / "worker" / "bin" / "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([worker, "-c", BUILD, kind, file], check=True, cwd=ROOT, env=environment)
    return file


def _cold(variant: dict[str, str]) -> float:
    """Seconds from starting the server to its first answer."""
    begun = time.perf_counter()
    endpoint = local_endpoint.start("benchmark", variant, 1)
    _rest(endpoint)([_body("REST uint8 binData", np.zeros((1, 28, 28, 1), np.uint8))])
    seconds = time.perf_counter() - begun
    local_endpoint.stop("benchmark")
    return seconds


def _rows(endpoint: LocalEndpoint, model: bytes, repeats: int) -> Iterator[dict[str, Any]]:
    images = to_uint8(np.random.default_rng(0).random((max(COUNTS), 28, 28, 1), dtype=np.float32))
    threads = len(os.sched_getaffinity(0))
    runtime = load_runtime(model, threads=threads)
    expected = runtime.predict(_scaled(images))
    rest, rpc = _rest(endpoint), _grpc(endpoint)
    payloads: dict[str, Send] = {
        "REST ndarray": rest,
        "REST tensor": rest,
        "REST uint8 binData": rest,
        "REST float32 binData": rest,
        "gRPC uint8 binData": rpc,
        "gRPC ndarray": rpc,
    }
    for count in COUNTS:
        times = _times(partial(runtime.predict, _scaled(images[:count])), repeats)
        yield _row(f"model alone, {threads} threads", count, 0, times)
    for payload, send in payloads.items():
        for count in COUNTS:
            slow = payload == "gRPC ndarray" and count > 10
            if slow and count > 500:
                continue
            bodies = _bodies(payload, images[:count])
            begun = time.perf_counter()
            found = send(bodies)
            times = [time.perf_counter() - begun]
            if not np.allclose(found, expected[:count], atol=1e-3):
                raise SystemExit(f"{payload}: the endpoint's answers are not the model's")
            if not slow:
                times = _times(partial(send, bodies), repeats)
            yield _row(payload, count, len(bodies), times)


def _row(payload: str, count: int, requests_: int, times: list[float]) -> dict[str, Any]:
    seconds = statistics.median(times)
    return {
        "payload": payload,
        "images": count,
        "requests": requests_,
        "ms": 1000 * seconds,
        "ms_fastest": 1000 * min(times),
        "us_per_image": 1e6 * seconds / count,
        "ratio_to_paper": PAPER_WARM / seconds,
    }


def _times(work: Callable[[], Any], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return times


def _scaled(images: np.ndarray) -> np.ndarray:
    return np.divide(images, np.float32(255), dtype=np.float32)


def _bodies(payload: str, images: np.ndarray) -> list[Any]:
    body = _body(payload, images)
    size = len(body) if isinstance(body, bytes) else body.ByteSize()
    if size <= BODY_LIMIT:
        return [body]
    return [_body(payload, images[at : at + SLICE]) for at in range(0, len(images), SLICE)]


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


def _rest(endpoint: LocalEndpoint) -> Send:
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


def _print(result: dict[str, Any]) -> None:
    cold, ratio = result["cold_seconds"], result["cold_ratio_to_paper"]
    print(
        f"{result['model']}, {result['kind']}, {result['processors']} processors, load {result['load_1_minute']:.1f}"
    )
    print(f"cold start to first answer: {cold:.2f} s (fastest {result['cold_seconds_fastest']:.2f} s)")
    print(f"  paper 004: {PAPER_COLD:g} s, {ratio:.1f} times as long")
    head = ("payload", "images", "requests", "ms", "fastest", "us/image", "paper's 300 ms / ms")
    print("{:<25}{:>8}{:>10}{:>10}{:>10}{:>10}{:>21}".format(*head))
    for row in result["rows"]:
        print(
            f"{row['payload']:<25}{row['images']:>8,}{row['requests']:>10}{row['ms']:>10.1f}"
            f"{row['ms_fastest']:>10.1f}{row['us_per_image']:>10.1f}{row['ratio_to_paper']:>21.1f}"
        )
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
