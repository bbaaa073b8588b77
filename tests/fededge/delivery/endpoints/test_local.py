"""Endpoints on this machine, with real servers."""

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
from fededge.documents import Endpoint, ModelVersion
from fededge.errors import EndpointError, IntegrityError, PortInUse, RequestError, StorageError
from fededge.inference import load_model
from fededge.task import Endpoint as Wanted
from tests.model_versions import DIGEST, model_version, published

pytestmark = pytest.mark.environment("serving")

ROOT = Path(__file__).resolve().parents[4]
TINY = ROOT / "tests" / "serving" / "fixtures" / "tiny.tflite"
VARIANT = published(str(TINY))
BROKEN = published(str(TINY), digest=DIGEST, bytes=VARIANT.bytes)
WANTED = Wanted(name="tiny")
FIRST, SECOND = (model_version([VARIANT], version=number) for number in (1, 2))
X = np.random.default_rng(1).random((20, 28, 28, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def served() -> Iterator[Endpoint]:
    """The document of an endpoint that these tests ask but do not change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDEDGE_PLATFORM", "local")
        yield endpoints.deploy(WANTED, 1, FIRST, "image")
    local_endpoint.stop("tiny")


@pytest.fixture
def own() -> Iterator[LocalEndpoint]:
    """An endpoint in this test's own home."""
    yield local_endpoint.start("own", VARIANT, 1)
    local_endpoint.stop("own")


def test_the_document_says_where_and_what(served: Endpoint) -> None:
    assert (served.name, served.namespace, served.version) == ("tiny", "default", 1)
    assert (served.variant, served.digest) == ("float32", VARIANT.digest)
    assert served.manifest["kind"] == "SeldonDeployment"
    assert Endpoint.from_bytes(served.to_bytes()) == served


def test_an_endpoint_gives_the_models_answers_to_images(served: Endpoint) -> None:
    images = prediction.to_uint8(X)
    probabilities, tags = prediction.predict(served.rest, images)
    expected = load_model(TINY.read_bytes()).predict(images.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert tags["digest"] == VARIANT.digest


def test_images_of_the_wrong_shape_are_refused_by_name(served: Endpoint) -> None:
    with pytest.raises(RequestError, match="not a multiple of 784") as caught:
        prediction.predict(served.rest, np.zeros((1, 27, 28, 1), np.uint8))
    assert caught.value.reason == "WRONG_SHAPE"


def test_examples_of_a_type_that_models_do_not_take_are_not_sent() -> None:
    with pytest.raises(RequestError, match="examples are float64: send float32, or uint8 for images"):
        prediction.predict("http://127.0.0.1:1", X.astype(np.float64))


def test_numbers_are_answered_as_they_are(served: Endpoint) -> None:
    images = prediction.to_uint8(X)
    as_numbers = np.divide(images, np.float32(255), dtype=np.float32)
    np.testing.assert_array_equal(
        prediction.predict(served.rest, as_numbers)[0], prediction.predict(served.rest, images)[0]
    )


def test_nobody_there_is_named() -> None:
    with pytest.raises(EndpointError, match=r"nobody answers at http://127\.0\.0\.1:1"):
        prediction.predict("http://127.0.0.1:1", prediction.to_uint8(X))


def test_a_server_of_another_kind_is_named() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with pytest.raises(EndpointError, match="is it a FedEdge endpoint"):
            prediction.predict(f"http://127.0.0.1:{other.server_address[1]}", prediction.to_uint8(X))
        other.shutdown()


def champion(version: ModelVersion) -> Any:
    """Says that `version` is the champion."""
    return lambda: version


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check gives up at once."""
    monkeypatch.setattr(endpoint_check, "PATIENCE", {"local": 0.0, "kubernetes": 0.0})


def test_a_good_endpoint_passes_its_check(served: Endpoint) -> None:
    found = endpoint_check.check(served, FIRST, champion(FIRST), X)
    assert (found.version, found.examples) == (1, len(X))
    for transport in (found.rest, found.grpc):
        assert transport.max_abs_difference <= 1e-6


@pytest.mark.usefixtures("impatient")
def test_an_endpoint_that_serves_another_version_fails_its_check(served: Endpoint) -> None:
    with pytest.raises(EndpointError, match="serves version 1, not 2: deploy it again"):
        endpoint_check.check(served, SECOND, champion(SECOND), X)


def test_an_endpoint_that_serves_the_champion_of_now_passes_its_check(served: Endpoint) -> None:
    assert endpoint_check.check(served, SECOND, champion(FIRST), X).version == 1


@pytest.mark.usefixtures("impatient")
def test_the_champion_of_now_is_held_against_its_own_model_file(served: Endpoint) -> None:
    other = model_version([BROKEN], version=1)
    with pytest.raises(EndpointError, match=f"serves digest {VARIANT.digest}, not {DIGEST}"):
        endpoint_check.check(served, SECOND, champion(other), X)


def test_what_replaced_an_endpoint_meanwhile_is_checked_where_it_answers(
    own: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    deployed = endpoints.deploy(Wanted(name="own"), 1, FIRST, "image")
    assert deployed.rest == own.rest
    local_endpoint.start("own", VARIANT, 2)
    assert endpoint_check.check(deployed, FIRST, champion(SECOND), X).version == 2


def test_while_an_endpoint_is_replaced_its_check_waits(
    own: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    deployed = endpoints.deploy(Wanted(name="own"), 1, FIRST, "image")
    launch, launched = local_endpoint._launch, threading.Event()

    def slow(*arguments: Any) -> Any:
        launched.set()
        return launch(*arguments)

    monkeypatch.setattr(local_endpoint, "_launch", slow)
    other = threading.Thread(target=local_endpoint.start, args=("own", VARIANT, 2, own.ports))
    other.start()
    assert launched.wait(60)  # the server before has ended by now, since both need the same ports
    assert endpoint_check.check(deployed, FIRST, champion(SECOND), X).version == 2
    other.join()


def test_a_cluster_that_still_serves_the_version_before_is_asked_again(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, refused = endpoint_check._reach, iter(range(2))

    def late(url: str) -> None:
        for _ in refused:
            raise endpoint_check._NotYet("nobody answers")
        ready(url)

    monkeypatch.setattr(endpoint_check, "_reach", late)
    monkeypatch.setattr(endpoint_check, "POLL", 0.0)
    assert endpoint_check.check(served, FIRST, champion(FIRST), X).version == 1
    assert list(refused) == []


def test_an_endpoint_that_answers_otherwise_fails_its_check_at_once(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def predict(self, x: np.ndarray) -> np.ndarray:
            return load_model(TINY.read_bytes()).predict(x) + np.float32(0.01)

    monkeypatch.setattr(endpoint_check, "load_model", lambda data, kind: Other())
    with pytest.raises(EndpointError, match=r"differs from its model by 0\.01"):
        endpoint_check.check(served, FIRST, champion(FIRST), X)


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (TINY.read_bytes()[:-1] + b"x", VARIANT.bytes),
        (TINY.read_bytes(), VARIANT.bytes + 1),
    ],
    ids=["other bytes", "longer by its record"],
)
def test_a_model_file_that_is_not_the_registered_one_fails_the_check(
    served: Endpoint, tmp_path: Path, data: bytes, length: int
) -> None:
    file = tmp_path / "tiny.tflite"
    file.write_bytes(data)
    changed = published(str(file), digest=VARIANT.digest, bytes=length)
    with pytest.raises(IntegrityError, match="changed or damaged"):
        endpoint_check.check(served, model_version([changed]), champion(FIRST), X)


@pytest.mark.usefixtures("impatient")
def test_an_endpoint_that_is_gone_fails_its_check(served: Endpoint) -> None:
    gone = served.model_copy(update={"rest": f"http://127.0.0.1:{Ports.free().rest}"})
    with pytest.raises(EndpointError, match="nobody answers"):
        endpoint_check.check(gone, FIRST, champion(FIRST), X)


def test_an_endpoint_that_was_stopped_fails_its_check(
    own: LocalEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    deployed = endpoints.deploy(Wanted(name="own"), 1, FIRST, "image")
    local_endpoint.stop("own")
    with pytest.raises(EndpointError, match="no endpoint own runs on this machine any more"):
        endpoint_check.check(deployed, FIRST, champion(FIRST), X)


def test_the_same_version_is_left_running(own: LocalEndpoint) -> None:
    assert local_endpoint.start("own", VARIANT, 1) == own
    assert local_endpoint.running() == [own]


def test_a_server_outlives_the_temporary_folder_of_the_step_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)  # too long for a socket's path, too
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    endpoint = local_endpoint.start("own", VARIANT, 1)
    try:
        assert list(folder.iterdir()) == []
        folder.rmdir()
        assert len(prediction.predict(endpoint.rest, prediction.to_uint8(X))[0]) == 20
    finally:
        local_endpoint.stop("own")


def test_another_version_takes_its_place(own: LocalEndpoint) -> None:
    after = local_endpoint.start("own", VARIANT, 2)
    assert local_endpoint.running() == [after]
    assert not own.running


def test_another_version_can_take_over_the_same_ports(own: LocalEndpoint) -> None:
    after = local_endpoint.start("own", VARIANT, 2, own.ports)
    assert after.ports == own.ports
    assert prediction.predict(after.rest, prediction.to_uint8(X))[1]["model_version"] == "2"


def test_what_runs_stays_when_its_successor_fails(own: LocalEndpoint) -> None:
    with pytest.raises(EndpointError, match=rf"digest .* {DIGEST}"):
        local_endpoint.start("own", BROKEN, 2)
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


CUT_OFF = """
import sys, time
from fededge.delivery.endpoints import local
from fededge.documents import PublishedVariant
local._answers = lambda _: time.sleep(60)
local.start("cut", PublishedVariant.model_validate_json(sys.argv[1]), 1)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_whose_start_was_cut_off_is_ended_by_the_next_to_come(number: signal.Signals) -> None:
    folder = settings.home() / "endpoints" / "cut"
    command = [sys.executable, "-c", CUT_OFF, VARIANT.model_dump_json()]
    with subprocess.Popen(command, cwd=ROOT) as starter:
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
    variant = published(str(bad))
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
