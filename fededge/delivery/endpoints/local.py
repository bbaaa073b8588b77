"""An endpoint on this machine: the real Seldon server as a detached process.

Each endpoint has a folder, <home>/endpoints/<name>/, with `state.json` (what runs, and where), the log
of its server and, while one starts, `starting.json`: who starts it may be killed, and the next to come
ends what is left. The server's processes hold a lock on that log through their own output, so
the kernel itself says whether any of them lives; no process id can be mistaken for another's. It is
no FileLock, which belongs to the process that takes it: this one is handed on to the server's processes.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from fededge import settings, storage
from fededge.delivery.endpoints.pod import ENVIRONMENT, SERVER
from fededge.delivery.endpoints.ports import Ports
from fededge.delivery.endpoints.rollout import last_words
from fededge.documents import VariantFile
from fededge.errors import EndpointError, EnvironmentMissing
from fededge.host.layout import ROOT, interpreter

PROGRAM = "seldon-core-microservice"
STATE, STARTING = "state.json", "starting.json"
READY_SECONDS = 60.0
STOP_SECONDS = 25.0  # it finishes what is under way, over REST and then over gRPC
POLL = 0.02


class LocalEndpoint(BaseModel):
    """A server on this machine, and what it serves."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: str
    version: int
    variant: str
    digest: str
    ports: Ports
    pid: int
    log: str

    @property
    def rest(self) -> str:
        """URL of the REST endpoint."""
        return f"http://127.0.0.1:{self.ports.rest}"

    @property
    def grpc(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"127.0.0.1:{self.ports.grpc}"

    def serves(self, variant: VariantFile, version: int) -> bool:
        """Whether it serves this variant of this version."""
        return (self.digest, self.variant, self.version) == (variant.digest, variant.kind, version)

    @property
    def running(self) -> bool:
        """Whether any process of the server lives."""
        return _locked(Path(self.log))


def start(
    name: str,
    variant: VariantFile,
    version: int,
    ports: Ports | None = None,
    deadline: float = READY_SECONDS,
) -> LocalEndpoint:
    """Serve a variant under `name`, in place of what runs there; returns when it is ready.

    The same variant of the same version, already running, is left alone. Another one goes on until
    the new server is ready, unless both need the same ports; if the new one fails, it stays.

    Args:
        name: of the endpoint.
        variant: its file.
        version: of the model.
        ports: default FEDEDGE_ENDPOINT_PORTS, else free ones.
        deadline: seconds to become ready.

    Raises:
        PortInUse: one of `ports` is taken by another process.
        EndpointError: the server ended, or was not ready in time; its log says why.
        EnvironmentMissing: the serving environment is not set up.
    """
    folder = _folder(name)
    with _exclusive(folder):
        before = _read(folder / STATE)
        _end_leftover(folder, before)
        ports = ports or Ports.configured()
        if before and ports in (None, before.ports) and before.serves(variant, version) and _answers(before):
            return before
        if before and ports and before.ports.all & ports.all:
            _end(before)
            before = None
        ports = ports or Ports.free()
        ports.refuse_taken()
        _remove_old_logs(folder)
        endpoint, process = _launch(name, variant, version, ports)
        document = endpoint.model_dump_json(indent=1).encode()
        try:
            storage.write(str(folder / STARTING), document)
            _await(endpoint, process, deadline)
            storage.write(str(folder / STATE), document)
        except BaseException:
            _end(endpoint)
            raise
        finally:
            (folder / STARTING).unlink(missing_ok=True)
        if before:
            _end(before)
        return endpoint


def stop(name: str) -> bool:
    """End the endpoint `name`; False where none ran."""
    folder = _folder(name)
    if not folder.is_dir():
        return False
    with _exclusive(folder):
        endpoint = _read(folder / STATE)
        left = _end_leftover(folder, endpoint)
        if endpoint:
            _end(endpoint)
        (folder / STATE).unlink(missing_ok=True)
        return left or endpoint is not None


def find(name: str) -> LocalEndpoint | None:
    """The endpoint `name`, or None where none runs. While one starts or ends, this waits for the outcome."""
    folder = _folder(name)
    if not folder.is_dir():
        return None
    with _exclusive(folder):
        return _read(folder / STATE)


def running() -> list[LocalEndpoint]:
    """The endpoints that run on this machine, by name."""
    files = sorted((settings.home() / "endpoints").glob(f"*/{STATE}"))
    return [endpoint for file in files if (endpoint := _read(file))]


def names() -> list[str]:
    """The endpoints that run on this machine or whose start was cut off, by name."""
    files = [*(settings.home() / "endpoints").glob("*/*.json")]
    return sorted({file.parent.name for file in files if _read(file)})


def _launch(
    name: str, variant: VariantFile, version: int, ports: Ports
) -> tuple[LocalEndpoint, subprocess.Popen]:
    log = _folder(name) / f"server-{ports.rest}.log"
    parameters = [
        {"name": "model_url", "value": variant.url, "type": "STRING"},
        {"name": "model_digest", "value": variant.digest, "type": "STRING"},
        {"name": "variant", "value": variant.kind, "type": "STRING"},
        {"name": "model_version", "value": str(version), "type": "STRING"},
        {"name": "threads", "value": str(len(os.sched_getaffinity(0))), "type": "INT"},
    ]
    command = [
        *(str(_program()), SERVER, "--service-type", "MODEL", "--parameters", json.dumps(parameters)),
        *(
            "--http-port",
            str(ports.rest),
            "--grpc-port",
            str(ports.grpc),
            "--metrics-port",
            str(ports.metrics),
        ),
    ]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # A step's TMPDIR ends with its run, and may be too long for the sockets that Seldon makes there.
    own = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    with log.open("wb") as output:
        fcntl.flock(output, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={
                **own,
                **ENVIRONMENT,
                "PYTHONPATH": path,
                "PYTHONWARNINGS": "ignore",
                "SELDON_DEPLOYMENT_ID": name,
            },
            start_new_session=True,
        )
    endpoint = LocalEndpoint(
        name=name,
        version=version,
        variant=variant.kind,
        digest=variant.digest,
        ports=ports,
        pid=process.pid,
        log=str(log),
    )
    return endpoint, process


def _await(endpoint: LocalEndpoint, process: subprocess.Popen, deadline: float) -> None:
    end = time.monotonic() + deadline
    while not _answers(endpoint):
        if process.poll() is not None:
            raise EndpointError(f"the server of {endpoint.name} ended: {_reason(endpoint)}")
        if time.monotonic() > end:
            raise EndpointError(
                f"the server of {endpoint.name} was not ready within {deadline:g} seconds: {_reason(endpoint)}"
            )
        time.sleep(POLL)


def _answers(endpoint: LocalEndpoint) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint.rest}/ready", timeout=2):
            pass
        with socket.create_connection(("127.0.0.1", endpoint.ports.grpc), timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _reason(endpoint: LocalEndpoint) -> str:
    text = Path(endpoint.log).read_text(encoding="utf-8", errors="replace")
    return f"{last_words(text)} (log: {endpoint.log})"


def _end(endpoint: LocalEndpoint) -> None:
    """End the server's processes; while one holds the log's lock, its process group is theirs."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        if not endpoint.running:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGTERM:
                os.kill(endpoint.pid, number)
            else:
                os.killpg(endpoint.pid, number)
        end = time.monotonic() + patience
        while endpoint.running and time.monotonic() < end:
            time.sleep(POLL)
    if endpoint.running:
        raise EndpointError(
            f"the server of {endpoint.name} (process {endpoint.pid}) does not end: end it by hand"
        )


def _end_leftover(folder: Path, standing: LocalEndpoint | None) -> bool:
    """End a server whose start was cut off, so that nobody knows it; whether there was one."""
    starting = _read(folder / STARTING)
    left = starting if starting != standing else None
    if left:
        _end(left)
    (folder / STARTING).unlink(missing_ok=True)
    return left is not None


def _read(file: Path) -> LocalEndpoint | None:
    """What runs by `file`; a document that is left of a server that ended counts as nothing."""
    if not file.exists():
        return None
    try:
        endpoint = LocalEndpoint.model_validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        raise EndpointError(
            f"{file} is damaged: {' '.join(str(error).split())[:120]}. End that server and remove the file"
        ) from error
    return endpoint if endpoint.running else None


def _locked(log: Path) -> bool:
    try:
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _remove_old_logs(folder: Path) -> None:
    for log in folder.glob("server-*.log"):
        if not _locked(log):
            log.unlink()


def _program() -> Path:
    if importlib.util.find_spec("seldon_core"):
        return Path(sys.executable).parent / PROGRAM
    program = interpreter("serving").with_name(PROGRAM)
    if not program.exists():
        raise EnvironmentMissing(
            f"no serving environment ({program} is missing): set it up with `make setup`"
        )
    return program


def _folder(name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9-]{1,40}", name):
        raise EndpointError(f"{name!r} is not the name of an endpoint: use lower-case letters, digits and -")
    return settings.home() / "endpoints" / name


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / ".lock"))
        except OSError as error:
            raise EndpointError(
                f"cannot write {folder}: {error.strerror}. Free space, fix permissions or set FEDEDGE_HOME"
            ) from error
        yield
