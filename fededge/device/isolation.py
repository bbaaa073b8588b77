"""A process apart from this machine: without network, without rights, with its own files only.

Namespaces of the kernel (`man 7 namespaces`), which any user may make where the machine allows: the process sees the
system's libraries, the interpreter, and what it is given, all read-only, and one folder to write to. Folders where
users keep theirs are empty for it; sockets in them, such as a container engine's, are out of its reach. It has no
network, no capability, cannot see or signal other processes, and ends with its owner, its children too.

`python -m fededge.device.isolation SPEC COMMAND...` is the last step before COMMAND, inside; it needs the standard
library alone.
"""

import ctypes
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fededge.processes import ended_with_parent

# unshare(1): the kernel kills what runs inside when unshare itself ends.
APART = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child=KILL",
]
POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
HIDDEN = ("/home", "/media", "/mnt", "/root", "/run", "/srv", "/tmp", "/var/tmp")
"""Where people and services keep what is theirs."""
PROBE_SECONDS = 30

# Of the kernel: include/uapi/linux/mount.h, include/uapi/linux/fcntl.h.
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC = 2, 4, 4096, 16384
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442


def wrapped(
    command: Sequence[str],
    writable: Path,
    *,
    isolated: bool,
    readable: Sequence[Path] = (),
    hidden: Sequence[Path] = (),
    cpus: int | None = None,
    file_bytes: int | None = None,
) -> list[str]:
    """`command`, to be started so that it ends with its owner, yields to other processes, and has limits.

    Args:
        command: what to run; its standard input is a pipe of its owner's, or open.
        writable: the folder that it may write to, where it starts.
        isolated: whether in isolation; else it may do what this process may.
        readable: folders that it sees in isolation, wherever they lie.
        hidden: folders that are empty for it in isolation, but for code, `readable` and `writable`.
        cpus: most processors that it runs on.
        file_bytes: most bytes of a file that it writes.

    Raises:
        EnvironmentMissing: this machine lacks setpriv.
    """
    spec: dict[str, Any] = {"writable": str(writable), "cpus": cpus, "file_bytes": file_bytes, "steps": None}
    if isolated:
        code = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *filter(os.path.isdir, sys.path)]
        steps = [("hide", folder) for folder in HIDDEN] + [("show", folder) for folder in dict.fromkeys(code)]
        steps += [("hide", str(folder)) for folder in hidden]
        inside = [path for path in code if any(folder in Path(path).parents for folder in hidden)]
        steps += [("show", path) for path in [*inside, *map(str, readable)]]
        spec["steps"] = [*steps, ("show", str(writable))]
    inner = [sys.executable, "-m", __name__, json.dumps(spec), *(POWERLESS if isolated else ()), *command]
    return ended_with_parent([*(APART if isolated else ()), *inner])


def mistake() -> str | None:
    """Why this machine does not allow isolation; None where it does: then it was tried."""
    with tempfile.TemporaryDirectory(prefix="fededge-isolation-") as folder:
        command = wrapped(["sh", "-c", "touch written"], Path(folder), isolated=True)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        except subprocess.TimeoutExpired:
            return f"no answer in {PROBE_SECONDS} s"
        if done.returncode == 0 and (Path(folder) / "written").exists():
            return None
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]


def main() -> None:
    """Make this process what SPEC says, then become COMMAND."""
    spec, command = json.loads(sys.argv[1]), sys.argv[2:]
    Path("/proc/self/oom_score_adj").write_text(
        "1000"
    )  # where memory runs out, the kernel ends this one first
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if spec["file_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (spec["file_bytes"], spec["file_bytes"]))
    if spec["cpus"] is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["cpus"]])
    if spec["steps"] is not None:
        _separate(spec["steps"], spec["writable"])
    os.chdir(spec["writable"])
    _end_without_owner()
    os.execvp(command[0], command)


def _separate(steps: Sequence[tuple[str, str]], writable: str) -> None:
    """Hide and show folders one after another, then make all but one read-only."""
    shown = {path: os.open(path, os.O_PATH) for step, path in steps if step == "show"}
    for step, path in steps:
        if step == "show":
            os.makedirs(path, exist_ok=True)
            _mount(f"/proc/self/fd/{shown[path]}", path, None, MS_BIND | MS_REC)
        elif os.path.isdir(path):
            _mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for descriptor in shown.values():
        os.close(descriptor)
    _set_attributes("/", AT_RECURSIVE, put=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    _set_attributes(writable, 0, take=MOUNT_ATTR_RDONLY)


def _end_without_owner() -> None:
    """End where the owner ended before it was arranged that the kernel tells: the other end of the pipe is closed."""
    pipe = select.poll()
    pipe.register(sys.stdin, select.POLLHUP)
    if any(event & select.POLLHUP for _, event in pipe.poll(0)):
        sys.exit(0)


class _Attributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("put", "take", "propagation", "namespace")]


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(_libc().mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), target)


def _set_attributes(path: str, flags: int, put: int = 0, take: int = 0) -> None:
    attributes = _Attributes(put, take, 0, 0)
    size = ctypes.sizeof(attributes)
    call = _libc().syscall
    _check(call(SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, ctypes.byref(attributes), size), path)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


if __name__ == "__main__":
    main()
