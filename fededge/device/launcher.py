"""What starts the program of an agent or site: the one that was switched to last, or the one before it where that does
not come up.

It is part of what was installed by hand and stays as it is, whatever releases bring: so it is small, and needs the
standard library alone. It and all later programs rely on this of each other:

    <folder>/program/state.json                what is to run (`State`)
    <folder>/program/releases/NAME/packages/   a release's packages, which prevail over those installed by hand
    FEDEDGE_PROGRAM=NAME                       in the environment of a program from there

A new program runs as a child until it has a session with the gateway and says so in state.json. One that ends before, or
has no session in time, is started again; after STARTS such starts the one before takes its place for good.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fededge import settings, storage
from fededge.device import kept_store
from fededge.errors import StorageError
from fededge.processes import ended_with_parent

VARIABLE = "FEDEDGE_PROGRAM"
LAUNCHER = "FEDEDGE_LAUNCHER"
"""Process id of the launcher that waits for this program, if one does."""
STARTS = 3
LOOK_SECONDS = 0.2
LIMIT = 1 << 14


@dataclass(frozen=True)
class State:
    """What is to run; None is what was installed by hand.

    Attributes:
        current, previous: names of releases.
        confirmed: whether the current one came up.
        starts: of the current one, before it came up.
        seconds: for which each of them may be without a session.
        failed: release that was gone back from, until the program before took note.
    """

    current: str | None = None
    previous: str | None = None
    confirmed: bool = True
    starts: int = 0
    seconds: float = 300.0
    failed: str | None = None


def read(folder: Path) -> State:
    """What is to run in the folder of a client; what was installed by hand, where that cannot be told."""
    try:
        return State(**json.loads(storage.read(str(_file(folder)), LIMIT)))
    except (StorageError, ValueError, TypeError):
        return State()


def write(folder: Path, state: State) -> None:
    """Have that run from the next start on. Raises StorageError."""
    storage.write(str(_file(folder)), json.dumps(asdict(state)).encode())


def confirm(folder: Path) -> None:
    """This program came up. Raises StorageError."""
    state = read(folder)
    if state.current == running() and not state.confirmed:
        write(folder, replace(state, confirmed=True, starts=0))


def running() -> str | None:
    """The release that this program is of; None: it was installed by hand."""
    return os.environ.get(VARIABLE)


def packages(folder: Path, name: str) -> Path:
    """Where the packages of a release lie."""
    return folder / "program" / "releases" / name / "packages"


def environment(folder: Path, name: str | None) -> dict[str, str]:
    """The variables of a program of the release `name`; None: of what was installed by hand."""
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    others = [path for path in paths if folder / "program" not in Path(path).parents]
    variables = {
        key: value for key, value in os.environ.items() if key not in (VARIABLE, LAUNCHER, "PYTHONPATH")
    }
    if name is not None:
        variables[VARIABLE] = name
        others = [str(packages(folder, name)), *others]
    return variables | ({"PYTHONPATH": os.pathsep.join(others)} if others else {})


def command(arguments: Sequence[str]) -> list[str]:
    """That runs `fededge` with these arguments."""
    return [sys.executable, "-P", "-m", "fededge", *arguments]


def launch(arguments: Sequence[str]) -> None:
    """Become the program that is to run; return where it is this one.

    Args:
        arguments: `agent run` or `site run`, with its options.
    """
    if running() is not None:
        return
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_known_args(arguments)[0].folder or settings.home() / arguments[0]
    folder = folder.absolute()
    if not read(folder).confirmed:
        _Supervisor(folder, arguments).run()
    state = read(folder)
    if state.current is not None:
        os.execve(sys.executable, command(arguments), environment(folder, state.current))


def again(folder: Path, arguments: Sequence[str]) -> None:
    """Have the launcher run what is to run now, once this program ends; where none waits for that, become it."""
    if os.environ.get(LAUNCHER) != str(os.getppid()):
        os.execve(sys.executable, command(arguments), environment(folder, None))


class _Supervisor:
    """Runs new programs until one came up and ended, or one that came up before is to run."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self._folder, self._arguments = folder, arguments
        self._program: subprocess.Popen[bytes] | None = None
        self._told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._pass_on)

    def run(self) -> None:
        while not (state := read(self._folder)).confirmed:
            if state.starts >= STARTS or not packages(self._folder, str(state.current)).is_dir():
                kept_store.restore(self._folder)
                write(self._folder, State(current=state.previous, failed=state.current))
                continue
            write(self._folder, replace(state, starts=state.starts + 1))
            status = self._attempt(state)
            if self._told or read(self._folder).confirmed:
                sys.exit(status)

    def _attempt(self, state: State) -> int:
        """Run the new program to its end, or as long as it may be without a session."""
        variables = environment(self._folder, state.current) | {LAUNCHER: str(os.getpid())}
        program = subprocess.Popen(ended_with_parent(command(self._arguments)), env=variables)
        self._program = program
        end = time.monotonic() + state.seconds
        while not read(self._folder).confirmed and program.poll() is None:
            if self._told:
                program.terminate()
            elif time.monotonic() > end:
                program.kill()
            time.sleep(LOOK_SECONDS)
        return program.wait()

    def _pass_on(self, number: int, _: object) -> None:
        self._told = True
        if self._program is not None:
            self._program.send_signal(number)


def _file(folder: Path) -> Path:
    return folder / "program" / "state.json"
