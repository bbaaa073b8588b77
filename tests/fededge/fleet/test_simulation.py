"""Simulated devices: real agent processes that follow a release and end with their owner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import storage
from fededge.errors import DataError, EnvironmentMissing, ReleaseError, TaskError
from fededge.fleet.simulation import SimulatedDevices

pytestmark = pytest.mark.environment("edge")

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Path(sys.executable)


def simulated(fleet: Any, samples: Any, count: int = 3, **options: Any) -> SimulatedDevices:
    return SimulatedDevices(
        fleet.task, count, samples, storage_url=fleet.root, python=PYTHON, interval=0.1, **options
    )


@pytest.fixture
def data(tmp_path: Path, examples: Any) -> Path:
    """A data artifact with two clients, of 5 and 4 test examples."""
    x, y = examples
    for name, part in (("site-0", slice(0, 5)), ("site-1", slice(5, 9))):
        folder = tmp_path / "data" / name / "test"
        folder.mkdir(parents=True)
        np.save(folder / "x.npy", x[part])
        np.save(folder / "y.npy", y[part])
    return tmp_path / "data"


def test_devices_spread_over_classes_follow_a_release_and_the_next(fleet: Any, data: Path) -> None:
    fleet.publish(1)
    with simulated(fleet, data, 4) as devices:
        reports = devices.wait(version=1, deadline=90)
        assert [(report.device, report.device_class) for report in reports] == [
            ("camera-0", "camera"),
            ("gateway-0", "gateway"),
            ("gateway-1", "gateway"),
            ("sensor-hub-0", "sensor-hub"),
        ]
        assert {report.score for report in reports} == {1.0}
        fleet.publish(2, "second")
        later = devices.wait(version=2, deadline=90)
        assert {report.digest for report in later} != {report.digest for report in reports}
    assert all(process.returncode == 0 for process in devices._processes.values())


def test_each_example_is_dealt_to_one_device(fleet: Any, data: Path, examples: Any) -> None:
    fleet.publish(1)
    with simulated(fleet, data, 3) as devices:
        dealt = [
            np.load(devices.folder(name) / "samples" / "x.npy") for name in ("gateway-0", "sensor-hub-0")
        ]
        other = np.load(devices.folder("camera-0") / "samples" / "x.npy")
    assert sorted(map(len, dealt)) == [2, 3]
    np.testing.assert_array_equal(np.sort(np.concatenate(dealt), axis=0), np.sort(examples[0][:5], axis=0))
    np.testing.assert_array_equal(other, examples[0][5:9])


def test_a_device_that_refuses_the_release_is_named_with_its_reason(fleet: Any, examples: Any) -> None:
    manifest = fleet.publish(1)
    data = bytearray(storage.read(fleet.model_url(manifest)))
    data[500] ^= 1
    storage.write(fleet.model_url(manifest), bytes(data))
    with simulated(fleet, [examples], 1) as devices:
        while not devices.reports():
            time.sleep(0.05)
        with pytest.raises(ReleaseError, match=r"gateway-0 runs None .*changed or damaged"):
            devices.wait(version=1, deadline=0.0)


def test_an_agent_that_ends_is_noticed_with_its_last_words(fleet: Any, examples: Any) -> None:
    x, y = examples
    with simulated(fleet, [(x * np.nan, y)], 1) as devices:
        with pytest.raises(ReleaseError, match=r"gateway-0 ended: error: .*NaN"):
            devices.wait(version=1, deadline=90)


def test_what_a_device_reported_in_an_earlier_run_does_not_count(fleet: Any, examples: Any) -> None:
    fleet.publish(1)
    with simulated(fleet, [examples], 1) as devices:
        devices.wait(version=1, deadline=90)
    again = simulated(fleet, [examples], 1)
    again._started = time.time()
    assert again.reports() == []
    assert len(devices.reports()) == 1


OWNER = """
import sys, time
from pathlib import Path
import numpy as np
from fededge.fleet.simulation import SimulatedDevices
from fededge.task import FederatedTask
examples = np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int64)
task = FederatedTask.from_json(sys.argv[1])
python = Path(sys.executable)
with SimulatedDevices(task, 2, [examples] * 2, storage_url=sys.argv[2], python=python) as devices:
    print(*(process.pid for process in devices._processes.values()), flush=True)
    while True:
        time.sleep(0.1)  # a signal that comes just before a sleep is acted upon after it
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_devices_end_with_their_owner(fleet: Any, number: signal.Signals) -> None:
    command = [sys.executable, "-c", OWNER, fleet.task.to_json(), fleet.root]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert owner.stdout
    devices = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(devices) == 2
    owner.send_signal(number)
    owner.wait(60)
    owner.stdout.close()
    end = time.monotonic() + 60
    while any(map(alive, devices)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, devices))


def test_mistakes_are_named_before_anything_starts(fleet: Any, examples: Any, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="nowhere"):
        SimulatedDevices(fleet.task, 1, [examples], python=tmp_path / "nowhere")
    with pytest.raises(TaskError, match="no devices"):
        SimulatedDevices(fleet.task.model_copy(update={"devices": []}), 1, [examples], python=PYTHON)
    with pytest.raises(DataError, match="for 1 devices given, but there are 2"):
        simulated(fleet, [examples], 2)
    with pytest.raises(DataError, match="no clients to take samples from"):
        simulated(fleet, tmp_path, 2)
