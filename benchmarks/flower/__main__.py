"""Seconds a round and memory of FedEdge and of Flower, for the same number of clients and the same bytes.

    .venvs/platform/bin/python -m benchmarks.flower [--clients 20] [--rounds 3]

Each client is a process of its own on this machine: a site of FedEdge's, a SuperNode of Flower's. Its work is an
addition: what shows is the framework. Flower's current release is installed into an environment of its own, from the
package index. Sites prove who they are, obey signed orders only and keep a journal; Flower runs with --insecure and
without authentication, as its quickstart does. Prints a table and writes benchmarks/results/flower.json.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import yaml

from benchmarks.results import save, table
from fededge import archives
from fededge.documents import Feature, Label, Plan, Schema
from fededge.documents.learning import Variable
from fededge.examples import write
from fededge.fleet.gateway_client import GatewayClient
from fededge.host.layout import ROOT
from fededge.ports import free_port
from fededge.protocol import CloseRequest, EnrollmentRequest, Order, RoundRequest
from fededge.signing import SigningKey, public_file
from fededge.weights import from_bytes, to_bytes

NUMBERS = 317_066
"""Weights of the serverless edge paper's CNN: 1.27 MB."""
RELEASE = "flwr"
DIGEST = "sha256:" + "0" * 64
SCHEMA = Schema(
    features=[Feature(name="x", dtype="float32", shape=[4])], label=Label(kind="class", classes=2)
)
WEIGHTS = {"w": np.zeros(NUMBERS, np.float32)}


def main() -> None:
    """Measure both, one after the other."""
    parser = argparse.ArgumentParser(prog="benchmarks.flower", description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="fededge-flower-") as folder:
        for name, measure in (("FedEdge", fededge_rounds), ("Flower", flower_rounds)):
            place = Path(folder) / name
            place.mkdir()
            seconds, megabytes, version = measure(place, options.clients, options.rounds)
            rows.append(
                {
                    "framework": f"{name} {version}",
                    "clients": options.clients,
                    "s a round": round(float(np.median(seconds)), 2),
                    "MB a client": round(megabytes["clients"] / options.clients, 1),
                    "MB server": round(megabytes["server"], 1),
                }
            )
    ratio = float(rows[1]["s a round"]) / float(rows[0]["s a round"])
    print(table(rows))
    print(f"Flower takes {ratio:.1f} times as long a round")
    print(save("flower", rows))


