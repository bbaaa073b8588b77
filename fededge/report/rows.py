"""Rows of the report's tables: clients, devices and steps."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fededge.report.records import Device, Evaluation, Facts, Round, Version

Mood = Literal["good", "warn", "bad", "plain"]
Part = Literal["reported", "failed", "away"]

MOST_ROUNDS = 60
"""Rounds up to which a client's part in each single round is shown."""
MESSAGE_LIMIT = 4_000
"""Characters shown of an error message."""


@dataclass(frozen=True)
class ClientRow:
    """A client: its data, its scores and its part in the rounds.

    Attributes:
        train: training examples; `test`: held-out ones.
        accuracy: of the global model on its held-out examples; `loss` likewise.
        selected: rounds it was selected for; `reported`: those in which its update arrived.
        rounds: number, part and reason for each round; empty when there are too many to show.
    """

    id: str
    train: int | None
    test: int | None
    accuracy: float | None
    loss: float | None
    selected: int
    reported: int
    rounds: list[tuple[int, Part, str]]

    @property
    def failed(self) -> int:
        """Rounds it was selected for and did not report in."""
        return self.selected - self.reported


@dataclass(frozen=True)
class DeviceRow:
    """A device and whether it runs what was released for its class."""

    device: str
    device_class: str
    kind: str
    version: str
    digest: str
    verdict: str
    mood: Mood
    accuracy: float | None
    latency_ms: float | None
    error: str | None
    at: datetime | None


@dataclass(frozen=True)
class StepRow:
    """A step's place in time: start and length as shares of the whole run."""

    step: str
    seconds: float | None
    failed: bool
    start: float
    share: float


def client_rows(facts: Facts, evaluation: Evaluation | None) -> list[ClientRow]:
    """Every client that holds data, was scored or was selected, by natural order of its id."""
    held = {client.id: client for client in (facts.data.clients if facts.data else [])}
    scored = {client.id: client for client in (evaluation.clients if evaluation else [])}
    selected = Counter(name for record in facts.rounds for name in {*record.cohort, *record.reported})
    reported = Counter(name for record in facts.rounds for name in set(record.reported))
    shown = facts.rounds if len(facts.rounds) <= MOST_ROUNDS else []
    rows = []
    for name in sorted(held.keys() | scored.keys() | selected.keys(), key=natural):
        data, score = held.get(name), scored.get(name)
        rows.append(
            ClientRow(
                name,
                data.train if data else None,
                score.examples if score else data.test if data else None,
                score.accuracy if score else None,
                score.loss if score else None,
                selected[name],
                reported[name],
                [(record.round, *_part(record, name)) for record in shown],
            )
        )
    return rows


def device_rows(facts: Facts) -> list[DeviceRow]:
    """What each device runs, held against the registered version."""
    rows = []
    for device in sorted(facts.devices, key=lambda found: natural(found.device)):
        verdict, mood = _verdict(device, facts.version)
        rows.append(
            DeviceRow(
                device.device,
                device.device_class or "–",
                device.kind or "–",
                device.version or "–",
                device.digest or "",
                verdict,
                mood,
                device.accuracy,
                device.latency_ms,
                cut(device.error),
                device.at,
            )
        )
    return rows


def step_rows(facts: Facts, seconds: float | None) -> list[StepRow]:
    """Steps in order of their start, placed in the run's `seconds`; one without a time stands first."""
    first = min((step.started for step in facts.steps if step.started), default=None)
    whole = seconds or 1.0
    rows = []
    for step in facts.steps:
        after = (step.started - first).total_seconds() if step.started and first else 0.0
        share = (step.seconds or 0.0) / whole
        rows.append(StepRow(step.step, step.seconds, step.failed, after / whole, share))
    return rows


def natural(name: str) -> tuple[Any, ...]:
    """Sort key by which site-2 comes before site-10."""
    parts = enumerate(re.split("([0-9]+)", name))
    return tuple((len(part), part) if index % 2 else part for index, part in parts)


def cut(text: str | None) -> str | None:
    """`text`, at most MESSAGE_LIMIT characters of it."""
    if text is None or len(text) <= MESSAGE_LIMIT:
        return text
    return f"{text[:MESSAGE_LIMIT]} … ({len(text) - MESSAGE_LIMIT:,} more characters)"


def _part(record: Round, name: str) -> tuple[Part, str]:
    if name in record.reported:
        return "reported", "reported"
    if name in record.failed or name in record.cohort:
        return "failed", record.failed.get(name, "no report")
    return "away", "not selected"


def _verdict(device: Device, version: Version | None) -> tuple[str, Mood]:
    if device.status != "running":
        return device.status or "no status", "bad"
    if version is None:
        return "running", "plain"
    if device.version != version.version:
        return f"runs version {device.version or '–'}, not {version.version}", "warn"
    expected = version.devices.get(device.device_class or "")
    if expected is None:
        return "running; its class has no variant", "warn"
    if device.kind != expected:
        return f"runs {device.kind or '–'}, not {expected}", "warn"
    if device.digest not in [found.digest for found in version.variants if found.kind == expected]:
        return "other bytes than were released", "bad"
    return "running", "good"
