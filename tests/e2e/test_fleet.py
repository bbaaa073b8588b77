"""A task over a real gateway and real sites: the whole pipeline, and what is killed in the middle of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from fededge import task as tasks
from fededge.learning import state
from pipelines.trial.fleet import TrialFleet
from tests.pipelines.waiting import wait_for

from .conftest import ROOT, Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHANGES = [
    "learning.cohort.size=3",
    "operation.rounds_per_step=2",
    "compare.centralized=false",
    "gate.max_gap_to_centralized=null",
    "endpoint=null",
    "devices=[]",
]
SET = [part for change in CHANGES for part in ("--set", change)]


def last_state(machine: Machine, run: Path) -> state.State:
    (file,) = run.glob("artifacts/*/run-rounds/next_state")
    return state.load(file)


def newest(machine: Machine) -> Path:
    return max((machine.home / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)


def test_sites_behind_a_gateway_learn_the_same_bits_as_a_local_run(
    machine: Machine, task: Callable[..., Path]
) -> None:
    told = machine.fededge("fleet", task(), *SET)
    assert told.returncode == 0, told.stderr
    assert "round 2/2: 3 of 3 clients" in told.stdout
    over_gateway = last_state(machine, newest(machine))
    assert machine.fededge("run", task(), "--fresh", *SET).returncode == 0
    local = last_state(machine, newest(machine))
    assert over_gateway.task != local.task  # where examples lie is part of what is learned
    for name, value in local.weights.items():
        np.testing.assert_array_equal(over_gateway.weights[name], value)
    assert over_gateway.history[0].bytes_received > 0


def test_a_round_survives_the_death_of_gateway_site_and_coordinator(
    machine: Machine, task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine.variables.items():
        monkeypatch.setenv(name, value)
    spec = tasks.load(task(), [*CHANGES, "learning.rounds=3", "operation.rounds_per_step=3"])
    lines: list[str] = []
    with TrialFleet(spec, machine.home / "fleet", say=lines.append) as fleet:
        file = machine.home / "fleet.yaml"
        file.write_text(fleet.task.to_json())

        def begin() -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "fededge", "run", str(file)],
                cwd=ROOT,
                env={**machine.variables, **fleet.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

        coordinator = begin()
        wait_for_accepted(fleet, 1)
        fleet.kill("site-0")
        fleet.restart_gateway()
        fleet.start("site-0")
        wait_for_accepted(fleet, 2)
        os.killpg(coordinator.pid, signal.SIGKILL)
        coordinator.communicate()
        again = begin()
        output, _ = again.communicate(timeout=280)
        assert again.returncode == 0, output
    result = last_state(machine, newest(machine))
    assert [record.round for record in result.history] == [1, 2, 3]
    assert all(record.reported == ["site-0", "site-1", "site-2"] for record in result.history)


def wait_for_accepted(fleet: TrialFleet, number: int) -> None:
    """Return once a site works on training round `number`."""
    wanted = f"-{number}-train: accepted"
    logs: Mapping[str, Path] = {name: fleet.log(name) for name in fleet.clients}
    for _ in range(6):
        try:
            wait_for(lambda: any(wanted in log.read_text(errors="replace") for log in logs.values()))
            return
        except AssertionError:
            continue
    raise AssertionError(json.dumps({name: log.read_text()[-500:] for name, log in logs.items()}))


def test_devices_a_relay_and_a_site_learn_together_and_follow_the_release(machine: Machine) -> None:
    if not (shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")):
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    changes = [
        "partition.clients=5",
        "learning.rounds=2",
        "learning.cohort.size=5",
        "learning.cohort.over_selection=1.0",
        "operation.quorum=5",
    ]
    told = machine.fededge(
        *("fleet", str(ROOT / "examples" / "smart-building" / "fleet.yaml"), "--devices", "3", "--relay"),
        *(part for change in changes for part in ("--set", change)),
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "round 2/2: 5 of 5 clients" in told.stdout
    assert "3 of 3 devices run the release" in told.stdout
