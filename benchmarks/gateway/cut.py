"""A network that is cut for a minute in the middle of a round: how soon the round goes on, and what is sent twice.

    sudo .venvs/platform/bin/python -m benchmarks.gateway.cut [--seconds 60] [--rate 4mbit]

Real sites in a network namespace, behind a link of that rate, upload updates of 1.27 MB; once the first is reported,
nothing arrives either way for so long. Needs root, for the namespace. Prints a table and writes
benchmarks/results/cut.json.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.results import save, table
from fededge.fleet.registry.database import Registry
from tests import networks
from tests.gateway_client import Operator
from tests.gateway_process import Gateway, token
from tests.light_fleet import LightFleet

SITES = [f"site-{number}" for number in range(4)]
UPDATE_BYTES = 1_270_000


def measured(folder: Path, seconds: float, rate: str) -> dict[str, object]:
    """A round whose network is cut for so long."""
    with (
        networks.network() as network,
        Gateway.start(folder, host=network.here, insecure=True) as gateway,
    ):
        registry = Registry.open(f"sqlite:///{folder}/registry.db")
        admin = Operator(gateway.url, token(registry))
        registry.close()
        with LightFleet(folder / "sites", gateway.url, admin, network.inside) as fleet:
            fleet.enroll(SITES)
            fleet.start(SITES)
            fleet.wait_for(SITES)
            network.slow(rate)
            begun = time.monotonic()
            fleet.open("round", 1, SITES, UPDATE_BYTES)
            fleet.wait_until("round", "reported", 1)
            network.cut()
            time.sleep(seconds)
            network.mend()
            mended = time.monotonic()
            status = fleet.closed("round")
            now = time.monotonic()
            assert fleet.counted("round") == set(SITES)
        admin.close()
    return {
        "cut, seconds": seconds,
        "round, seconds": round(now - begun, 1),
        "after it, seconds": round(now - mended, 1),
        "bytes up, of needed": round(status["bytes_up"] / (len(SITES) * UPDATE_BYTES), 3),
        "reported": status["reported"],
    }


def main() -> None:
    """Measure without and with a cut, print and write the result."""
    parser = argparse.ArgumentParser(description="Cut a network in the middle of a round.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the cut (default: 60)")
    parser.add_argument("--rate", default="4mbit", help="of the link, each way (default: 4mbit)")
    options = parser.parse_args()
    if why := networks.missing():
        print(f"not measured: {why}")
        return
    rows = []
    for seconds in (0.0, options.seconds):
        with tempfile.TemporaryDirectory(prefix="fededge-benchmark-") as folder:
            rows.append(measured(Path(folder), seconds, options.rate))
    print(table(rows))
    print(save("cut", rows))


if __name__ == "__main__":
    main()
