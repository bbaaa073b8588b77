"""The records of a run, read as documents. One that cannot be read is named with the reason, never raised.

A report shows what there is: a run that failed early has few records, and one of version 0.1 of FedEdge
has records without a format.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from fededge import settings
from fededge.documents import (
    Alone,
    DeviceReport,
    DeviceReports,
    Document,
    Ending,
    Endpoint,
    EndpointCheck,
    Evaluation,
    GateDecision,
    Measurement,
    ModelVersion,
    Population,
    Release,
    RoundRecord,
    Rounds,
    StepRecord,
    read_reports,
)
from fededge.errors import DocumentError, StorageError

KINDS: dict[str, type[Document]] = {
    "data": Population,
    "centralized": Evaluation,
    "alone": Alone,
    "gate": GateDecision,
    "version": ModelVersion,
    "endpoint": Endpoint,
    "endpoint_check": EndpointCheck,
    "release": Release,
    "devices": DeviceReports,
    "ending": Ending,
}
PREFIXES: dict[str, type[Document]] = {
    "rounds-": Rounds,
    "evaluation-": Evaluation,
    "variant-": Measurement,
    "steps/": StepRecord,
}
RENAMED = {"centralised": "centralized"}
"""Names of records in version 0.1 of FedEdge that are others now."""

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class Facts:
    """Everything that a run left behind, as far as it got.

    Attributes:
        population: the clients and their counts.
        rounds: in order; a round that two steps recorded counts once, as the later step recorded it.
        evaluations: of the global model, by round.
        centralized: the comparison with centralized training, where the task asks for it.
        alone: what each client reached without the others, where the task asks for it.
        gate: the decision on the trained model.
        variants: what each variant was measured at.
        version: the model version that this run registered.
        endpoint: what was deployed, which may be another version; `release` likewise.
        endpoint_check: how the endpoint answered.
        devices: the last report of each device.
        steps: in the order in which they started.
        ending: how the pipeline ended.
        unreadable: why, by name, records and device reports could not be read.
    """

    population: Population | None = None
    rounds: list[RoundRecord] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    centralized: Evaluation | None = None
    alone: Alone | None = None
    gate: GateDecision | None = None
    variants: list[Measurement] = field(default_factory=list)
    version: ModelVersion | None = None
    endpoint: Endpoint | None = None
    endpoint_check: EndpointCheck | None = None
    release: Release | None = None
    devices: list[DeviceReport] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    ending: Ending | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each, by the name of the attribute; what could not be read does not count."""
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "unreadable"}
        return {name: len(v) if isinstance(v, list) else int(v is not None) for name, v in found.items()}


def read(
    records: Mapping[str, Any],
    devices: Sequence[DeviceReport] = (),
    unreadable: Mapping[str, str] | None = None,
) -> Facts:
    """The facts in `records`.

    Args:
        records: parsed JSON of each record by its name, as `TrackedRun.records` returns it.
        devices: what devices reported last. A device counts with its latest report, be it here or in the
            record `devices`.
        unreadable: why, by name, other device reports could not be read.
    """
    found: dict[str, Document] = {}
    refused: dict[str, str] = {}
    for written, content in sorted(records.items()):
        name = RENAMED.get(written, written)
        kind = KINDS.get(name) or next((k for prefix, k in PREFIXES.items() if name.startswith(prefix)), None)
        if kind is None:
            continue
        if content is None:
            refused[name] = "it is not JSON, or cut short"
            continue
        if kind is Release and isinstance(content, dict):  # the id of the key that signed it may stand in it
            content = {key: value for key, value in content.items() if key != "key"}
        try:
            found[name] = kind.from_content(content, "it", unversioned=True)
        except DocumentError as error:
            refused[name] = str(error)

    def each(kind: type[D], prefix: str = "") -> list[D]:
        return [d for name, d in found.items() if isinstance(d, kind) and name.startswith(prefix)]

    def one(kind: type[D], name: str = "") -> D | None:
        return next(iter(each(kind, name)), None)

    rounds = {record.round: record for batch in each(Rounds) for record in batch.rounds}
    recorded = one(DeviceReports)
    known = [*(recorded.devices if recorded else []), *devices]
    latest = {report.device: report for report in sorted(known, key=lambda report: report.at)}
    return Facts(
        population=one(Population),
        rounds=[rounds[number] for number in sorted(rounds)],
        evaluations=sorted(each(Evaluation, "evaluation-"), key=lambda evaluation: evaluation.round),
        centralized=one(Evaluation, "centralized"),
        alone=one(Alone),
        gate=one(GateDecision),
        variants=each(Measurement),
        version=one(ModelVersion),
        endpoint=one(Endpoint),
        endpoint_check=one(EndpointCheck),
        release=one(Release),
        devices=list(latest.values()),
        steps=sorted(each(StepRecord), key=lambda step: (step.started, step.step)),
        ending=one(Ending),
        unreadable=refused | dict(unreadable or {}),
    )


def device_reports(task_name: str) -> tuple[list[DeviceReport], dict[str, str]]:
    """What the devices of a task last reported; and why, by name, other reports could not be read."""
    try:
        reports, refused = read_reports(settings.storage(), task_name)
    except StorageError as error:
        return [], {"devices/*": str(error)}
    return reports, {f"devices/{name}": reason for name, reason in refused.items()}
