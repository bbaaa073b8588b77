"""A model that passes its trial and later hangs or crashes loses its place, and nobody loses an answer."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from fededge import storage
from fededge.device.answering import answer
from fededge.device.model_process import Answering, ModelProcess
from fededge.device.policy_keys import Limits
from fededge.errors import StorageError
from fededge.inference import load_model
from fededge.protocol import Follow
from tests.enrolled_site import in_loop
from tests.following_device import (
    FIRST,
    LOOPING,
    SECOND,
    Device,
    failed,
    fetches,
    offered,
    runs,
    signed,
    told,
)
from tests.stand_in_gateway import StandInGateway

pytestmark = pytest.mark.environment("edge")
DARK, BRIGHT = np.zeros((2, 4, 4, 1), np.float32), np.full((2, 4, 4, 1), 9.0, np.float32)


BODY = json.dumps({"data": {"ndarray": DARK.tolist()}}).encode()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def answering() -> list[psutil.Process]:
    """The processes in which models answer now."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[1:3] == ["-m", "fededge.device.answering"]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def version(answer: dict) -> str:
    return str(answer["meta"]["tags"]["model_version"])


def test_a_model_that_hangs_gives_way_to_the_one_before_which_answers_all_that_was_asked(
    device: Device,
) -> None:
    device.follow(limits={"seconds": 4})

    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway), httpx.AsyncClient(timeout=60) as http:
                await told(gateway, runs(1))
                await offered(gateway, signed(2, LOOPING), LOOPING)
                await told(gateway, runs(2))
                assert version(await device.predict(http, DARK)) == "2"
                asked = fetches(gateway)
                answers = await asyncio.gather(*(device.predict(http, BRIGHT) for _ in range(3)))
                assert [version(answer) for answer in answers] == ["1"] * 3
                assert (await told(gateway, failed("no answer within the 4 s"))).version == 1
                await gateway.hears(Follow, len(gateway.heard(Follow)) + 2)
                assert asked == []  # nor is it fetched again
            gateway.said.clear()
            async with device.running(gateway), httpx.AsyncClient(timeout=60) as http:
                assert (await told(gateway, failed("was tried here before"))).version == 1
                assert version(await device.predict(http, BRIGHT)) == "1"
                assert storage.digest(LOOPING).removeprefix("sha256:") not in asked
                await offered(gateway, signed(1, FIRST, issued=1.5), FIRST)
                await told(gateway, failed("issued no later"))
                await offered(gateway, signed(3, SECOND), SECOND)
                await told(gateway, runs(3))
            assert answering() == []

    in_loop(scenario)


def test_a_model_that_ends_its_process_again_and_again_is_refused_and_the_device_goes_on(
    device: Device,
) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, LOOPING), LOOPING)
            async with device.running(gateway), httpx.AsyncClient(timeout=60) as http:
                await told(gateway, runs(1))
                url = f"http://127.0.0.1:{device.port}"
                request = {"data": {"ndarray": BRIGHT.tolist()}}
                asking = asyncio.create_task(http.post(f"{url}/api/v1.0/predictions", json=request))
                while not asking.done():
                    for process in answering():
                        process.kill()
                    await asyncio.sleep(0.01)
                assert (await asking).json()["status"]["reason"] == "LOADING"
                refused = await told(gateway, failed("ends the process"))
                assert refused.version is None
                assert (await http.get(f"{url}/ready")).status_code == 503
                await offered(gateway, signed(2, FIRST), FIRST)
                await told(gateway, runs(2))
                assert version(await device.predict(http, BRIGHT)) == "2"
                (process,) = answering()
                process.kill()  # as the kernel does where memory is short
                assert version(await device.predict(http, BRIGHT)) == "2"

    in_loop(scenario)


def test_a_release_that_is_damaged_on_disk_is_gone_back_from_and_fetched_again(device: Device) -> None:
    async def scenario() -> None:
        async with StandInGateway() as gateway:
            gateway.release(signed(1, FIRST), FIRST)
            async with device.running(gateway), httpx.AsyncClient() as http:
                await told(gateway, runs(1))
                await offered(gateway, signed(2, SECOND), SECOND)
                await told(gateway, runs(2))
                (file,) = device.releases.glob("releases/2-*/model")
                file.write_bytes(file.read_bytes()[:-1] + b"x")
                gateway.said.clear()
                assert version(await device.predict(http, DARK)) == "1"
                await told(gateway, runs(2))
                assert version(await device.predict(http, DARK)) == "2"

    in_loop(scenario)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ModelProcess]:
    told = Answering(lambda: FIRST, "float32", {}, tmp_path, Limits(memory_bytes=512 << 20), tuple, False)
    made = ModelProcess(told)
    yield made
    made.close()


def test_a_process_that_nobody_asks_is_ended_and_comes_back_for_the_next_request(
    model: ModelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, first = model.ask(BODY)
    assert status == 200
    model.rest()
    assert len(answering()) == 1
    monkeypatch.setattr("fededge.device.model_process.IDLE_SECONDS", 0.0)
    model.rest()
    assert answering() == []
    assert model.ask(BODY) == (200, first)
    model.close()
    assert answering() == []
    with pytest.raises(StorageError, match="is ending"):
        model.ask(BODY)


def test_an_answer_with_too_many_numbers_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fededge.device.answering.MOST_OUTPUTS", 5)
    status, body = answer(load_model(FIRST), None, {}, BODY)
    assert (status, json.loads(body)["status"]["reason"]) == (413, "TOO_LARGE")
