"""The gateway's functions on their hosts: what a call takes at a gateway, as a CloudEvents service, and in Lambda.

    .venvs/platform/bin/python -m benchmarks.functions [--clients 200] [--repeats 300]

All over one registry (SQLite on this machine's disk), one call after the other, in one run. `x gateway` is the time over
that of the same call at a gateway: HTTP for what operators ask, a WebSocket for what clients say. Lambda is the real
awslambdaric with the Runtime API of the tests, which also play API Gateway: what AWS's network adds is not in it, what
these stand-ins add is. Then functions that train and answer by LiteRT: from starting the process to its first answer, and
the most memory that it held. Prints tables and writes benchmarks/results/functions.json and functions-cold.json.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.results import save, table
from fededge import storage
from fededge.fleet.gateway.server import serve
from fededge.fleet.gateway.settings import GatewaySettings, Rate
from fededge.fleet.hosts.app import NAMES, create_app
from fededge.fleet.registry.database import Registry
from fededge.host.layout import ROOT, interpreter
from serving.functions import measuring
from tests.events_host import Events
from tests.gateway_client import Client, Operator
from tests.gateway_process import Gateway, token
from tests.lambda_platform import deployed, waiting
from tests.whole_round import selection_request

COLD_SECONDS = 0.35
"""Most for a cold predict function's first answer; MEGABYTES: of functions that train and answer."""
MEGABYTES = {"train": 200, "predict": 100}
NO_LIMIT = Rate(1e6, 1e6)
FIXTURES = ROOT / "tests"


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200, help="connected, to be selected from")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--host", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host is not None:
        host(options.host)
        return
    for name, rows in (("functions", calls(options.clients, options.repeats)), ("functions-cold", cold())):
        print(table(rows))
        print(save(name, rows))


def calls(count: int, repeats: int) -> list[dict[str, Any]]:
    """Medians of each call at each host."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fededge-benchmark-")))
        gateway = stack.enter_context(Gateway.start(folder))
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        secret = token(registry)
        registry.close()
        operator = Operator(gateway.url, secret)
        stack.callback(operator.close)
        for number in range(count):
            stack.callback(operator.enroll(f"client-{number}").join().close)
        http = stack.enter_context(hosted(folder))
        binary, structured = (Events(http, secret, mode) for mode in (False, True))
        rows: list[dict[str, Any]] = []
        asked = selection_request()
        add(
            rows,
            "select",
            repeats,
            {
                "gateway, HTTP": lambda: operator("POST", "/v1/selections", asked),
                "CloudEvents, binary": lambda: binary("selection", "select", None, asked),
                "CloudEvents, structured": lambda: structured("selection", "select", None, asked),
            },
        )
        add(
            rows,
            "list rounds",
            repeats,
            {
                "gateway, HTTP": lambda: operator("GET", "/v1/rounds"),
                "CloudEvents, binary": lambda: binary("aggregation", "list"),
                "CloudEvents, structured": lambda: structured("aggregation", "list"),
            },
        )
        direct = operator.enroll("direct").join()
        stack.callback(direct.close)
        through = operator.enroll("through")
        with deployed(folder, gateway.url, 1, schedule=False) as platform:
            through.url = platform.url
            through.join()
            add(
                rows,
                "heartbeat",
                repeats,
                {
                    "gateway, WebSocket": lambda: beat(direct),
                    "Lambda, WebSocket API": lambda: beat(through),
                },
            )
            add(
                rows,
                "report",
                repeats,
                {
                    "gateway, WebSocket": lambda: report(direct),
                    "Lambda, WebSocket API": lambda: report(through),
                },
            )
            through.close()
            waiting(lambda: not platform.connections)
        return rows


def beat(client: Client) -> None:
    """A heartbeat, and its answer."""
    assert client.ask({"type": "heartbeat"}).type == "heartbeat"


def report(client: Client) -> None:
    """A report of an assignment that is not there: what is looked for in the registry, and refused."""
    message = {"type": "report", "assignment": "absent", "failure": "none", "seconds": 0.0}
    assert client.ask(message).outcome == "refused"


def add(rows: list[dict[str, Any]], call: str, repeats: int, hosts: dict[str, Callable[[], object]]) -> None:
    """Rows of one call, its hosts in turn; the first host is the gateway."""
    times: dict[str, list[float]] = {host: [] for host in hosts}
    turns = list(hosts.items())
    for _ in range(repeats):
        turns.append(turns.pop(0))  # what the one before left in caches helps each in turn
        for host, work in turns:
            begun = time.perf_counter()
            work()
            times[host].append(1000 * (time.perf_counter() - begun))
    medians = {host: statistics.median(each) for host, each in times.items()}
    base = medians[next(iter(hosts))]
    for host, median in medians.items():
        rows.append(
            {
                "call": call,
                "host": host,
                "ms": round(median, 2),
                "adds ms": round(median - base, 2),
                "x gateway": round(median / base, 2),
            }
        )


@contextmanager
def hosted(folder: Path) -> Iterator[httpx.Client]:
    """A client of a host of all functions, a process as the gateway is one."""
    command = [sys.executable, "-m", "benchmarks.functions", "--host", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            with httpx.Client(base_url=process.stdout.readline().strip(), trust_env=False) as client:
                yield client
        finally:
            process.terminate()


def host(folder: Path) -> None:
    """Be that process."""
    settings = GatewaySettings(
        port=0,
        database=f"sqlite:///{folder}/registry.db",
        storage=f"file://{folder}/storage",
        requests_rate=NO_LIMIT,
        operations=NO_LIMIT,
    )
    serve(
        settings,
        lambda url: print(url, flush=True),
        lambda chosen, url: create_app(chosen, url, NAMES, lambda _: None),
    )


def cold(repeats: int = 10) -> list[dict[str, Any]]:
    """Functions of LiteRT: their first and their second answer."""
    python = interpreter("serving")
    model = FIXTURES / "serving" / "fixtures" / "tiny.tflite"
    arguments = ["--model", str(model), "--digest", storage.digest_path(model), "--kind", "float16"]
    predict = measuring.Function(python, "predict", arguments)
    found = {"predict": next(measuring.predicting(predict, [1], repeats))}
    plan, client = (FIXTURES / "fixtures" / "litert" / name for name in ("plan", "client"))
    found["train"] = next(measuring.training(python, plan, client, [1], repeats))
    return [
        {
            "function": name,
            "cold s": round(row.cold, 3),
            "at most": COLD_SECONDS if name == "predict" else "",
            "warm ms": round(1000 * row.warm, 1),
            "MB": round(row.megabytes),
            "paper MB": MEGABYTES[name],
        }
        for name, row in found.items()
    ]


if __name__ == "__main__":
    main()
