"""The records of a run as the report reads them: typed, partial and never trusted.

A run that failed early has few records, and a device or a client may have sent anything. So every
field is optional, and a record of another shape is named on the page instead of ending the report.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fededge import settings, storage
from fededge.errors import StorageError

DEVICE_REPORT_LIMIT = 64 << 10
"""Bytes accepted of one device's report."""

_EVER = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


def _in_utc(value: datetime) -> datetime:
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Record(BaseModel):
    """Part of a record: unknown keys are passed over, missing ones are None or empty."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)


class Round(Record):
    """One committed round; `loss` and `accuracy` are the cohort's training metrics."""

    round: int
    cohort: list[str] = []
    reported: list[str] = []
    failed: dict[str, str] = {}
    seconds: float | None = None
    examples: int | None = None
    loss: float | None = None
    accuracy: float | None = None


class ClassScore(Record):
    """Scores of one class on held-out examples."""

    label: str
    examples: int | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


class ClientScore(Record):
    """Scores of the global model on one client's own held-out examples."""

    id: str
    accuracy: float | None = None
    loss: float | None = None
    examples: int | None = None


class Pass(Record):
    """Scores on held-out data after one pass of centralized training."""

    round: int
    accuracy: float | None = None
    loss: float | None = None


class Evaluation(Record):
    """A model on held-out data; `confusion` counts [true label][predicted label].

    A centralized one may hold the scores after each pass, which takes as many samples as a round.
    """

    round: int | None = None
    accuracy: float | None = None
    loss: float | None = None
    examples: int | None = None
    samples: int | None = None
    per_class: list[ClassScore] = []
    confusion: list[list[int]] = []
    clients: list[ClientScore] = []
    passes: list[Pass] = []


class ClientData(Record):
    """How much one client holds; `labels` counts its training examples per class."""

    id: str
    train: int | None = None
    test: int | None = None
    labels: list[int] = []


class Data(Record):
    """The population."""

    clients: list[ClientData] = []
    classes: int | None = None
    examples: int | None = None
    digest: str | None = None


class Champion(Record):
    """The champion that a new model is held against."""

    version: str | None = None
    accuracy: float | None = None


class Gate(Record):
    """The verdict on a model, the accuracies compared, and the reasons against it."""

    decision: str
    reasons: list[str] = []
    accuracy: float | None = None
    centralized: float | None = None
    champion: Champion | None = None

    @property
    def open(self) -> bool:
        """Whether the model may be shipped."""
        return self.decision == "pass"


class Measurement(Record):
    """A variant and what it was measured at; latencies in ms for 1 and for 500 examples."""

    kind: str
    bytes: int | None = None
    compressed_bytes: int | None = None
    accuracy: float | None = None
    accuracy_loss: float | None = None
    latency_ms_1: float | None = None
    latency_ms_500: float | None = None
    digest: str | None = None
    passed: bool | None = None
    reasons: list[str] = []


class PublishedVariant(Record):
    """A variant that a model version ships."""

    kind: str
    url: str | None = None
    digest: str | None = None


class Version(Record):
    """The registered model version; `devices` names the variant kind of each device class."""

    name: str | None = None
    version: str | None = None
    task_digest: str | None = None
    state_digest: str | None = None
    round: int | None = None
    git_commit: str | None = None
    champion: bool | None = None
    accuracy: float | None = None
    variants: list[PublishedVariant] = []
    devices: dict[str, str] = {}


class Endpoint(Record):
    """The inference endpoint that serves a variant."""

    name: str | None = None
    namespace: str | None = None
    rest: str | None = None
    grpc: str | None = None
    variant: str | None = None
    digest: str | None = None
    version: str | None = None


class Device(Record):
    """What one device says it runs; accuracy on its own samples, latency in ms for one."""

    device: str
    device_class: str | None = Field(None, alias="class")
    version: str | None = None
    kind: str | None = None
    digest: str | None = None
    status: str | None = None
    error: str | None = None
    accuracy: float | None = None
    latency_ms: float | None = None
    at: Moment | None = None


class Step(Record):
    """One step of the pipeline."""

    step: str
    started: Moment | None = None
    seconds: float | None = None
    status: str | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the step ended with an error."""
        return self.status == "failed"


class Ending(Record):
    """How the pipeline ended: SUCCEEDED, FAILED or CANCELLED, and the platform's message."""

    state: str
    error: str | None = None


class Facts(Record):
    """Everything that a run left behind, as far as it got."""

    data: Data | None = None
    rounds: list[Round] = []
    evaluations: list[Evaluation] = []
    centralized: Evaluation | None = None
    gate: Gate | None = None
    variants: list[Measurement] = []
    version: Version | None = None
    endpoint: Endpoint | None = None
    endpoint_check: dict[str, Any] = {}
    devices: list[Device] = []
    steps: list[Step] = []
    ending: Ending | None = None
    unreadable: list[str] = []


def read(records: Mapping[str, Any], devices: Mapping[str, bytes] | None = None) -> Facts:
    """The facts in `records`.

    Args:
        records: content of each record by its name, as `TrackedRun.records` returns it.
        devices: JSON report of each device by the name of its blob. A device counts with its latest
            report, be it here or in the record `devices`.
    """
    unreadable: list[str] = []

    def typed(kind: Any, name: str, content: Any) -> Any:
        try:
            return TypeAdapter(kind).validate_python(content)
        except ValidationError:
            unreadable.append(name)
            return None

    def one(kind: Any, name: str) -> Any:
        return typed(kind, name, records[name]) if name in records else None

    def each(kind: Any, prefix: str) -> list[Any]:
        found = (typed(kind, name, records[name]) for name in sorted(records) if name.startswith(prefix))
        return [content for content in found if content is not None]

    rounds = {record.round: record for batch in each(list[Round], "rounds-") for record in batch}
    known = one(list[Device], "devices") or []
    for name, blob in sorted((devices or {}).items()):
        try:
            device = Device.model_validate_json(blob)
        except ValidationError:
            device = None
        if device and name == f"{device.device}.json":
            known.append(device)
        else:
            unreadable.append(f"devices/{name}")
    latest = {device.device: device for device in sorted(known, key=lambda found: found.at or _EVER)}
    steps = each(Step, "steps/")
    evaluations = each(Evaluation, "evaluation-")
    return Facts.model_construct(
        data=one(Data, "data"),
        rounds=[rounds[number] for number in sorted(rounds)],
        evaluations=sorted(evaluations, key=lambda found: found.round or 0),
        centralized=one(Evaluation, "centralized"),
        gate=one(Gate, "gate"),
        variants=each(Measurement, "variant-"),
        version=one(Version, "version"),
        endpoint=one(Endpoint, "endpoint"),
        endpoint_check=one(dict[str, Any], "endpoint_check") or {},
        devices=list(latest.values()),
        steps=sorted(steps, key=lambda step: (step.started or _NEVER, step.step)),
        ending=one(Ending, "ending"),
        unreadable=unreadable,
    )


def device_reports(task_name: str) -> dict[str, bytes]:
    """What the devices of a task last reported, by blob name.

    An unreadable blob is empty, not raised; so is the one blob `*` of a folder that cannot be listed.
    """
    folder = storage.join(settings.storage(), "fleet", task_name, "devices")
    found = {}
    try:
        names = storage.names(folder)
    except StorageError:
        return {"*": b""}
    for name in names:
        try:
            found[name] = storage.read(storage.join(folder, name), DEVICE_REPORT_LIMIT)
        except StorageError:
            found[name] = b""
    return found
