"""Endpoints on this machine, with real servers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import settings, storage
from fededge.delivery.endpoints import check as endpoint_check
from fededge.delivery.endpoints import deployment as endpoints
from fededge.delivery.endpoints import local as local_endpoint
from fededge.delivery.endpoints import prediction
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.delivery.endpoints.ports import Ports
from fededge.errors import EndpointError, IntegrityError, PortInUse, RequestError, StorageError
from fededge.inference import load_runtime
from fededge.task import FederatedTask

pytestmark = pytest.mark.environment("serving")

ROOT = Path(__file__).resolve().parents[4]
TINY = ROOT / "tests" / "serving" / "fixtures" / "tiny.tflite"
VARIANT = {"kind": "float32", "url": str(TINY), "digest": storage.digest(TINY.read_bytes())}
DOCUMENT = {"name": "tiny", "version": 1, "variants": [VARIANT]}
TASK = FederatedTask.from_json('{"name": "tiny", "data": {"source": "digits"}, "endpoint": {"name": "tiny"}}')
X = np.random.default_rng(1).random((20, 28, 28, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, Any]]:
    """The document of an endpoint that these tests ask but do not change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDEDGE_PLATFORM", "local")
        yield endpoints.deploy(TASK, DOCUMENT, "image")
    local_endpoint.stop("tiny")


@pytest.fixture
def own() -> Iterator[LocalEndpoint]:
    """An endpoint in this test's own home."""
    yield local_endpoint.start("own", VARIANT, 1)
    local_endpoint.stop("own")


def test_the_document_says_where_and_what(served: dict[str, Any]) -> None:
    assert {key: served[key] for key in ("name", "namespace", "variant", "digest", "version")} == {
        "name": "tiny",
        "namespace": "default",
        "variant": "float32",
        "digest": VARIANT["digest"],
        "version": 1,
    }
    assert served["manifest"]["kind"] == "SeldonDeployment"
    assert json.loads(json.dumps(served)) == served


