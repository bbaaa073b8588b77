"""A gateway in a process of its own, as tests start it: `with Gateway.start(tmp_path) as gateway: ...`.

Run as a program, with settings as JSON, it is that process.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fededge.fleet.functions import operators
from fededge.fleet.gateway.server import serve
from fededge.fleet.gateway.settings import GatewaySettings, Oidc, Rate
from fededge.fleet.registry.database import Registry
from fededge.protocol import OperatorRequest, Tenant

ROOT = Path(__file__).resolve().parents[1]
NO_LIMIT = {"per_second": 1e6, "burst": 1e6}
LIMITS = ("enrolls", "connects", "requests_rate", "operations", "messages")


class Gateway:
    """A gateway's process.

    Attributes:
        url: where it listens.
        log: its lines so far.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.log: list[dict[str, Any]] = []
        self.url = ""
        self._ready = threading.Event()
        clock = settings.pop("clock", None)
        program = ["tests.gateway_process"] if clock is None else ["tests.shifted_clock", str(clock)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *program, json.dumps(settings, default=str)],
            cwd=ROOT,
            env=os.environ | {"FEDEDGE_HOME": str(folder), "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    @contextmanager
    def start(cls, folder: Path, **settings: Any) -> "Iterator[Gateway]":
        """A gateway whose files lie in `folder`, without limits on rates unless the settings have some.

        `clock`, beside the settings, is a file that says by how many seconds the gateway's clock is ahead.
        """
        defaults = {
            "port": 0,
            "database": f"sqlite:///{folder}/registry.db",
            "storage": f"file://{folder}/storage",
            "poll_seconds": 0.05,
            **dict.fromkeys(LIMITS, NO_LIMIT),
        }
        gateway = cls(folder, defaults | settings)
        try:
            assert gateway._ready.wait(60)
            assert gateway.url, gateway.log
            yield gateway
        finally:
            if gateway.process.poll() is None:
                gateway.process.kill()
            gateway.process.wait()
            gateway._reader.join()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, and wait for its end."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def events(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log that tell of `event`."""
        return [line for line in self.log if line.get("event") == event]

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                told = json.loads(line)
            except ValueError:
                told = {"event": "text", "text": line}
            self.log.append(told)
            if told.get("event") == "ready":
                self.url = told["url"]
                self._ready.set()
        self._ready.set()


def token(registry: Registry, scope: Any = "admin", tenant: str = "default", now: float = 1.0) -> str:
    """A token of an operator; the tenant is made where there is none."""
    if tenant not in {each.name for each in operators.list_tenants(registry).items}:
        operators.put_tenant(registry, Tenant(name=tenant), "test", now)
    request = OperatorRequest(name=f"{scope}-of-{tenant}", scope=scope)
    return operators.make(registry, tenant, request, "test", now).token


def _settings(content: dict[str, Any]) -> GatewaySettings:
    paths = {"key_file", "certificate_file", "private_key_file", "client_ca_file", "ca_file"}

    def value(name: str, given: Any) -> Any:
        if name in LIMITS:
            return Rate(**given)
        if name == "oidc":
            return Oidc(**{key: value(key, each) for key, each in given.items()})
        if name in paths:
            return None if given is None else Path(given)
        return tuple(given) if isinstance(given, list) else given

    known = {field.name for field in dataclasses.fields(GatewaySettings)}
    assert set(content) <= known
    return GatewaySettings(**{name: value(name, given) for name, given in content.items()})


if __name__ == "__main__":
    serve(_settings(json.loads(sys.argv[1])))
