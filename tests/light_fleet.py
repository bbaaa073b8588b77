"""Sites in processes of their own, at a real gateway, whose training costs nothing: for what happens around it.

Run as a program, with the folders of enrolled sites, it is these sites.
"""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fededge import storage
from fededge.device.client import Client
from fededge.device.clock import Clock
from fededge.device.enrollment import enroll
from fededge.device.pace import Pace
from fededge.device.workplace import workplace
from fededge.protocol import Order
from tests.enrolled_site import EnrolledSite
from tests.gateway_client import Operator
from tests.light_runner import update_of
from tests.stand_in_gateway import DIGEST, KEY, plan_zip

ROOT = Path(__file__).resolve().parents[1]
RUNNER = [sys.executable, str(ROOT / "tests" / "light_runner.py")]
PACE = 0.1, 1.0
"""Seconds between tries to connect, at first and at most."""


class LightFleet:
    """Sites that are enrolled at a gateway; use it with `with`, which ends their processes.

    Args:
        folder: of all of them.
        url: of the gateway.
        admin: of it.
        inside: what begins the command of each process, such as `ip netns exec NAME`.
    """

    def __init__(self, folder: Path, url: str, admin: Operator, inside: Sequence[str] = ()) -> None:
        self.folder, self._url, self._admin, self._inside = folder, url, admin, list(inside)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._weights: dict[str, tuple[int, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def enroll(self, names: Iterable[str]) -> None:
        """Make sites of these names."""
        for name in names:
            site = EnrolledSite(self.folder / name)
            made = self._admin("POST", "/v1/enrollments", {"client": name})["items"][0]
            enroll(site.folder, self._url, made["token"], plain=True)

    def start(
        self, names: Iterable[str], program: Sequence[str] = (sys.executable, "-m", "tests.light_fleet")
    ) -> subprocess.Popen[bytes]:
        """Run these sites in one process, by a program that takes their folders; its log lies in the fleet's folder."""
        folders = [str(self.folder / name) for name in names]
        log = self.folder / f"process-{len(self._processes)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen([*self._inside, *program, *folders], cwd=ROOT, stderr=stream)
        self._processes.append(process)
        return process

    def wait_for(self, names: Iterable[str]) -> None:
        """Return once these are connected."""
        wanted = set(names)
        while not wanted <= self.connected():
            time.sleep(0.05)

    def connected(self) -> set[str]:
        """Who is."""
        items = self._admin("GET", "/v1/clients", params={"connected": "true", "limit": 1000})["items"]
        return {item["client"] for item in items}

    def open(
        self,
        name: str,
        number: int,
        cohort: list[str],
        size: int,
        works: float = 0.0,
        weights: bytes | None = None,
        **changes: Any,
    ) -> None:
        """Open a round of training.

        Args:
            name: of the round.
            number: of the round, which its updates follow from.
            cohort: sites.
            size: bytes of the weights, and of each update.
            works: seconds that a site trains.
            weights: their bytes; None: some.
            changes: in the request.
        """
        plan = plan_zip(seconds=str(works))
        weights = weights or (f"{name} ".encode() * size)[:size]
        self._weights[name] = number, weights
        digests = {"plan": self._admin.store(plan), "weights": self._admin.store(weights)}
        order = Order(
            tenant="default",
            task="wearables",
            identity=DIGEST,
            owner="ada",
            round_id=name,
            kind="train",
            dataset="steps",
            number=number,
            seed=0,
            cohort=len(cohort),
            min_clients=len(cohort),
            framework="keras",
            issued=time.time(),
            plan=digests["plan"],
            weights=digests["weights"],
        )
        request = {"task": "wearables", "dataset": "steps", "number": number, "update_bytes": size}
        self._admin.round(name, cohort, order=order.signed(KEY), **{**request, **digests, **changes})

    def states(self, name: str) -> dict[str, str]:
        """State of each site's part in a round."""
        items = self._admin("GET", f"/v1/rounds/{name}/queue", params={"limit": 1000})["items"]
        return {item["client"]: item["state"] for item in items}

    def wait_until(self, name: str, state: str, count: int) -> None:
        """Return once so many parts of a round are in a state."""
        while list(self.states(name).values()).count(state) < count:
            time.sleep(0.05)

    def closed(self, name: str) -> dict[str, Any]:
        """How a round stands, once it is closed."""
        while (status := self._admin("GET", f"/v1/rounds/{name}"))["state"] == "open":
            time.sleep(0.05)
        return dict(status)

    def counted(self, name: str) -> set[str]:
        """Whose updates a round has; each is checked to be there once, and to be the one that this site made."""
        number, weights = self._weights[name]
        items = self._admin("GET", f"/v1/rounds/{name}/reports")["items"]
        assert [item["ordinal"] for item in items] == list(range(1, len(items) + 1))
        good = [item for item in items if item.get("update")]
        for item in good:
            update = update_of(item["client"], number, weights)
            assert item["update"] == storage.digest(update)
            assert self._admin.http.get(item["url"]).content == update
        names = [item["client"] for item in good]
        assert len(set(names)) == len(names)
        return set(names)

    def rounds_of(self, name: str) -> int:
        """How many rounds of a site counted."""
        return int(self._admin("GET", f"/v1/clients/{name}")["rounds"])

    def committed(self, name: str) -> None:
        """Tell the gateway that a round is committed."""
        self._admin("POST", f"/v1/rounds/{name}/close", {"outcome": "committed"})


async def run(folders: Sequence[Path]) -> None:
    """The sites in these folders, until SIGTERM."""
    with ExitStack() as stack:
        clients = [
            Client(
                stack.enter_context(workplace(folder / "site", folder / "policy.yaml", RUNNER, Clock())),
                Pace(*PACE),
            )
            for folder in folders
        ]
        for client in clients:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.end)
        await asyncio.gather(*(client.run() for client in clients))


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(run([Path(name) for name in sys.argv[1:]]))
