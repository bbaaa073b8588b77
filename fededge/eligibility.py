"""When a client may work: the conditions that a task states, over what a client says of itself.

A client says each thing as text by a name below. What it cannot measure it does not say, and what is not said meets no
condition. Conditions as in Bonawitz et al. 2019, Towards Federated Learning at Scale: System Design, section 3.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fededge.errors import shown

BATTERY, CHARGING, IDLE, MANUAL, METERED = "battery", "charging", "idle", "manual", "metered"
MEMORY, STORAGE, TEMPERATURE = "free_memory_bytes", "free_storage_bytes", "temperature_celsius"
NEW_EXAMPLES, REGION, UTC_OFFSET = "new_examples", "region", "utc_offset_minutes"

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Time = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Region = Annotated[str, Field(min_length=1, max_length=64)]
Bytes = Annotated[int, Field(ge=1, le=1 << 50)]
LONGEST_OFFSET = 24 * 60
"""Minutes that a clock on a wall may differ from UTC."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Window(_Part):
    """A time of the day; one that ends no later than it begins goes on over midnight, and is of the day it begins on."""

    days: list[Day] = Field(list(DAYS), min_length=1, max_length=7, description="on which it begins")
    begin: Time = Field(description="HH:MM, where the client is")
    end: Time = Field(description="HH:MM; no longer in it")

    def holds(self, at: datetime) -> bool:
        """Whether the local time `at` is in it."""
        begin, end = _minutes(self.begin), _minutes(self.end)
        now, today = at.hour * 60 + at.minute, DAYS[at.weekday()] in self.days
        if begin < end:
            return today and begin <= now < end
        return (today and now >= begin) or (DAYS[at.weekday() - 1] in self.days and now < end)


class Conditions(_Part):
    """What must all be so for a client to be asked, to begin and to go on."""

    charging: bool = Field(False, description="only while it is")
    min_battery: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="fraction that is left")
    unmetered: bool = Field(False, description="only on a network that costs nothing by the byte")
    idle: bool = Field(False, description="only while nobody else uses it")
    manual: bool = Field(False, description="only while somebody at the client says so")
    max_temperature_celsius: Annotated[float, Field(ge=-100, le=200)] | None = None
    min_free_memory_bytes: Bytes | None = None
    min_free_storage_bytes: Bytes | None = None
    min_new_examples: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        None, description="training examples that came since it last learned from them"
    )
    regions: list[Region] = Field([], max_length=100, description="one of which it is in")
    windows: list[Window] = Field(
        [], max_length=50, description="one of which it is in, by its own time zone"
    )

    @property
    def stated(self) -> bool:
        """Whether anything is asked for."""
        return self != Conditions()

    def for_kind(self, kind: str) -> "Conditions":
        """Those of work of a kind: only training uses up new examples."""
        return self if kind == "train" else self.model_copy(update={"min_new_examples": None})

    @property
    def flags(self) -> dict[str, str]:
        """What a client must say word for word."""
        asked = (
            (CHARGING, "true", self.charging),
            (METERED, "false", self.unmetered),
            (IDLE, "true", self.idle),
            (MANUAL, "true", self.manual),
        )
        return {name: wanted for name, wanted, is_asked in asked if is_asked}

    def unmet(self, said: Mapping[str, str], now: float) -> str | None:
        """The first condition that is not met, and why; None where all are.

        Args:
            said: what the client says of itself, by name.
            now: seconds since the epoch.
        """
        for name, wanted, holds in self._wanted(now):
            if name not in said:
                return f"{name} is not known, where {wanted} is asked for"
            if not holds(said[name]):
                return f"{name} is {shown(said[name])}, where {wanted} is asked for"
        return None

    def _wanted(self, now: float) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
        for name, wanted in self.flags.items():
            yield name, wanted, wanted.__eq__
        for name, least in (
            (BATTERY, self.min_battery),
            (MEMORY, self.min_free_memory_bytes),
            (STORAGE, self.min_free_storage_bytes),
            (NEW_EXAMPLES, self.min_new_examples),
        ):
            if least is not None:
                yield name, f"at least {least:,}", lambda text, least=least: _number(text) >= least  # type: ignore[misc]
        if (most := self.max_temperature_celsius) is not None:
            yield TEMPERATURE, f"at most {most:g}", lambda text: _number(text) <= most
        if self.regions:
            yield REGION, f"one of {', '.join(self.regions[:5])}", self.regions.__contains__
        if self.windows:
            times = ", ".join(f"{window.begin} to {window.end}" for window in self.windows[:3])
            yield UTC_OFFSET, f"a time of {times}", lambda text: self._in_window(now, text)

    def _in_window(self, now: float, offset: str) -> bool:
        minutes = _number(offset)
        if not abs(minutes) <= LONGEST_OFFSET:
            return False
        local = datetime.fromtimestamp(now, UTC) + timedelta(minutes=minutes)
        return any(window.holds(local) for window in self.windows)


def coarse(said: Mapping[str, str]) -> dict[str, str]:
    """What is said to others, in steps, so that it is not said anew all the time; each step is to the safe side."""
    steps: dict[str, Callable[[float], float]] = {
        BATTERY: lambda value: math.floor(value * 20) / 20,
        TEMPERATURE: lambda value: math.ceil(value / 5) * 5,
        MEMORY: _four_bits,
        STORAGE: _four_bits,
    }
    return {name: str(steps[name](_number(text))) if name in steps else text for name, text in said.items()}


def _four_bits(value: float) -> int:
    """The largest whole number of four significant bits up to `value`."""
    step = 2.0 ** (math.frexp(value)[1] - 4)
    return int(math.floor(value / step) * step)


def _number(text: str) -> float:
    """NaN, which meets nothing, where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])
