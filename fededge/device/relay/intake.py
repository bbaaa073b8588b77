"""What becomes of a message: a reading, a label, a request, or a refusal. Nothing a sensor sends costs another one.

Whose message it is, its topic alone tells: the broker lets a sensor publish below its own topics only. Of a sensor that
sends too much, no payload is looked at.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from fededge.device.relay.items import Item, Labeling, Reading, Refusal
from fededge.device.relay.payload import Reason, Refused
from fededge.device.relay.schema import label_of, schema_of, vector
from fededge.device.relay.settings import Group, Quota
from fededge.device.relay.topics import LEVEL, Topic

CORRELATION_BYTES = 256


@dataclass(frozen=True)
class Message:
    """One as the broker sent it.

    Attributes:
        retained: whether it lay there, from whenever; `again`: whether it may have been sent before.
        response_topic, correlation: of a request of MQTT 5.
    """

    topic: str
    payload: bytes
    retained: bool = False
    again: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True)
class Request:
    """A sensor asks for an answer to a reading.

    Attributes:
        value: the reading's features; None where it could not be read, for a `reason`.
        topic: on which it is answered.
    """

    group: str
    sensor: str
    value: bytes | None
    reason: Reason | None
    topic: str
    correlation: bytes | None


class _Bucket:
    """Tokens that a sensor pays with (token bucket)."""

    def __init__(self, quota: Quota, now: float) -> None:
        self._quota, self._tokens, self._at = quota, float(quota.burst), now

    def pays(self, now: float) -> bool:
        grown = self._tokens + (now - self._at) * self._quota.per_second
        self._tokens, self._at = min(grown, self._quota.burst), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Intake:
    """Reads messages for groups of sensors.

    Args:
        groups: of the relay's file.
        known: group and id of sensors that were heard of before.
        now: seconds by a clock that nobody sets.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        known: Iterable[tuple[str, str]] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._groups = {group.name: group for group in groups}
        self._labels = {group.name: schema_of(group).label for group in self._groups.values()}
        self._places = [
            (what, topic, group) for group in self._groups.values() for what, topic in group.topics.items()
        ]
        self._known = set(known)
        self._counts = Counter(group for group, _ in self._known)
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, message: Message) -> Item | Request:
        """What `message` is."""
        for what, topic, group in self._places:
            sensor = topic.sensor(message.topic)
            if sensor is None:
                continue
            if not any(fnmatchcase(sensor, pattern) for pattern in group.sensors):
                return Refusal(group.name, "", Reason.unknown)
            if not self._admitted(group, sensor):
                return Refusal(group.name, "", Reason.crowded)
            try:
                return self._read(what, topic, group, sensor, message)
            except Refused as refused:
                return Refusal(group.name, sensor, refused.reason)
        return Refusal("", "", Reason.unknown)

    def _admitted(self, group: Group, sensor: str) -> bool:
        key = group.name, sensor
        if key not in self._known:
            if self._counts[group.name] >= group.most_sensors:
                return False
            self._known.add(key)
            self._counts[group.name] += 1
        return True

    def _read(
        self,
        what: Literal["reading", "label", "request"],
        topic: Topic,
        group: Group,
        sensor: str,
        message: Message,
    ) -> Item | Request:
        now = self._now()
        bucket = self._buckets.setdefault((group.name, sensor), _Bucket(group.quota, now))
        if not bucket.pays(now):
            raise Refused(Reason.fast)
        if message.retained:
            raise Refused(Reason.retained)
        if len(message.payload) > group.quota.bytes:
            raise Refused(Reason.large)
        if what == "request":
            return self._request(topic, group, sensor, message)
        return (
            self._reading(group, sensor, message)
            if what == "reading"
            else self._label(group, sensor, message)
        )

    def _reading(self, group: Group, sensor: str, message: Message) -> Reading:
        rule, stamp = group.label, group.reading
        own = rule if rule and rule.payload is None else None
        wanted = {field.name for field in group.features} | {stamp.id, stamp.time, own and own.field}
        values = group.payload.read(message.payload, {name for name in wanted if name})
        label = label_of(own, self._labels[group.name], values) if own else None if rule else 0.0
        id, time = values[stamp.id], values[stamp.time] if stamp.time else None
        assert isinstance(id, int)
        assert not isinstance(time, list)
        return Reading(group.name, sensor, id, time, vector(group, values), label, message.again)

    def _label(self, group: Group, sensor: str, message: Message) -> Labeling:
        rule = group.label
        assert rule
        assert rule.payload
        assert rule.within
        wanted = {rule.id, rule.field} | ({rule.time} if rule.time else set())
        values = rule.payload.read(message.payload, wanted)
        value = label_of(rule, self._labels[group.name], values)
        id, time = values[rule.id], values[rule.time] if rule.time else None
        assert isinstance(id, int)
        assert not isinstance(time, list)
        return Labeling(group.name, sensor, id, time, value, rule.within, message.again)

    def _request(self, topic: Topic, group: Group, sensor: str, message: Message) -> Request:
        assert group.inference
        answer = message.response_topic
        if answer is None:
            answer = Topic.of(group.inference.answer).named(sensor)
        elif not self._is_own(answer, topic.tree(sensor)):
            raise Refused(Reason.foreign)
        correlation = message.correlation
        if correlation is not None and len(correlation) > CORRELATION_BYTES:
            raise Refused(Reason.large)
        value, reason = None, None
        try:
            values = group.payload.read(message.payload, {field.name for field in group.features})
            value = vector(group, values)
        except Refused as refused:
            reason = refused.reason
        return Request(group.name, sensor, value, reason, answer, correlation)

    def _is_own(self, answer: str, tree: str) -> bool:
        """Whether `answer` is a topic below the sensor's own, and none that the relay listens to."""
        return (
            answer.startswith(tree)
            and all(LEVEL.fullmatch(level) for level in answer.removeprefix(tree).split("/"))
            and not any(topic.sensor(answer) for _, topic, _ in self._places)
        )
