"""Processes are told apart by more than their id, and ended by nothing less."""

import subprocess
import sys

import pytest

from fededge import processes

pytestmark = pytest.mark.environment("platform", "edge")


def test_a_mark_is_the_same_for_a_process_and_differs_between_two() -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        assert processes.mark(other.pid) == processes.mark(other.pid)
        assert processes.mark(other.pid) != processes.mark()
        other.kill()
    assert processes.mark(other.pid) == ""


def test_a_marked_process_is_ended() -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        assert processes.end(processes.mark(other.pid), 30)
        assert other.wait() != 0


def test_one_that_will_not_end_in_time_is_told() -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert not processes.end(processes.mark(other.pid), 0.1)
        other.kill()


@pytest.mark.parametrize("change", [0, 1, 3])
def test_a_process_of_another_boot_namespace_or_start_is_left_alone(change: int) -> None:
    with subprocess.Popen(["sleep", "600"]) as other:
        parts = processes.mark(other.pid).split()
        parts[change] = "9" + parts[change]
        with pytest.raises(ProcessLookupError):
            processes.end(" ".join(parts), 1)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize(
    "marked", ["", "1", "a b 0 1", "a b -1 1", "a b 99999999999999999999 1", "a b 1 1\n"]
)
def test_what_is_no_mark_ends_nothing(marked: str) -> None:
    with pytest.raises(ProcessLookupError):
        processes.end(marked, 1)
