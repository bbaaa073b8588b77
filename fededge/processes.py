"""Child processes that end with their owner, even when it is killed by SIGKILL."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from fededge.errors import EnvironmentMissing


def owned(command: Sequence[str | Path]) -> list[str]:
    """`command`, to be started so that the kernel kills it when the thread that starts it is gone.

    Raises:
        EnvironmentMissing: this machine lacks setpriv.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EnvironmentMissing(
            f"setpriv is not on PATH, and without it {Path(command[0]).name} could outlive its owner: "
            "install util-linux"
        )
    return [setpriv, "--pdeathsig", "KILL", "--", *map(str, command)]
