"""The runner: limits on memory, time and size, isolation, and no word of it outlives its owner."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fededge import storage
from fededge.device import child, facts, isolation
from fededge.device.child import Runner, Setting
from fededge.device.policy_keys import Limits
from fededge.errors import SiteError
from tests.enrolled_site import ROOT, RUNNER, in_loop
from tests.stand_in_gateway import KEY

pytestmark = pytest.mark.environment("edge")
MEGABYTE = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a plan, data, weights and a secret."""
    for name in ("plan", "data/train", "secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "weights").write_bytes(b"weights")
    (tmp_path / "secret" / "key").write_text("secret")
    return tmp_path


def setting(place: Path, do: str = "", **limits: Any) -> Setting:
    (place / "plan" / "do").write_text(do)
    hidden = (place / "secret",)
    return Setting(place / "plan", place / "data", hidden, Limits(**limits), KEY.public.pem)


def ask(
    place: Path, setting: Setting, isolated: bool = False, meanwhile: Callable[[], Any] | None = None
) -> dict[str, Any]:
    """The runner's answer to one request; `meanwhile` is called once it began."""

    async def scenario() -> dict[str, Any]:
        runner = Runner(RUNNER, place / "runner", isolated)
        try:
            asked = asyncio.create_task(
                runner.ask(setting, {"do": "train"}, place / "weights", place / "update")
            )
            if meanwhile:
                await runner_began(place)
                meanwhile()
            return (await asked).answer
        finally:
            await runner.close()
            assert psutil.Process().children(recursive=True) == []

    return in_loop(scenario)


async def runner_began(place: Path) -> None:
    while not (place / "runner" / "files" / "began").exists():
        await asyncio.sleep(0.01)


@pytest.fixture(params=[False, True], ids=["plain", "isolated"])
def isolated(request: pytest.FixtureRequest) -> bool:
    if request.param and (mistake := isolation.mistake()):
        pytest.skip(f"this machine allows no isolation: {mistake}")
    return bool(request.param)


def test_an_update_is_taken_over(place: Path, isolated: bool) -> None:
    assert ask(place, setting(place), isolated) == {}
    assert json.loads((place / "update").read_text())["weights"] == "weights"


def test_a_child_that_takes_too_much_memory_is_ended(place: Path, isolated: bool) -> None:
    with pytest.raises(SiteError, match="bytes of memory where the policy allows 157,286,400"):
        ask(place, setting(place, "eat", memory_bytes=150 * MEGABYTE), isolated)


def test_a_child_that_takes_too_much_processor_time_is_ended(place: Path, isolated: bool) -> None:
    with pytest.raises(SiteError, match="more than the 1 s of processor time"):
        ask(place, setting(place, "spin", cpu_seconds=1.0), isolated)


def test_a_child_that_takes_too_long_is_ended(place: Path) -> None:
    with pytest.raises(SiteError, match="more than the 1 s that the policy allows"):
        ask(place, setting(place, "wait", seconds=1.0))


@pytest.mark.parametrize("do", ["crash", "babble", "nonsense"])
def test_a_child_that_gives_no_answer_is_told_without_its_words(place: Path, do: str) -> None:
    with pytest.raises(SiteError, match="the runner ended, or gave no answer") as refused:
        ask(place, setting(place, do, seconds=20.0))
    assert "xxxx" not in str(refused.value)


def test_a_child_that_is_killed_is_told(place: Path, isolated: bool) -> None:
    def kill() -> None:
        psutil.Process().children(recursive=True)[-1].kill()

    with pytest.raises(SiteError, match="the runner ended"):
        ask(place, setting(place, "wait"), isolated, kill)


def test_a_child_without_work_ends_after_a_while(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "IDLE_SECONDS", 0.1)

    async def scenario() -> None:
        runner = Runner(RUNNER, place / "runner", isolated=False)
        for _ in range(2):
            answered = await runner.ask(setting(place), {"do": "train"}, place / "weights", place / "update")
            assert json.loads((place / "update").read_text())["began"] == 1
            assert answered.update == storage.digest_path(place / "update")
            while psutil.Process().children():
                await asyncio.sleep(0.01)

    in_loop(scenario)


def test_a_link_in_place_of_an_update_is_refused(place: Path) -> None:
    from fededge.errors import StorageError

    with pytest.raises(StorageError, match="cannot keep the update"):
        ask(place, setting(place, "link"))
    assert not (place / "update").exists()


def test_an_update_that_is_too_large_is_refused(place: Path) -> None:
    with pytest.raises(SiteError, match="ended, or gave no answer"):
        ask(place, setting(place, "large", upload_bytes=MEGABYTE))
    (place / "data" / "train" / "x.npy").write_bytes(b"x" * 4 * MEGABYTE)
    with pytest.raises(SiteError, match="3,145,728 bytes where the policy lets 1,048,576 out"):
        ask(place, setting(place, "large", upload_bytes=MEGABYTE))


def test_in_isolation_there_is_no_network_no_secret_and_nothing_to_write_to(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mistake := isolation.mistake():
        pytest.skip(f"this machine allows no isolation: {mistake}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = place / "secret" / "program" / "module.py"  # as a released program lies in its client's folder
    code.parent.mkdir()
    code.touch()
    monkeypatch.syspath_prepend(code.parent)
    files = [
        str(place / "secret" / "key"),
        "/root",
        str(place / "plan" / "look.json"),
        f"/proc/{os.getpid()}/root/bin",
        str(code),
    ]
    writes = [str(place / "plan"), str(place / "data"), "/tmp", "/", str(place / "runner" / "files")]
    with socket.create_server(("127.0.0.1", 0)) as server:
        look = {"files": files, "writes": writes, "port": server.getsockname()[1]}
        (place / "plan" / "look.json").write_text(json.dumps(look))
        ask(place, setting(place, "look"), isolated=True)
        told = json.loads((place / "update").read_text())
        ask(place, setting(place, "look"), isolated=False)
        without = json.loads((place / "update").read_text())
    assert told["network"] == "[Errno 101] Network is unreachable"
    assert [told[path] for path in files] == [False, True, True, False, True]
    assert [told[path] for path in writes] == [False, False, False, False, True]
    assert "AWS_SECRET_ACCESS_KEY" not in told["variables"]
    assert without["network"] is True
    assert without[files[0]] is True


def test_a_child_ends_with_its_owner_however_that_ends(place: Path, isolated: bool) -> None:
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom fededge.device.child import Runner\n"
        "from tests.fededge.device.test_child import setting\nfrom tests.enrolled_site import RUNNER\n"
        f"place = Path({str(place)!r})\n"
        f"runner = Runner(RUNNER, place / 'runner', {isolated})\n"
        "asyncio.run(runner.ask(setting(place, 'wait'), {'do': 'train'}, place / 'weights', place / 'update'))\n"
    )

    async def scenario() -> None:
        owner = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        await runner_began(place)
        children = psutil.Process(owner.pid).children(recursive=True)
        assert children
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 30)
        assert alive == []

    in_loop(scenario)


def test_a_child_whose_owner_ended_before_it_began_does_not_begin(place: Path, isolated: bool) -> None:
    command = isolation.wrapped(["touch", "began"], place / "data", isolated=isolated)
    for stdin, begins in ((b"{}", False), (None, True)):
        owner = subprocess.Popen(command, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL)
        if owner.stdin:
            owner.stdin.close()
        owner.wait()
        assert (place / "data" / "began").exists() is begins


def test_a_runner_that_executes_nothing_is_told_at_the_start(tmp_path: Path) -> None:
    for command in ([sys.executable, "-c", "print('[]')"], ["/missing"], [sys.executable, "-c", "x"]):
        with pytest.raises(SiteError, match="worker environment"):
            facts.frameworks(command)
