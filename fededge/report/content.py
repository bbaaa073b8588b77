"""What the report says about a run: the outcome, its figures and the rows of its tables.

Page and terminal summary both show a `Report`; neither reads a record of its own.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import yaml

from fededge.report.records import Evaluation, Facts, Measurement, Step
from fededge.report.rows import (
    ClientRow,
    DeviceRow,
    Mood,
    StepRow,
    client_rows,
    cut,
    device_rows,
    step_rows,
)
from fededge.task import FederatedTask


@dataclass(frozen=True)
class Outcome:
    """How the run ended, in one phrase; `detail` is the first failed step's error."""

    title: str
    mood: Mood
    text: str
    step: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Highlight:
    """One figure at the top of the page."""

    label: str
    value: str
    note: str = ""
    mood: Mood = "plain"


@dataclass(frozen=True)
class Report:
    """A run, ready to be shown.

    Attributes:
        task: what was to be learned.
        run: the pipeline run's id.
        tracking: link to the MLflow run, or words where there is no link.
        facts: the records, as far as the run got.
        written: when the report was written.
    """

    task: FederatedTask
    run: str
    tracking: str
    facts: Facts
    written: datetime

    @property
    def evaluation(self) -> Evaluation | None:
        """The last evaluation of the global model."""
        return self.facts.evaluations[-1] if self.facts.evaluations else None

    @property
    def gap(self) -> float | None:
        """Centralized accuracy minus federated accuracy."""
        final, centralized = self.evaluation, self.facts.centralized
        return _less(centralized.accuracy if centralized else None, final.accuracy if final else None)

    @property
    def task_yaml(self) -> str:
        """The whole task, defaults included, as YAML."""
        content = self.task.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)

    @property
    def conditions(self) -> list[tuple[str, float | None, float, bool]]:
        """What the gate asked: condition, value reached, its limit, whether limit is a lower bound."""
        gate, asked = self.facts.gate, self.task.gate
        if gate is None:
            return []
        rows = [
            ("Accuracy", gate.accuracy, asked.min_accuracy, True),
            (
                "Behind centralized training",
                _less(gate.centralized, gate.accuracy),
                asked.max_gap_to_centralized,
                False,
            ),
        ]
        if gate.champion:
            lost = _less(gate.champion.accuracy, gate.accuracy)
            name = f"Behind the champion, version {gate.champion.version}"
            rows.append((name, lost, asked.max_loss_against_champion, False))
        return rows

    @cached_property
    def outcome(self) -> Outcome:
        """How the run ended, from the platform's word and the steps' records."""
        facts = self.facts
        state = facts.ending.state.upper() if facts.ending else ""
        broken = next((step for step in facts.steps if step.failed), None)
        if state in ("CANCELED", "CANCELLED"):
            return Outcome("Canceled", "warn", "The run was canceled before it finished.")
        if state == "FAILED" or (broken and state != "SUCCEEDED"):
            return self._failure(broken)
        if facts.gate and not facts.gate.open:
            return Outcome(
                "Not shipped",
                "warn",
                "The run finished; the model did not pass its gate and was not shipped.",
            )
        if facts.version:
            rank = "champion" if facts.version.champion else "candidate"
            return Outcome(
                "Delivered",
                "good",
                f"Version {facts.version.version} is registered as {rank}; "
                f"{len(facts.version.variants)} variants are published.",
            )
        if state == "SUCCEEDED":
            return Outcome("Finished", "good", "Every step succeeded; no model version was registered.")
        return Outcome("Under way", "plain", "The run has not ended yet; these are its records so far.")

    def _failure(self, broken: Step | None) -> Outcome:
        source = broken or self.facts.ending
        said = source.error if source else None
        last = next((step.step for step in reversed(self.facts.steps)), None)
        if broken:
            text = f"Step {broken.step} failed."
        elif last:
            text = f"The run failed outside its recorded steps; the last of them was {last}."
        else:
            text = "The run failed before any step was recorded."
        return Outcome("Failed", "bad", text, broken.step if broken else None, cut(said))

    @cached_property
    def clients(self) -> list[ClientRow]:
        """Every client that holds data, was scored or took part."""
        return client_rows(self.facts, self.evaluation)

    @cached_property
    def variants(self) -> list[Measurement]:
        """The variants in the order of the task."""
        order = [variant.kind for variant in self.task.variants]
        return sorted(
            self.facts.variants,
            key=lambda found: (order.index(found.kind) if found.kind in order else len(order), found.kind),
        )

    def limits(self, kind: str) -> str:
        """What the task asks of a variant, in words."""
        for variant in self.task.variants:
            if variant.kind == kind:
                most = f", {variant.max_bytes:,} bytes" if variant.max_bytes else ""
                return f"at most {variant.max_accuracy_loss * 100:g} pp lost{most}"
        return "not in the task"

    @cached_property
    def devices(self) -> list[DeviceRow]:
        """What each device runs, held against the registered version."""
        return device_rows(self.facts)

    @property
    def checks(self) -> list[tuple[str, object]]:
        """Name and value of what the endpoint's check found, parts of parts by both their names."""
        rows: list[tuple[str, object]] = []
        for name, value in self.facts.endpoint_check.items():
            for inner, content in value.items() if isinstance(value, dict) else [("", value)]:
                rows.append((f"{name} {inner}".strip().replace("_", " "), content))
        return rows

    @cached_property
    def seconds(self) -> float | None:
        """Seconds from the start of the first step to the end of the last."""
        timed = [step for step in self.facts.steps if step.started and step.seconds is not None]
        if not timed:
            return None
        first = min(step.started.timestamp() for step in timed if step.started)
        last = max(step.started.timestamp() + (step.seconds or 0) for step in timed if step.started)
        return last - first

    @cached_property
    def steps(self) -> list[StepRow]:
        """The steps and their place in time."""
        return step_rows(self.facts, self.seconds)

    @cached_property
    def lineage(self) -> list[tuple[str, str]]:
        """Name and value of what ties the shipped bytes to code, task and data."""
        version, data = self.facts.version, self.facts.data
        rows: list[tuple[str, str | None]] = [
            ("Task digest", self.task.digest),
            ("Data digest", data.digest if data else None),
            ("Weights digest", version.state_digest if version else None),
            ("Code (git commit)", version.git_commit if version else None),
        ]
        for variant in version.variants if version else []:
            rows.append((f"Variant {variant.kind}", variant.digest))
            rows.append((f"Variant {variant.kind} at", variant.url))
        return [(name, value) for name, value in rows if value]


def report_of(task: FederatedTask, run: str, tracking: str, facts: Facts) -> Report:
    """The report of a run as of now."""
    return Report(task, run, tracking, facts, datetime.now(UTC).replace(microsecond=0))


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
