"""Asking an endpoint over REST: what it says, what it refuses, and what is no endpoint."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import storage
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints import prediction
from fededge.documents import VariantFile
from fededge.errors import EndpointError, RequestError

pytestmark = pytest.mark.environment("serving")

TINY = Path(__file__).resolve().parents[3] / "serving" / "fixtures" / "tiny.tflite"
IMAGE = np.zeros((1, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    data = TINY.read_bytes()
    variant = VariantFile(kind="float32", url=str(TINY), digest=storage.digest(data), bytes=len(data))
    yield local_endpoint.start("tiny", variant, 1).rest
    local_endpoint.stop("tiny")


def test_an_endpoint_tells_the_shape_it_takes(url: str) -> None:
    assert prediction.input_of(url) == ((28, 28, 1), None)
    assert prediction.input_of(f"{url}/") == ((28, 28, 1), None)


@pytest.mark.parametrize("shape", [(1, 14, 56, 1), (1, 56, 14, 1), (1, 784), (1, 56, 56, 1), (4, 28, 28, 3)])
def test_images_of_another_shape_are_never_taken_for_those_of_the_model(
    url: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(RequestError) as caught:
        prediction.predict(url, np.zeros(shape, np.uint8))
    assert caught.value.reason == "WRONG_SHAPE"


MALFORMED = [
    *("http://[x", "http://", "http://:80", "http://a:b", "http://a:99999", "ftp://x", "://", "x", ""),
    *("http://\n", "http://\x00", "http://ex ample", "http://a/?q", "http://a/#f", "http://a..b", "http://."),
    *("http://" + "a" * 300, "http://\ud800"),
]


@pytest.mark.parametrize("address", MALFORMED)
def test_a_malformed_url_is_an_endpoint_error_of_one_line(address: str) -> None:
    for ask in (prediction.input_of, lambda url: prediction.predict(url, IMAGE)):
        with pytest.raises(EndpointError) as caught:
            ask(address)
        assert str(caught.value).replace("\ud800", "").isprintable()


@contextmanager
def answering(content: bytes, code: int = 200) -> Iterator[str]:
    """A server that answers everything with `content`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 (http.server's name)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_seldons_executor_tells_the_shape_of_its_graph() -> None:
    inputs = [{"name": "examples", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    metadata = {"name": "main", "models": {"model": {"inputs": inputs}}, "graphinputs": inputs}
    with answering(json.dumps(metadata).encode()) as url:
        assert prediction.input_of(url) == ((8, 8, 1), None)


NONSENSE: list[Any] = [
    *(None, 3, [], "x", {}, {"inputs": []}, {"inputs": [{}]}, {"inputs": [{"shape": 3}]}, {"inputs": [3]}),
    *({"inputs": [{"shape": [-1]}]}, {"inputs": [{"shape": [-1, -1]}]}, {"inputs": [{"shape": [-1, "8"]}]}),
]


@pytest.mark.parametrize("content", NONSENSE)
def test_metadata_without_a_shape_is_an_endpoint_error(content: Any) -> None:
    with (
        answering(json.dumps(content).encode()) as url,
        pytest.raises(EndpointError, match="Deploy it again"),
    ):
        prediction.input_of(url)


TAGS = {"model_version": "1", "variant": "int8", "digest": "sha256:0"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 200),
        (b"\xff", 200),
        (b"[" * 100_000, 200),
        (b"null", 200),
        (b"{}", 200),
        (b"{}", 400),
        (b'{"status": 3}', 404),
        (b"{}", 500),
        (json.dumps({"binData": 3, "meta": {"tags": TAGS}}).encode(), 200),
        (json.dumps({"binData": "AAA", "meta": {"tags": TAGS}}).encode(), 200),
        (json.dumps({"binData": "AAAAAA==", "meta": {"tags": {}}}).encode(), 200),
        (json.dumps({"binData": "AAAAAA==", "meta": {"tags": "x"}}).encode(), 200),
        (json.dumps({"binData": "", "meta": {"tags": TAGS}}).encode(), 200),
    ],
)
def test_what_is_no_answer_is_an_endpoint_error(content: bytes, code: int) -> None:
    with answering(content, code) as url, pytest.raises(EndpointError, match="is it a FedEdge endpoint"):
        prediction.predict(url, np.zeros((2, 28, 28, 1), np.uint8))