def test_an_endpoint_gives_the_models_answers_to_images(served: dict[str, Any]) -> None:
    images = prediction.to_uint8(X)
    probabilities, tags = prediction.predict(served["rest"], images)
    expected = load_runtime(TINY.read_bytes()).predict(images.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert tags["digest"] == VARIANT["digest"]


def test_images_of_the_wrong_shape_are_refused_by_name(served: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="not a multiple of 784") as caught:
        prediction.predict(served["rest"], np.zeros((1, 27, 28, 1), np.uint8))
    assert caught.value.reason == "WRONG_SHAPE"


def test_images_that_are_not_uint8_are_not_sent() -> None:
    with pytest.raises(RequestError, match="images are float32"):
        prediction.predict("http://127.0.0.1:1", X)


def test_nobody_there_is_named() -> None:
    with pytest.raises(EndpointError, match=r"nobody answers at http://127\.0\.0\.1:1"):
        prediction.predict("http://127.0.0.1:1", prediction.to_uint8(X))


def test_a_server_of_another_kind_is_named() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(EndpointError, match="is it a FedEdge endpoint"):
            prediction.predict(f"http://127.0.0.1:{other.server_address[1]}", prediction.to_uint8(X))
        other.shutdown()


def test_a_good_endpoint_passes_its_check(served: dict[str, Any]) -> None:
    found = endpoint_check.check(served, DOCUMENT, X)
    assert found["examples"] == len(X)
    for transport in ("rest", "grpc"):
        assert found[transport]["max_abs_difference"] <= 1e-6


def test_an_endpoint_that_serves_another_version_fails_its_check(served: dict[str, Any]) -> None:
    with pytest.raises(EndpointError, match="serves model_version 1, not 2: deploy it again"):
        endpoint_check.check(served, {**DOCUMENT, "version": 2}, X)


def test_a_cluster_that_still_serves_the_version_before_is_asked_again(
    served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, refused = endpoint_check._ask, iter(range(2))

    def late(*question: Any) -> dict[str, float]:
        for _ in refused:
            raise EndpointError("serves model_version 0, not 1")
        return ask(*question)

    monkeypatch.setattr(endpoint_check, "_ask", late)
    monkeypatch.setattr(endpoint_check, "POLL", 0.0)
    assert endpoint_check.check(served, DOCUMENT, X, patience=60)["version"] == 1
    assert list(refused) == []


def test_an_endpoint_that_answers_otherwise_fails_its_check(
    served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def predict(self, x: np.ndarray) -> np.ndarray:
            return load_runtime(TINY.read_bytes()).predict(x) + np.float32(0.01)

    monkeypatch.setattr(endpoint_check, "load_runtime", lambda data: Other())
    with pytest.raises(EndpointError, match=r"differs from its model by 0\.01"):
        endpoint_check.check(served, DOCUMENT, X)


def test_a_model_file_that_was_changed_fails_the_check(served: dict[str, Any]) -> None:
    document = {**DOCUMENT, "variants": [{**VARIANT, "digest": "sha256:0"}]}
    with pytest.raises(IntegrityError):
        endpoint_check.check(served, document, X)


def test_an_endpoint_that_is_gone_fails_its_check(served: dict[str, Any]) -> None:
    gone = f"http://127.0.0.1:{Ports.free().rest}"
    with pytest.raises(EndpointError, match="nobody answers"):
        endpoint_check.check({**served, "rest": gone}, DOCUMENT, X)


def test_the_same_version_is_left_running(own: LocalEndpoint) -> None:
    assert local_endpoint.start("own", VARIANT, 1) == own
    assert local_endpoint.running() == [own]


def test_another_version_takes_its_place(own: LocalEndpoint) -> None:
    after = local_endpoint.start("own", VARIANT, 2)
    assert local_endpoint.running() == [after]
    assert not own.running


def test_another_version_can_take_over_the_same_ports(own: LocalEndpoint) -> None:
    after = local_endpoint.start("own", VARIANT, 2, own.ports)
    assert after.ports == own.ports
    assert prediction.predict(after.rest, prediction.to_uint8(X))[1]["model_version"] == "2"


def test_what_runs_stays_when_its_successor_fails(own: LocalEndpoint) -> None:
    with pytest.raises(EndpointError, match=r"has digest .* where sha256:0 was promised"):
        local_endpoint.start("own", {**VARIANT, "digest": "sha256:0"}, 2)
    assert local_endpoint.running() == [own]
    prediction.predict(own.rest, prediction.to_uint8(X))


def test_a_successor_whose_state_cannot_be_written_is_ended(
    own: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[LocalEndpoint] = []
    launch = local_endpoint._launch

    def remembered(*args: Any) -> Any:
        endpoint, process = launch(*args)
        launched.append(endpoint)
        return endpoint, process

    def full(url: str, data: bytes) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(local_endpoint, "_launch", remembered)
    monkeypatch.setattr(storage, "write", full)
    with pytest.raises(StorageError, match="no space left"):
        local_endpoint.start("own", VARIANT, 2)
    assert not launched[0].running
    assert local_endpoint.running() == [own]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_whose_start_was_cut_off_is_ended_by_the_next_to_come(number: signal.Signals) -> None:
    folder = settings.home() / "endpoints" / "cut"
    code = f"from fededge.delivery.endpoints import local as local_endpoint; local_endpoint.start('cut', {VARIANT!r}, 1)"
    hold = "import time; from fededge.delivery.endpoints import local as e; e._answers = lambda _: time.sleep(60);"
    with subprocess.Popen([sys.executable, "-c", hold + code], cwd=ROOT) as starter:
        while not (folder / "starting.json").exists():
            assert starter.poll() is None
            time.sleep(0.02)
        left = LocalEndpoint.model_validate_json((folder / "starting.json").read_bytes())
        starter.send_signal(number)
    assert left.running
    assert local_endpoint.running() == []
    assert local_endpoint.names() == ["cut"]
    assert local_endpoint.stop("cut")
    assert not left.running
    assert not local_endpoint.stop("cut")


def test_a_file_that_is_no_model_is_told_from_the_servers_log(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"not a model")
    variant = {"kind": "float32", "url": str(bad), "digest": storage.digest(b"not a model")}
    with pytest.raises(EndpointError, match="cannot load a LiteRT model of 11 bytes"):
        local_endpoint.start("bad", variant, 1)
    assert local_endpoint.running() == []


def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    with pytest.raises(EndpointError, match="not ready within 0 seconds"):
        local_endpoint.start("slow", VARIANT, 1, deadline=0)
    assert local_endpoint.running() == []


@pytest.mark.parametrize("taken", ["rest", "grpc", "metrics"])
def test_a_port_in_use_is_named(taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports.free()
    with socket.socket() as other:
        other.bind(("", getattr(ports, taken)))
        other.listen()
        monkeypatch.setenv("FEDEDGE_ENDPOINT_PORTS", f"{ports.rest},{ports.grpc},{ports.metrics}")
        with pytest.raises(PortInUse, match=f"{taken} port {getattr(ports, taken)} cannot be used"):
            local_endpoint.start("own", VARIANT, 1)
    assert not (settings.home() / "endpoints" / "own" / "state.json").exists()


@pytest.mark.parametrize("text", ["9000", "1,2", "a,b,c", "1,1,2", "1,2,70000", "1;2;3"])
def test_malformed_ports_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDEDGE_ENDPOINT_PORTS", text)
    with pytest.raises(EndpointError, match="FEDEDGE_ENDPOINT_PORTS is"):
        Ports.configured()


def test_a_stopped_endpoint_is_gone_and_stopping_again_is_no_mistake(own: LocalEndpoint) -> None:
    assert local_endpoint.stop("own")
    assert not own.running
    assert local_endpoint.running() == []
    assert not local_endpoint.stop("own")
    assert not local_endpoint.stop("never-there")


def test_a_server_that_was_killed_is_started_anew(own: LocalEndpoint) -> None:
    os.killpg(own.pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while own.running and time.monotonic() < end:
        time.sleep(0.02)
    assert local_endpoint.running() == []
    assert local_endpoint.start("own", VARIANT, 1).pid != own.pid


def test_a_server_that_ignores_the_request_to_end_is_killed(
    own: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_endpoint, "STOP_SECONDS", 0.5)
    os.kill(own.pid, signal.SIGSTOP)
    assert local_endpoint.stop("own")
    assert not own.running


def test_a_damaged_state_is_named() -> None:
    folder = settings.home() / "endpoints" / "own"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")
    with pytest.raises(EndpointError, match=r"state\.json is damaged"):
        local_endpoint.start("own", VARIANT, 1)


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b"])
def test_a_name_cannot_leave_the_folder_of_endpoints(name: str) -> None:
    with pytest.raises(EndpointError, match="is not the name of an endpoint"):
        local_endpoint.stop(name)
