"""The launcher runs the program that was switched to, and the one before where that does not come up: real processes."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fededge.device import kept_store, launcher
from fededge.device.launcher import State
from tests.enrolled_site import ROOT

pytestmark = pytest.mark.environment("edge")
START = """
import sys
sys.path.insert(0, {root!r})
from fededge.device import kept_store, launcher
launcher.launch(["agent", "run", "--folder", {folder!r}])
print("installed by hand", flush=True)
"""
CONFIRM = """
import dataclasses, json, os, pathlib
file = pathlib.Path({folder!r}) / "program" / "state.json"
file.write_text(json.dumps(json.loads(file.read_text()) | {{"confirmed": True}}))
"""


def release(folder: Path, name: str, code: str) -> None:
    """A program of one line or two, as a release brings it."""
    package = launcher.packages(folder, name) / "fededge"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"print({name!r}, flush=True)\n{code}\n")


def start(folder: Path) -> "subprocess.Popen[str]":
    code = START.format(root=str(ROOT), folder=str(folder))
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=variables, cwd="/"
    )


def said(folder: Path) -> tuple[int, list[str]]:
    process = start(folder)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output.splitlines()


def test_what_was_installed_by_hand_runs_where_nothing_was_released_or_all_is_lost(tmp_path: Path) -> None:
    assert said(tmp_path) == (0, ["installed by hand"])
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "state.json").write_text('{"current"')
    assert said(tmp_path) == (0, ["installed by hand"])


def test_a_release_that_came_up_is_run_in_this_very_process(tmp_path: Path) -> None:
    release(tmp_path, "new", "import os, sys\nprint(os.getpid())\nprint(sys.argv[1:])\nsys.exit(7)")
    launcher.write(tmp_path, State(current="new"))
    process = start(tmp_path)
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["new", str(process.pid), str(["agent", "run", "--folder", str(tmp_path)])]
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        ("raise SystemExit(2)", 60.0),
        ("import os\nos.abort()", 60.0),
        ("import time\ntime.sleep(600)", 0.01),
    ],
    ids=["refuses", "crashes", "hangs"],
)
def test_a_release_that_does_not_come_up_is_gone_back_from_for_good(
    tmp_path: Path, code: str, seconds: float
) -> None:
    release(tmp_path, "new", code)
    launcher.write(tmp_path, State(current="new", confirmed=False, seconds=seconds))
    _, lines = said(tmp_path)
    assert lines[-1] == "installed by hand"
    assert launcher.read(tmp_path) == State(failed="new")
    assert said(tmp_path) == (0, ["installed by hand"])


def test_the_one_before_is_the_one_that_came_up_last(tmp_path: Path) -> None:
    release(tmp_path, "old", "")
    release(tmp_path, "new", "raise SystemExit(1)")
    launcher.write(tmp_path, State(current="new", previous="old", confirmed=False))
    assert said(tmp_path) == (0, ["new", "new", "new", "old"])
    assert launcher.read(tmp_path) == State(current="old", failed="new")


def form(store: Path) -> int:
    with closing(sqlite3.connect(store)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize(("after", "kept"), [(3, False), (2, True)], ids=["another form", "the same form"])
def test_what_a_release_that_is_gone_back_from_made_of_the_store_is_undone_where_it_cannot_be_read(
    tmp_path: Path, after: int, kept: bool
) -> None:
    store = tmp_path / "store.db"
    with closing(sqlite3.connect(store)) as database:
        database.executescript("PRAGMA journal_mode = WAL; PRAGMA user_version = 2; CREATE TABLE old (x)")
        (tmp_path / "program").mkdir()
        kept_store.keep(tmp_path)
    code = (
        f"import os, sqlite3\nd = sqlite3.connect({str(store)!r})\n"
        f"d.executescript('PRAGMA user_version = {after}; CREATE TABLE IF NOT EXISTS new (x)')\nos._exit(1)"
    )
    release(tmp_path, "new", code)
    launcher.write(tmp_path, State(current="new", confirmed=False))
    assert said(tmp_path)[1][-1] == "installed by hand"
    assert form(store) == 2
    with closing(sqlite3.connect(store)) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
    assert tables == ({"old", "new"} if kept else {"old"})


def test_a_release_whose_files_are_gone_is_gone_back_from(tmp_path: Path) -> None:
    launcher.write(tmp_path, State(current="new", confirmed=False))
    assert said(tmp_path) == (0, ["installed by hand"])


def test_starts_are_counted_whoever_ends_the_launcher(tmp_path: Path) -> None:
    release(tmp_path, "new", "import time\ntime.sleep(600)")
    launcher.write(tmp_path, State(current="new", confirmed=False))
    for starts in range(1, launcher.STARTS + 1):
        process = start(tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "new\n"
        process.kill()
        assert process.stdout.read() == ""  # the program ended with it
        process.wait()
        assert launcher.read(tmp_path).starts == starts
    assert said(tmp_path) == (0, ["installed by hand"])


def test_a_release_that_comes_up_stays_whatever_becomes_of_it_later(tmp_path: Path) -> None:
    release(tmp_path, "new", f"{CONFIRM.format(folder=str(tmp_path))}\nraise SystemExit(3)")
    launcher.write(tmp_path, State(current="new", confirmed=False))
    assert said(tmp_path) == (3, ["new"])
    assert launcher.read(tmp_path).current == "new"


def test_a_signal_reaches_the_program_and_counts_as_no_failure(tmp_path: Path) -> None:
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('ready', flush=True)"
    release(tmp_path, "new", f"{code}\ntime.sleep(600)")
    launcher.write(tmp_path, State(current="new", confirmed=False))
    process = start(tmp_path)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["new\n", "ready\n"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    process.stdout.close()
    assert launcher.read(tmp_path).current == "new"


def test_the_launcher_needs_the_standard_library_alone() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import fededge.device.launcher; "
        "print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert set(done.stdout.split()) <= {"fededge", "__main__"}
