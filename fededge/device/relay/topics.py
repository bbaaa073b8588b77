"""A topic with a place for the sensor's id, such as `building/{sensor}/climate`: one level, and nothing else is open."""

import re
from dataclasses import dataclass

PLACE = "{sensor}"
SENSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LEVEL = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True)
class Topic:
    """One that belongs to each sensor.

    Attributes:
        before, after: what stands before and after the sensor's id.
    """

    before: str
    after: str

    @classmethod
    def of(cls, text: str) -> "Topic":
        """The topic that `text` writes.

        Raises:
            ValueError: one level is to be {sensor}, the others letters, digits and _ . : -.
        """
        levels = text.split("/")
        if levels.count(PLACE) != 1 or not all(each == PLACE or LEVEL.fullmatch(each) for each in levels):
            raise ValueError(
                "a topic has levels of letters, digits and _ . : -, and one level is {sensor}, as in "
                "building/{sensor}/climate"
            )
        before, after = text.split(PLACE)
        return cls(before, after)

    @property
    def filter(self) -> str:
        """What is subscribed to for all sensors."""
        return f"{self.before}+{self.after}"

    def named(self, sensor: str) -> str:
        """The one of `sensor`."""
        return f"{self.before}{sensor}{self.after}"

    def sensor(self, topic: str) -> str | None:
        """Whose `topic` this is; None where it is another, or its place holds no id."""
        if not (topic.startswith(self.before) and topic.endswith(self.after)):
            return None
        id = topic[len(self.before) : len(topic) - len(self.after)]
        return id if SENSOR.fullmatch(id) else None

    def tree(self, sensor: str) -> str:
        """What all topics of `sensor` begin with."""
        return f"{self.before}{sensor}/"
