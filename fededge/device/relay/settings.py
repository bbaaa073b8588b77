"""What a relay's file says: which broker, which sensors, what they send, and what is made of it.

docs/guides/relay.md has an example.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fededge.device.policy_keys import File, Patterns, Positive
from fededge.device.relay.payload import FieldName, Part, Payload, PayloadField
from fededge.device.relay.topics import Topic
from fededge.protocol.fields import Name

PACKET = 1 << 18
"""Bytes of the largest packet that a broker may send."""


def _topic(text: str) -> str:
    Topic.of(text)
    return text


TopicText = Annotated[str, Field(max_length=1000), AfterValidator(_topic)]
Seconds = Annotated[float, Field(gt=0)]


class Broker(Part):
    """Where the sensors' messages come from: MQTT 5.

    Attributes:
        host, port: of the broker.
        plain: without TLS: what is sent can be read and changed on the way.
        ca_file: PEM file of the CAs that prove it; default: the system's.
        certificate_file, key_file: PEM files by which the relay proves itself.
        user, password_file: by which it does so instead, or too.
        client_id: under which the broker keeps messages for the relay while that is away; one relay, one id.
        keepalive: seconds after which silence is asked about.
    """

    host: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    plain: bool = False
    ca_file: File | None = None
    certificate_file: File | None = None
    key_file: File | None = None
    user: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    password_file: File | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    keepalive: Annotated[int, Field(ge=1, le=3600)] = 60

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.plain and (self.ca_file or self.certificate_file):
            raise ValueError(
                "plain is without TLS, which ca_file and certificate_file are for: remove one of them"
            )
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.password_file is not None and self.user is None:
            raise ValueError("password_file goes with user")
        return self


class Stamp(Part):
    """How messages are told apart.

    Attributes:
        id: field, a whole number that grows from one message of a sensor to its next: a sequence number that outlives a
            restart, or a time. It tells repetitions.
        time: field with the time of measurement in seconds; without it, when the message came.
    """

    id: FieldName
    time: FieldName | None = None


class LabelRule(Stamp):
    """What the examples' labels are.

    Attributes:
        field: that holds the label, or what `above` is compared with.
        above: the second of two classes where the field is larger, else the first.
        classes: names of the classes, in their order; without them (and `above`) the label is a number.
        name: of the label; default: the field's.
        topic, payload: where another message tells it later; else the reading itself does.
        within: the later message labels readings of at most so many seconds before it.
    """

    id: FieldName = ""
    field: FieldName
    above: float | None = None
    classes: Annotated[list[str], Field(max_length=10_000)] = []
    name: Annotated[str, Field(max_length=200)] = ""
    topic: TopicText | None = None
    payload: Payload | None = None
    within: Seconds | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        later = {"topic": self.topic, "payload": self.payload, "within": self.within, "id": self.id or None}
        if missing := [name for name, value in later.items() if value is None]:
            if len(missing) < len(later):
                raise ValueError(f"a label that comes later has {', '.join(later)}: {missing[0]} is missing")
            if self.time is not None:
                raise ValueError("time goes with topic: a reading has its own")
        if (self.above is not None and len(self.classes) != 2) or len(self.classes) == 1:
            raise ValueError(
                f"{len(self.classes)} classes: `above` tells two apart, and one alone is nothing to learn"
            )
        return self


class Retention(Part):
    """What of a sensor is kept, at most; the oldest goes first.

    Attributes:
        seconds: since it came, while the relay's machine was on.
        readings: so many.
        bytes: so many, as they are stored.
    """

    seconds: Seconds = 30 * 86_400.0
    readings: Positive = 10_000
    bytes: Positive = 10 << 20


class Quota(Part):
    """What a sensor may send; what is beyond is refused and counted.

    Attributes:
        per_second: messages, on the average.
        burst: messages at once, as after an outage.
        bytes: of a payload.
    """

    per_second: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    bytes: Annotated[int, Field(ge=1, le=PACKET // 2)] = 4096


class DatasetRule(Part):
    """The client folder that is made of the readings.

    Attributes:
        name: of the folder below FOLDER/datasets.
        features: fields, in their order; default: all but id, time and label.
        window: readings of a sensor, one after another, that are an example together.
        step: readings from one window to the next; default: `window`.
        test: share of the examples that are kept for testing.
        most: newest examples that are written.
        new_examples: labeled readings that are reason enough to write it anew.
        every_seconds: after which one is reason enough.
        seconds_between: fewest seconds from one writing to the next.
    """

    name: Name
    features: Annotated[list[FieldName], Field(max_length=1000)] = []
    window: Annotated[int, Field(ge=1, le=10_000)] = 1
    step: Annotated[int, Field(ge=1, le=10_000)] | None = None
    test: Annotated[float, Field(ge=0, lt=1)] = 0.2
    most: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    new_examples: Positive = 100
    every_seconds: Seconds = 3600.0
    seconds_between: Annotated[float, Field(ge=0)] = 600.0


class Inference(Part):
    """How sensors ask for answers.

    Attributes:
        request: topic on which a sensor sends a reading; `answer`: on which it is answered, unless it names another.
        task, device_class, trusted_key: of the releases that answer, as the policy has them that follows them.
        folder: of another agent's releases; default: those that this relay follows itself.
    """

    request: TopicText
    answer: TopicText
    folder: File | None = None
    task: Name
    device_class: Name
    trusted_key: File


class Group(Part):
    """Sensors of one kind.

    Attributes:
        sensors: their ids, or patterns with * and ?; `most_sensors`: of them.
        topic: on which they send readings.
    """

    name: Name
    sensors: Patterns
    most_sensors: Annotated[int, Field(ge=1, le=100_000)] = 1000
    topic: TopicText
    payload: Payload
    reading: Stamp
    label: LabelRule | None = None
    retention: Retention = Retention()
    quota: Quota = Quota()
    dataset: DatasetRule
    inference: Inference | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_stamp(self.payload, self.reading, "reading")
        if self.label:
            told_by = self.label.payload or self.payload
            field = _scalar(told_by, self.label.field, "label.field")
            if self.label.payload:
                _check_stamp(told_by, self.label, "label")
            if self.label.classes and self.label.above is None and not field.whole:
                raise ValueError(f"label.field: {field.name!r} is no whole number, which classes are told by")
            if field.categories and self.label.classes not in ([], field.categories):
                raise ValueError("label.classes: the field's categories are the classes: leave it out")
        for name in self.dataset.features:
            if self.payload.field(name) is None:
                raise ValueError(f"dataset.features: there is no field {name!r} in payload.fields")
        if not self.features:
            raise ValueError("dataset.features: no field of the payload is left")
        if self.dataset.window > 1 and any(field.categories for field in self.features):
            raise ValueError(
                "dataset.window: windows are made of numbers, and there is a field with categories"
            )
        return self

    @property
    def features(self) -> list[PayloadField]:
        """The fields that an example is made of, in their order."""
        if self.dataset.features:
            return [field for name in self.dataset.features if (field := self.payload.field(name))]
        own = {self.reading.id, self.reading.time}
        own |= {self.label.field} if self.label and self.label.payload is None else set()
        return [field for field in self.payload.fields if field.name not in own]

    @property
    def filters(self) -> set[str]:
        """What is subscribed to: where all sensors are named, their topics alone."""
        if any(set(sensor) & set("*?[") for sensor in self.sensors):
            return {topic.filter for topic in self.topics.values()}
        return {topic.named(sensor) for sensor in self.sensors for topic in self.topics.values()}

    @property
    def topics(self) -> dict[Literal["reading", "label", "request"], Topic]:
        """Those that the relay listens to, by what comes on them."""
        texts: dict[Any, str | None] = {"reading": self.topic}
        texts["label"] = self.label.topic if self.label else None
        texts["request"] = self.inference.request if self.inference else None
        return {what: Topic.of(text) for what, text in texts.items() if text}


def _check_stamp(payload: Payload, stamp: Stamp, key: str) -> None:
    field = _scalar(payload, stamp.id, f"{key}.id")
    if not field.whole or field.type == "bool" or field.categories:
        raise ValueError(f"{key}.id: {stamp.id!r} is no whole number")
    if stamp.time is not None:
        _scalar(payload, stamp.time, f"{key}.time")


def _scalar(payload: Payload, name: str, key: str) -> PayloadField:
    """The field `name`, of which `key` speaks.

    Raises:
        ValueError: there is none, or it is a row.
    """
    field = payload.field(name)
    if field is None:
        raise ValueError(f"{key}: there is no field {name!r} in its payload.fields")
    if field.shape:
        raise ValueError(f"{key}: {name!r} is many numbers, where one is needed")
    return field
