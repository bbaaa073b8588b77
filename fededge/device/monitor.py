"""What a client measures of its machine, and what its integrator tells of it: the facts that conditions are over.

Three sources, the later ones prevail: this machine (/sys, /proc and psutil), a JSON file that a program of the integrator
writes and the policy names, and what the policy says is always so. What none of them tells is not known.
"""

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

import psutil
from pydantic import ValidationError

from fededge import storage
from fededge.device.clock import Clock
from fededge.device.policy import PolicyFile
from fededge.device.policy_keys import Measured
from fededge.documents.base import first_mistake
from fededge.eligibility import (
    BATTERY,
    CHARGING,
    IDLE,
    MEMORY,
    METERED,
    STORAGE,
    TEMPERATURE,
    UTC_OFFSET,
)
from fededge.errors import FedEdgeError

SAMPLE_SECONDS = 0.5
"""No sooner than after so long is the machine measured again."""
BUSY = 0.25
"""Share of the machine's processors that others may use while it is idle."""
FILE_LIMIT = 1 << 14
"""Bytes of the largest file of an integrator."""
ROUTES, INTERFACES = Path("/proc/net/route"), Path("/sys/class/net")


class Monitor(Protocol):
    """Tells the facts of a client."""

    def read(self) -> Mapping[str, str]:
        """What is known now, by the names of fededge.eligibility."""

    def mistake(self) -> str | None:
        """Why something is not known that should be; None where nothing is wrong."""


class MachineMonitor:
    """The monitor of this machine.

    Args:
        folder: of the client, whose disk is looked at.
        policy: names the integrator's file and what is always so.
        clock: tells the time of the day.
    """

    def __init__(self, folder: Path, policy: PolicyFile, clock: Clock) -> None:
        self._folder, self._policy, self._clock = folder, policy, clock
        self._load, self._file = _Load(), _File()
        self._sampled = -1.0
        self._machine: dict[str, str] = {}

    def read(self) -> Mapping[str, str]:
        """See Monitor."""
        now = time.monotonic()
        if self._sampled < 0 or now - self._sampled >= SAMPLE_SECONDS:
            self._machine, self._sampled = self._measured(), now
        try:
            told = self._policy.current().conditions
        except FedEdgeError:  # then nothing is allowed anyway
            return self._machine
        file = {} if told.file is None else self._file.read(Path(told.file), told.max_age_seconds)
        return {
            **self._machine,
            UTC_OFFSET: self._offset(told.time_zone),
            **file,
            **facts_of(told.always),
        }

    def mistake(self) -> str | None:
        """See Monitor."""
        return self._file.mistake

    def _measured(self) -> dict[str, str]:
        found = {IDLE: self._load.idle(), METERED: _metered(), TEMPERATURE: _temperature(), **_battery()}
        with suppress(OSError):
            found[STORAGE] = str(shutil.disk_usage(self._folder).free)
        found[MEMORY] = str(psutil.virtual_memory().available)
        return {name: text for name, text in found.items() if text is not None}

    def _offset(self, zone: str | None) -> str:
        """Minutes that the clock on the wall is before UTC."""
        now = self._clock.now().wall
        at = datetime.fromtimestamp(now, ZoneInfo(zone)) if zone else datetime.fromtimestamp(now).astimezone()
        return str(round((at.utcoffset() or timedelta()).total_seconds() / 60))


def facts_of(measured: Measured) -> dict[str, str]:
    """What was measured, as facts."""
    content = measured.model_dump(exclude_none=True)
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in content.items()
    }


class _File:
    """What an integrator's file tells: for a while after it was seen to change, whatever clocks say.

    Attributes:
        mistake: why it tells nothing.
    """

    def __init__(self) -> None:
        self.mistake: str | None = None
        self._seen: tuple[int, int, int] | None = None
        self._changed: float | None = None

    def read(self, path: Path, max_age_seconds: float) -> dict[str, str]:
        try:
            found = os.stat(path)
        except OSError as error:
            return self._nothing(f"{path}: {error.strerror}")
        state = (found.st_mtime_ns, found.st_size, found.st_ino)
        if state != self._seen:
            self._changed = None if self._seen is None else time.monotonic()
            self._seen = state
        if self._changed is None:
            return self._nothing(f"{path} was not written since this program began: write it again and again")
        if time.monotonic() - self._changed > max_age_seconds:
            return self._nothing(f"{path} was not written for {max_age_seconds:g} s")
        try:
            told = Measured.model_validate_json(storage.read(str(path), FILE_LIMIT))
        except ValidationError as error:
            return self._nothing(f"{path}: {first_mistake(error)}")
        except FedEdgeError as error:
            return self._nothing(str(error))
        self.mistake = None
        return facts_of(told)

    def _nothing(self, why: str) -> dict[str, str]:
        self.mistake = why
        return {}


class _Load:
    """How much of the machine others than this process and its children use."""

    def __init__(self) -> None:
        self._before = self._times()

    def idle(self) -> str | None:
        """Whether it is little since the last call; None where no time went by."""
        before, self._before = self._before, self._times()
        whole, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
        return str((busy - own) / whole < BUSY).lower() if whole > 0 else None

    def _times(self) -> tuple[float, float, float]:
        """Processor seconds of the machine: all, those in use, and those of this process and what it started."""
        times, own = psutil.cpu_times(), 0.0
        first = psutil.Process()
        for each in [first, *first.children(recursive=True)]:
            with suppress(psutil.Error):
                own += sum(each.cpu_times()[:4])
        guests = getattr(times, "guest", 0.0) + getattr(
            times, "guest_nice", 0.0
        )  # counted as user and nice, too
        whole = sum(times) - guests
        return whole, whole - times.idle - getattr(times, "iowait", 0.0), own


def _battery() -> dict[str, str]:
    battery = psutil.sensors_battery()
    if battery is None:
        return {}
    charging = {} if battery.power_plugged is None else {CHARGING: str(battery.power_plugged).lower()}
    return {BATTERY: f"{battery.percent / 100:.4g}", **charging}


def _temperature() -> str | None:
    """Degrees Celsius of the hottest sensor."""
    found = [each.current for sensors in psutil.sensors_temperatures().values() for each in sensors]
    return f"{max(found):g}" if found else None


def _metered() -> str | None:
    """Whether the network costs by the byte: a mobile one does, a wired one does not, of others nobody knows here."""
    try:
        routes = [line.split() for line in ROUTES.read_text().splitlines()[1:]]
        name = next((route[0] for route in routes if route[1] == "00000000"), None)
        if name is None:
            return None
        kind = (INTERFACES / name / "uevent").read_text()
    except (OSError, IndexError):
        return None
    if "DEVTYPE=wwan" in kind or name.startswith("ppp"):
        return "true"
    return None if "DEVTYPE=wlan" in kind else "false"
