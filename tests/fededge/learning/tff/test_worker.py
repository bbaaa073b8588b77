"""The TFF worker process ends with its owner, and never hangs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_federated as tff

from fededge.errors import WorkerDied, WorkerStuck
from fededge.learning.tff.worker import Worker

pytestmark = pytest.mark.environment("worker")


@tff.tensorflow.computation(np.int32)
def double(x):  # type: ignore[no-untyped-def]
    return x + x


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


def test_it_computes_and_ends_when_closed() -> None:
    with Worker(30) as worker:
        assert worker.process
        pid = worker.process.pid
        with worker.context():
            assert double(21) == 42
        assert is_alive(pid)
    assert not is_alive(pid)


def test_a_dead_worker_is_a_named_error_not_a_hang() -> None:
    with Worker(30) as worker:
        assert worker.process
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(WorkerDied, match="ended"), worker.context():
            double(1)


def test_a_stuck_worker_is_a_named_error_within_the_deadline() -> None:
    with Worker(1.0) as worker:
        assert worker.process
        worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerStuck, match="no answer within 1 s"), worker.context():
            double(1)
        assert worker.process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_owner_is_killed(ending: signal.Signals) -> None:
    code = (
        "import sys, time\n"
        "from fededge.learning.tff.worker import Worker\n"
        "worker = Worker(30).__enter__()\n"
        "print(worker.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    ) as owner:
        assert owner.stdout
        pid = int(owner.stdout.readline())
        assert is_alive(pid)
        owner.send_signal(ending)
        owner.wait()
        assert gone_within(pid, 10)
