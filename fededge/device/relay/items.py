"""What messages have become, and are stored as; and how much of it is kept."""

from dataclasses import dataclass

from fededge.device.relay.payload import Reason


@dataclass(frozen=True)
class Limits:
    """Of what is kept of a sensor: so many messages of a kind, of so many relay seconds; `form` of its examples."""

    form: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Reading:
    """A reading as it came.

    Attributes:
        time: of measurement, None: when it came; `label`: if it is known already.
        again: whether the broker says that it may have sent it before.
    """

    group: str
    sensor: str
    id: int
    time: float | None
    value: bytes
    label: float | None
    again: bool


@dataclass(frozen=True)
class Labeling:
    """A label for the readings of the `within` seconds before it; the others as in `Reading`."""

    group: str
    sensor: str
    id: int
    time: float | None
    value: float
    within: float
    again: bool


@dataclass(frozen=True)
class Refusal:
    """A message that is not taken; `sensor` is empty where it is nobody's that is known."""

    group: str
    sensor: str
    reason: Reason


Item = Reading | Labeling | Refusal
