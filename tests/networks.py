"""A network of a test's own: a namespace that a pair of veth joins to this machine, whose link can be cut and slowed."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

NUMBERS = itertools.count()
NOWHERE = "02:00:00:00:00:01"
"""An address of Ethernet that nobody has."""


class Network:
    """Two ends: here, and in the namespace.

    Attributes:
        here, there: their addresses.
        inside: begins a command that runs in the namespace.
    """

    def __init__(self, name: str) -> None:
        number = os.getpid() % 250
        self.name = name
        self.here, self.there = (f"10.213.{number}.{each}" for each in (1, 2))
        self._ends: tuple[tuple[str, list[str], str], ...] = (
            (f"{name}a", [], self.there),
            (f"{name}b", ["-n", name], self.here),
        )
        self.inside = ["ip", "netns", "exec", name]

    def make(self) -> None:
        (mine, _, _), (other, there, _) = self._ends
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", mine, "type", "veth", "peer", "name", other, "netns", self.name)
        run("ip", "addr", "add", f"{self.here}/24", "dev", mine)
        run("ip", *there, "addr", "add", f"{self.there}/24", "dev", other)
        run("ip", "link", "set", mine, "up")
        for device in (other, "lo"):
            run("ip", *there, "link", "set", device, "up")

    def remove(self) -> None:
        subprocess.run(["ip", "link", "del", f"{self.name}a"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def cut(self) -> None:
        """From now on nothing arrives, either way, and nobody is told."""
        for device, where, peer in self._ends:
            run("ip", *where, "neigh", "replace", peer, "lladdr", NOWHERE, "dev", device, "nud", "permanent")

    def mend(self) -> None:
        """All arrives again."""
        for device, where, peer in self._ends:
            run("ip", *where, "neigh", "del", peer, "dev", device)

    def slow(self, rate: str) -> None:
        """Let no more through either way than `rate`, such as 2mbit."""
        bucket = ["tbf", "rate", rate, "burst", "20kb", "latency", "200ms"]
        for device, where, _ in self._ends:
            run("tc", *where, "qdisc", "replace", "dev", device, "root", *bucket)


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def missing() -> str | None:
    """Why no network can be made here; None where it can."""
    if os.getuid():
        return "only root may make network namespaces"
    if absent := [name for name in ("ip", "tc") if shutil.which(name) is None]:
        return f"iproute2 is not installed here ({', '.join(absent)})"
    network = Network(f"fe{os.getpid()}t")
    try:
        network.make()
        network.slow("1mbit")
    except AssertionError as error:
        return f"no network namespaces here: {error}"
    finally:
        network.remove()
    return None


@contextmanager
def network() -> Iterator[Network]:
    """A network, while the block lasts."""
    made = Network(f"fe{os.getpid()}n{next(NUMBERS)}")
    try:
        made.make()
        yield made
    finally:
        made.remove()
