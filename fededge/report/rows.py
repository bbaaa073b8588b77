"""Rows of the report's tables: clients, devices and steps."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fededge.documents import DeviceReport, Evaluation, RoundRecord, VariantFile
from fededge.report.formatting import NONE, ranges
from fededge.report.records import Facts

Severity = Literal["good", "warn", "bad", "plain"]
Participation = Literal["reported", "failed", "not needed", "not selected"]

MAX_ROUNDS = 60
"""Rounds up to which a client's part in each single round is shown."""
MESSAGE_LIMIT = 4_000
"""Characters shown of an error message."""


@dataclass(frozen=True)
class ClientRow:
    """A client: its data, its scores and its part in the rounds.

    Attributes:
        train: training examples; `test`: held-out ones.
        score: of the global model on its held-out examples; `loss` likewise.
        selected: rounds it was selected for, and needed; `reported`: those in which its update arrived.
        rounds: number, part and reason for each round; empty when there are too many to show.
    """

    id: str
    train: int | None
    test: int | None
    score: float | None
    loss: float | None
    selected: int
    reported: int
    rounds: list[tuple[int, Participation, str]]

    @property
    def failed(self) -> int:
        """Rounds it was selected for and did not report in."""
        return self.selected - self.reported

    @property
    def in_words(self) -> str:
        """Its part in each round: `reported in 1–4, 6; failed in 5`."""
        parts: dict[str, list[int]] = {}
        for number, part, _ in self.rounds:
            parts.setdefault(part, []).append(number)
        return "; ".join(f"{part} in {ranges(numbers)}" for part, numbers in parts.items())


@dataclass(frozen=True)
class DeviceRow:
    """A device and whether it runs what was released for its class."""

    device: str
    device_class: str
    kind: str
    version: str
    digest: str
    status: str
    severity: Severity
    metric: str
    score: float | None
    latency_ms: float | None
    error: str | None
    at: float


@dataclass(frozen=True)
class StepRow:
    """A step's place in time: start and length in seconds, and as shares of the whole run."""

    step: str
    seconds: float
    failed: bool
    reused: str | None
    after: float
    start: float
    share: float


def client_rows(facts: Facts, evaluation: Evaluation | None) -> list[ClientRow]:
    """Every client that holds data, was scored or was selected, by natural order of its id."""
    held = {client.id: client for client in (facts.population.clients if facts.population else [])}
    scored = {client.id: client for client in (evaluation.clients if evaluation else [])}
    selected = Counter(
        name
        for record in facts.rounds
        for name in {*record.cohort, *record.reported}.difference(record.spare)
    )
    reported = Counter(name for record in facts.rounds for name in set(record.reported))
    shown = facts.rounds if len(facts.rounds) <= MAX_ROUNDS else []
    rows = []
    asked = {name for record in facts.rounds for name in record.cohort}
    for name in sorted(held.keys() | scored.keys() | selected.keys() | asked, key=natural_order):
        data, score = held.get(name), scored.get(name)
        rows.append(
            ClientRow(
                name,
                data.train if data else None,
                score.examples if score else data.test if data else None,
                score.score if score else None,
                score.loss if score else None,
                selected[name],
                reported[name],
                [(record.round, *_participation(record, name)) for record in shown],
            )
        )
    return rows


def device_rows(facts: Facts) -> list[DeviceRow]:
    """What each device runs, compared with what was released for its class."""
    released, variants = _released(facts)
    rows = []
    for device in sorted(facts.devices, key=lambda device: natural_order(device.device)):
        status, severity = _status(device, released, variants)
        rows.append(
            DeviceRow(
                device.device,
                device.device_class,
                device.kind or NONE,
                str(device.version or NONE),
                device.digest or "",
                status,
                severity,
                device.metric,
                device.score,
                device.latency_ms,
                shortened(device.error),
                device.at,
            )
        )
    return rows


def step_rows(facts: Facts, seconds: float | None) -> list[StepRow]:
    """Steps in order of their start, placed in the run's `seconds`."""
    whole = seconds or 1.0
    rows = []
    for step in facts.steps:
        after = (step.started - facts.steps[0].started).total_seconds()
        place = (after, after / whole, step.seconds / whole)
        rows.append(StepRow(step.step, step.seconds, step.failed, step.reused, *place))
    return rows


def natural_order(name: str) -> tuple[Any, ...]:
    """Sort key by which site-2 comes before site-10."""
    parts = enumerate(re.split("([0-9]+)", name))
    return tuple((len(part), part) if index % 2 else part for index, part in parts)


def shortened(text: str | None) -> str | None:
    """`text`, at most MESSAGE_LIMIT characters of it."""
    if text is None or len(text) <= MESSAGE_LIMIT:
        return text
    return f"{text[:MESSAGE_LIMIT]} … ({len(text) - MESSAGE_LIMIT:,} more characters)"


def _participation(record: RoundRecord, name: str) -> tuple[Participation, str]:
    if name in record.reported:
        return "reported", "reported"
    if name in record.spare:
        return "not needed", "enough others had reported"
    if name in record.failed or name in record.cohort:
        return "failed", record.failed.get(name, "no report")
    return "not selected", "not selected"


def _released(facts: Facts) -> tuple[int | None, Mapping[str, VariantFile]]:
    """Version and variants by device class of the release, else of the version that the run registered."""
    if facts.release:
        return facts.release.version, facts.release.devices
    if facts.version is None:
        return None, {}
    chosen = {name: facts.version.variant(kind) for name, kind in facts.version.devices.items()}
    return facts.version.version, {name: variant for name, variant in chosen.items() if variant}


def _status(
    device: DeviceReport, released: int | None, variants: Mapping[str, VariantFile]
) -> tuple[str, Severity]:
    if device.status != "running":
        return device.status, "bad"
    if released is None:
        return "running", "plain"
    if device.version != released:
        return f"runs version {device.version or NONE}, not {released}", "warn"
    variant = variants.get(device.device_class)
    if variant is None:
        return "running; its class has no variant", "warn"
    if device.kind != variant.kind:
        return f"runs {device.kind or NONE}, not {variant.kind}", "warn"
    if device.digest != variant.digest:
        return "other bytes than were released", "bad"
    return "running", "good"