def fededge_rounds(folder: Path, clients: int, rounds: int) -> tuple[list[float], dict[str, float], str]:
    """Seconds of each round, and megabytes of sites and gateway."""
    from fededge import __version__

    variables = {**os.environ, "FEDEDGE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    ready, token = folder / "ready.json", folder / "token"
    key = SigningKey.create(folder / "release.pem")
    with ExitStack() as running:
        serve: list[str | Path] = [
            "-m",
            "fededge",
            "gateway",
            "serve",
            "--port",
            "0",
            "--ready-file",
            ready,
            "--token-file",
            token,
        ]
        gateway = running.enter_context(_process([sys.executable, *serve], folder / "gateway.log", variables))
        _wait(ready.exists)
        url = json.loads(ready.read_text())["url"]
        client = running.enter_context(GatewayClient(url, token))
        sites = []
        for number in range(clients):
            home = folder / f"site-{number}"
            _prepare(home, public_file(folder / "release.pem"))
            made = client.enroll(EnrollmentRequest(client=home.name))[0].token
            command = [sys.executable, "-m", "benchmarks.flower.site"]
            subprocess.run(
                [*command, "enroll", url, "--folder", home],
                input=made,
                text=True,
                check=True,
                env=variables,
                capture_output=True,
            )
            sites.append(
                running.enter_context(_process([*command, "run", "--folder", home], home / "log", variables))
            )
        _wait(lambda: sum(each.connected for each in client.clients()) == clients)
        seconds = [_round(client, key, folder, number, clients) for number in range(1, rounds + 1)]
        memory = {"clients": sum(map(_megabytes, sites)), "server": _megabytes(gateway)}
    return seconds, memory, __version__


def _round(client: GatewayClient, key: SigningKey, folder: Path, number: int, clients: int) -> float:
    begun = time.monotonic()
    plan = folder / "plan"
    if not plan.exists():
        plan.mkdir()
        document = Plan(
            framework="sklearn",
            task=DIGEST,
            example=SCHEMA,
            variables=[Variable(name="w", shape=[NUMBERS])],
            activations=[],
        )
        document.write(plan / "plan.json")
    weights = {"w": WEIGHTS["w"] + np.float32(number)}
    order = Order(
        tenant="default",
        task="adding",
        identity=DIGEST,
        owner="benchmark",
        round_id=f"round-{number}",
        kind="train",
        dataset="numbers",
        number=number,
        seed=0,
        cohort=clients,
        min_clients=clients,
        framework="sklearn",
        plan=client.store(archives.packed(plan)),
        weights=client.store(to_bytes(weights)),
        issued=time.time(),
    )
    size = len(to_bytes(weights))
    request = RoundRequest(
        task="adding",
        kind="train",
        number=number,
        dataset="numbers",
        order=order.signed(key),
        plan=order.plan,
        weights=order.weights,
        cohort=[f"site-{each}" for each in range(clients)],
        seconds=600.0,
        update_bytes=size,
    )
    client.open_round(order.round_id, request)
    total, heard, after = np.zeros(NUMBERS), 0, 0
    while heard < clients:
        for report in client.reports(order.round_id, after, 10.0).items:
            after = report.ordinal
            assert report.update, report.failure
            assert report.url
            client.fetch(report.url, report.update, size, folder / "update")
            total += from_bytes((folder / "update").read_bytes())["w"]
            heard += 1
    np.testing.assert_allclose(total / clients, weights["w"] + 0.001, atol=1e-5)
    client.close_round(order.round_id, CloseRequest(outcome="committed"))
    return time.monotonic() - begun


def _prepare(home: Path, signer: Path) -> None:
    for part in ("train", "test"):
        write(home / "data" / part, np.zeros((100, 4)), np.zeros(100), SCHEMA)
    rule = {
        "name": "adding",
        "tasks": ["adding"],
        "signers": [str(signer)],
        "datasets": ["numbers"],
        "kinds": ["train"],
        "min_clients": 1,
    }
    (home / "policy.yaml").write_text(
        yaml.safe_dump({"datasets": {"numbers": str(home / "data")}, "rules": [rule]})
    )


def flower_rounds(folder: Path, clients: int, rounds: int) -> tuple[list[float], dict[str, float], str]:
    """As `fededge_rounds`, of Flower's SuperNodes and SuperLink."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    tools = folder / "venv" / "bin"
    subprocess.run(
        [tools / "python", "-m", "pip", "install", "--quiet", RELEASE, "numpy"],
        check=True,
        env=_clean(folder),
    )
    told: list[str | Path] = [
        tools / "python",
        "-c",
        "import importlib.metadata as m; print(m.version('flwr'))",
    ]
    version = subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()
    variables = _clean(folder) | {
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    results, port = folder / "results", free_port()
    address = f"127.0.0.1:{port}"
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
    )
    with ExitStack() as running:
        link = ["flower-superlink", "--insecure", "--port", str(port)]
        server = running.enter_context(_process(link, folder / "link.log", variables))
        _wait(lambda: _listens(port))
        nodes = []
        for number in range(clients):
            node = ["flower-supernode", "--insecure", "--superlink", address, "--port", str(free_port())]
            log = folder / f"node-{number}.log"
            nodes.append(running.enter_context(_process(node, log, variables)))
            # One after another: many at once repeat what was done already, are refused for that, and end.
            _wait(lambda log=log: "SuperNode ID" in log.read_text())  # type: ignore[misc]
        config = f'rounds={rounds} numbers={NUMBERS} clients={clients} results="{results}"'
        app = Path(__file__).with_name("app")
        run = ["flwr", "run", str(app), "here", "--run-config", config, "--stream"]
        with _process(run, folder / "run.log", variables):
            _wait(lambda: results.exists() and len(results.read_text().splitlines()) == rounds, 900.0)
        memory = {"clients": sum(map(_megabytes, nodes)), "server": _megabytes(server)}
    told_rounds = [json.loads(line) for line in results.read_text().splitlines()]
    assert all(heard == clients for heard, _ in told_rounds)
    return [seconds for _, seconds in told_rounds], memory, version


@contextmanager
def _process(
    command: Sequence[str | Path], log: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(variables), cwd=ROOT
        )
    try:
        yield process
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            with suppress(psutil.NoSuchProcess):  # a child ends with its parent
                each.kill()
        process.wait()


def _megabytes(process: subprocess.Popen[bytes]) -> float:
    """Memory of a process and its children, each shared page by its share (PSS)."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return sum(each.memory_full_info().pss for each in family if each.is_running()) / 1e6


def _clean(folder: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        "HOME": str(folder)
    }


def _wait(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.2)):
        if condition():
            return
        pause.wait(0.2)
    raise TimeoutError(f"waited {seconds:g} s in vain")


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
