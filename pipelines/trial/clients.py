"""The clients of a trial fleet: what each is, and its process."""

import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import psutil

SLOWER = 5
"""How many times slower a slow client works."""
TURN = 0.5
"""Seconds in which a slow client works once."""
ENVIRONMENTS = {"site": "worker", "agent": "edge", "relay": "edge"}
Program = Literal["site", "agent", "relay"]


@dataclass(frozen=True)
class ClientPlan:
    """What a client is.

    Attributes:
        name: its id.
        program: that it runs: `fededge site`, `fededge agent` or `fededge relay`.
        region: where it is said to be.
        device_class: of an agent, whose releases it runs; None: it runs none.
    """

    name: str
    program: Program
    region: str
    device_class: str | None = None


@dataclass
class RunningClient:
    """A client's process, and whether it is made slow."""

    plan: ClientPlan
    process: subprocess.Popen[bytes]
    slow: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def slow_down(self) -> None:
        """Let what works for the client do so one part in SLOWER of the time, until it ends; its connection goes on."""
        while not self.ended.is_set():
            everything = self._children()
            _signal(everything, signal.SIGSTOP)
            stopped = self.ended.wait(TURN * (SLOWER - 1) / SLOWER)
            _signal(everything, signal.SIGCONT)
            if stopped or self.ended.wait(TURN / SLOWER):
                return

    def kill(self) -> None:
        """End it as a power cut would."""
        self.ended.set()
        children = self._children()
        self.process.kill()
        _signal(children, signal.SIGKILL)
        self.process.wait()

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def plans(
    names: list[str], agents: int, relay: bool, classes: list[str], regions: list[str]
) -> list[ClientPlan]:
    """What each of `names` is: sites first, then the relay, then `agents` agents.

    Args:
        names: ids of the population's clients.
        agents: how many of them are devices.
        relay: whether one is a relay with sensors.
        classes: of devices, dealt out in turn.
        regions: dealt out in turn.
    """
    sites = len(names) - agents - relay
    counts: dict[Program, int] = {"site": sites, "relay": int(relay), "agent": agents}
    programs = [program for program, count in counts.items() for _ in range(count)]
    made = []
    for number, (name, program) in enumerate(zip(names, programs, strict=True)):
        dealt = classes[number % len(classes)] if classes and program == "agent" else None
        made.append(ClientPlan(name, program, regions[number % len(regions)], dealt))
    return made
