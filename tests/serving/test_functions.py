"""Functions that train and answer give what endpoint and runner give, and end when they are told to or nobody asks."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from fededge import archives, storage
from fededge.delivery.endpoints import prediction
from fededge.delivery.endpoints.local import LocalEndpoint
from fededge.documents import FunctionOrder, Plan, VariantFile
from fededge.documents.functions import place
from fededge.plan_runner import PlanRunner
from serving.functions import measuring
from tests.functions_process import function

pytestmark = pytest.mark.environment("serving")
FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "litert"
TOKEN = "a token of the tests"
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def predict(variant: VariantFile) -> Iterator[str]:
    arguments = (
        "--model",
        variant.url,
        "--digest",
        variant.digest,
        "--kind",
        variant.kind,
        "--model-version",
        3,
    )
    with function("predict", *arguments) as url:
        yield url


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def train(store: Path) -> Iterator[str]:
    secret = store.with_suffix(".token")
    secret.write_text(TOKEN)
    with function("train", "--data", FIXTURE / "client", "--store", store, "--token-file", secret) as url:
        yield url


@pytest.fixture(scope="module")
def order(store: Path) -> FunctionOrder:
    """For the plan and the weights of the fixture."""
    data = (archives.packed(FIXTURE / "plan"), (FIXTURE / "weights").read_bytes())
    for each in data:
        storage.write(place(str(store), storage.digest(each)), each)
    plan, weights = map(storage.digest, data)
    return FunctionOrder(plan=plan, weights=weights, seed=3, round=1, client="a")


def post(url: str, body: bytes, token: str = TOKEN) -> requests.Response:
    return requests.post(url, data=body, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def refusal(response: requests.Response) -> tuple[int, str]:
    status = response.json()["status"]
    assert status["info"]
    assert status["code"] == response.status_code
    return response.status_code, status["reason"]


def in_float32(content: Any) -> Any:
    """JSON content, whose numbers are what they are in float32: one server writes more digits than the other."""
    if isinstance(content, dict):
        return {name: in_float32(each) for name, each in content.items()}
    if isinstance(content, list):
        return [in_float32(each) for each in content]
    return np.float32(content) if isinstance(content, float) else content


class TestPredict:
    def test_it_answers_what_the_endpoint_answers(self, predict: str, server: LocalEndpoint) -> None:
        for body in (
            {"binData": base64.b64encode(PIXELS.tobytes()).decode()},
            {"data": {"ndarray": (PIXELS[:1] / 255).tolist()}},
            {"data": {"tensor": {"shape": [1, 28, 28, 1], "values": (PIXELS[0] / 255).ravel().tolist()}}},
        ):
            ours = requests.post(f"{predict}{prediction.PATH}", json=body, timeout=60).json()
            theirs = requests.post(f"{server.rest}{prediction.PATH}", json=body, timeout=60).json()
            assert ours["meta"]["tags"] == theirs["meta"]["tags"]
            assert in_float32({**ours, "meta": {}}) == in_float32({**theirs, "meta": {}})

    def test_what_asks_endpoints_asks_it_too(self, predict: str) -> None:
        shape, _ = prediction.input_of(predict)
        outputs, tags = prediction.predict(predict, PIXELS)
        assert (shape, outputs.shape, tags["model_version"]) == ((28, 28, 1), (3, 10), "3")

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", (400, "MALFORMED_JSON")),
            (b"[" * 100_000, (400, "MALFORMED_JSON")),
            (b"[]", (400, "WRONG_TYPE")),
            (b'{"binData": "AAAA"}', (400, "WRONG_SHAPE")),
            (b'{"data": {"ndarray": [[NaN]]}}', (400, "WRONG_SHAPE")),
            (b'{"data": {"ndarray": [' + b"0," * 900_000 + b"0]}}", (413, "TOO_LARGE")),
            (b" " * (17 << 20), (413, "TOO_LARGE")),
        ],
    )
    def test_a_mistake_is_told_by_its_reason(
        self, predict: str, body: bytes, reason: tuple[int, str]
    ) -> None:
        assert refusal(requests.post(f"{predict}/predict", data=body, timeout=60)) == reason

    def test_what_is_no_route_does_nothing(self, predict: str) -> None:
        assert refusal(requests.get(f"{predict}/../etc/passwd", timeout=60)) == (404, "NOT_FOUND")
        assert refusal(requests.post(f"{predict}/train", data=b"x", timeout=60)) == (404, "NOT_FOUND")
        assert requests.delete(f"{predict}/predict", timeout=60).status_code == 501

    def test_a_body_without_a_size_is_refused(self, predict: str) -> None:
        chunks = iter([b"{}"])
        assert refusal(requests.post(f"{predict}/predict", data=chunks, timeout=60)) == (
            411,
            "LENGTH_REQUIRED",
        )

    def test_another_model_than_was_promised_does_not_start(self, variant: VariantFile) -> None:
        command = [sys.executable, "-m", "serving.functions.predict", "--model", variant.url]
        done = subprocess.run([*command, "--digest", f"sha256:{64 * '0'}"], capture_output=True, text=True)
        assert done.returncode == 2
        assert "was changed or damaged" in done.stderr

    def test_who_connects_and_says_nothing_keeps_nobody_from_an_answer(self, predict: str) -> None:
        where = urlsplit(predict)
        with socket.create_connection((where.hostname or "", where.port or 0)):
            assert requests.get(f"{predict}/ready", timeout=60).json() == {"status": "ready"}


class TestTrain:
    def test_its_update_is_that_of_the_runner(self, train: str, order: FunctionOrder, tmp_path: Path) -> None:
        from fededge.device.litert_client import LiteRTClient

        runner = PlanRunner(FIXTURE / "plan", FIXTURE / "client", LiteRTClient)
        request = {"do": "train", "weights": str(FIXTURE / "weights"), "seed": 3, "round": 1, "client": "a"}
        assert runner.answer(request | {"update": str(tmp_path / "update")}) == {}
        for _ in range(2):
            answer = post(f"{train}/train", order.to_bytes())
            assert answer.content == (tmp_path / "update").read_bytes()

    def test_it_evaluates(self, train: str, order: FunctionOrder) -> None:
        counts = json.loads((FIXTURE / "counts.json").read_text())
        assert post(f"{train}/evaluate", order.to_bytes()).json()["counts"] == pytest.approx(counts, rel=1e-5)

    @pytest.mark.parametrize("token", ["", "another", "Ünïcode".encode().decode("latin-1")])
    def test_who_has_not_its_token_has_it_do_nothing(
        self, train: str, order: FunctionOrder, token: str
    ) -> None:
        assert refusal(post(f"{train}/train", order.to_bytes(), token)) == (401, "UNAUTHORIZED")

    def test_an_order_that_is_none_is_refused(self, train: str, order: FunctionOrder) -> None:
        for body in (b"", b"{}", order.to_bytes()[:-9], b"[" * 60_000):
            assert refusal(post(f"{train}/train", body)) == (400, "MALFORMED_ORDER")
        assert refusal(post(f"{train}/train", b"x" * (1 << 17))) == (413, "TOO_LARGE")

    def test_what_is_not_in_the_store_or_was_changed_is_not_used(
        self, train: str, order: FunctionOrder, store: Path
    ) -> None:
        absent = order.model_copy(update={"weights": storage.digest(b"absent")})
        assert refusal(post(f"{train}/train", absent.to_bytes())) == (500, "FAILED")
        storage.write(place(str(store), absent.weights), b"changed")
        assert refusal(post(f"{train}/train", absent.to_bytes())) == (500, "FAILED")

    def test_beyond_this_machine_it_wants_a_token(self, store: Path) -> None:
        command = [sys.executable, "-m", "serving.functions.train", "--data", str(FIXTURE / "client")]
        done = subprocess.run(
            [*command, "--store", str(store), "--host", "0.0.0.0"], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "--token-file" in done.stderr


def test_a_function_that_nobody_asks_ends_by_itself(variant: VariantFile) -> None:
    command = [sys.executable, "-m", "serving.functions.predict", "--model", variant.url, "--port", "0"]
    arguments = ["--digest", variant.digest, "--idle-seconds", "0.2"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE) as process:
        assert process.wait(60) == 0


def test_a_request_under_way_is_answered_before_the_function_ends(
    store: Path, order: FunctionOrder, tmp_path: Path
) -> None:
    shutil.copytree(FIXTURE / "plan", tmp_path / "plan")
    document = Plan.read(tmp_path / "plan" / "plan.json")
    assert document.litert is not None
    longer = document.model_copy(update={"litert": document.litert.model_copy(update={"epochs": 500})})
    longer.write(tmp_path / "plan" / "plan.json")
    data = archives.packed(tmp_path / "plan")
    storage.write(place(str(store), storage.digest(data)), data)
    body = order.model_copy(update={"plan": storage.digest(data)}).to_bytes()
    arguments = ["--data", str(FIXTURE / "client"), "--store", str(store), "--port", "0"]
    command = [sys.executable, "-m", "serving.functions.train", *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        answers: list[requests.Response] = []
        asking = threading.Thread(target=lambda: answers.append(post(f"{url}/train", body)))
        asking.start()
        while not [*tmp_path.glob("fededge-function-*/weights")]:
            assert asking.is_alive()
        process.send_signal(signal.SIGTERM)
        asking.join()
        assert process.wait(60) == 0
    assert answers[0].status_code == 200


def test_cold_warm_and_memory_are_measured(variant: VariantFile) -> None:
    arguments = ["--model", variant.url, "--digest", variant.digest, "--kind", variant.kind]
    predict = measuring.Function(Path(sys.executable), "predict", arguments)
    answered = list(measuring.predicting(predict, [1, 20], 1))
    trained = list(measuring.training(Path(sys.executable), FIXTURE / "plan", FIXTURE / "client", [1, 2], 1))
    assert [row.amount for row in answered] == [1, 20]
    assert [row.amount for row in trained] == [1, 2]
    for row in answered + trained:
        assert row.cold > row.warm > 0
        assert row.megabytes > 10
    assert answered[-1].megabytes <= 100  # of the paper's functions that serve, and below 200 that train
    assert trained[-1].megabytes <= 200
