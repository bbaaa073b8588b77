"""What the report says about a run: the outcome and the rows of its tables.

Page and terminal summary both show a `Report`; neither reads a record of its own.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import yaml

from fededge.documents import Evaluation, GateDecision, Measurement, StepRecord
from fededge.documents.base import ACCURACY
from fededge.metrics import METRIC
from fededge.report.conditions import Condition, conditions
from fededge.report.formatting import PERCENTAGES
from fededge.report.records import Facts
from fededge.report.rows import (
    ClientRow,
    DeviceRow,
    Severity,
    StepRow,
    client_rows,
    device_rows,
    shortened,
    step_rows,
)
from fededge.task import FederatedTask


@dataclass(frozen=True)
class RunOutcome:
    """How the run ended, in one phrase; `detail` is the first failed step's error."""

    title: str
    severity: Severity
    text: str
    step: str | None = None
    detail: str | None = None


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
    def metric(self) -> str:
        """In which scores are: the metric of the label's kind."""
        facts = self.facts
        for found in (self.evaluation, facts.centralized, facts.gate, *facts.variants, *facts.devices):
            if found:
                return found.metric
        return METRIC[facts.population.example.label.kind] if facts.population else ACCURACY

    @property
    def gap(self) -> float | None:
        """Centralized score minus federated score; None without one of them."""
        federated, centralized = self.evaluation, self.facts.centralized
        return centralized.score - federated.score if federated and centralized else None

    def class_name(self, index: int) -> str:
        """Name of the class with this number; the number itself where the data names none."""
        names = self.facts.population.example.label.names if self.facts.population else []
        return names[index] if index < len(names) else str(index)

    @property
    def task_yaml(self) -> str:
        """The whole task, defaults included, as YAML."""
        content = self.task.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)

    @property
    def conditions(self) -> list[Condition]:
        """What the gate asked of the model, and what it reached."""
        return conditions(self.facts.gate, self.task.gate)

    @property
    def unit(self) -> str:
        """Of the numbers that are predicted; "" for none."""
        return self.facts.population.example.label.unit if self.facts.population else ""

    @cached_property
    def outcome(self) -> RunOutcome:
        """How the run ended, from the platform's state and the steps' records."""
        facts = self.facts
        state = facts.ending.state if facts.ending else ""
        failed = next((step for step in facts.steps if step.failed), None)
        if state == "CANCELED":
            return RunOutcome("Canceled", "warn", "The run was canceled before it finished.")
        if state == "FAILED" or (failed and state != "SUCCEEDED"):
            return self._failure(failed)
        if facts.gate and facts.gate.decision == "kept":
            return RunOutcome("Kept", "good", " ".join([self._kept(facts.gate), *self.other_versions]))
        if facts.gate and not facts.gate.passed:
            text = "The run finished; the model did not pass its gate and was not shipped."
            return RunOutcome("Not shipped", "warn", text)
        if facts.version:
            rank = "champion" if facts.version.champion else "candidate"
            count = len(facts.version.variants)
            text = (
                f"Version {facts.version.version} was registered as {rank}; "
                f"{count} {'variant is' if count == 1 else 'variants are'} published."
            )
            return RunOutcome("Delivered", "good", " ".join([text, *self.other_versions]))
        if state == "SUCCEEDED":
            return RunOutcome("Finished", "good", "Every step succeeded; no model version was registered.")
        return RunOutcome("Running", "plain", "The run has not ended yet; these are its records so far.")

    def _kept(self, gate: GateDecision) -> str:
        number = f"version {self.facts.version.version}" if self.facts.version else "a candidate"
        champion = f", version {gate.champion.version}," if gate.champion else ""
        return (
            f"The model passed its gate and was registered as {number}; the champion{champion} stays, because the "
            "model is not shown to be better."
        )

    def _failure(self, failed: StepRecord | None) -> RunOutcome:
        source = failed or self.facts.ending
        error = source.error if source else None
        last = next((step.step for step in reversed(self.facts.steps)), None)
        if failed:
            text = f"Step {failed.step} failed."
        elif last:
            text = f"The run failed outside its recorded steps; the last of them was {last}."
        else:
            text = "The run failed before any step was recorded."
        return RunOutcome("Failed", "bad", text, failed.step if failed else None, shortened(error))

    @property
    def other_versions(self) -> list[str]:
        """In a sentence each: what serves or releases another version than the run registered.

        Deployment and release follow the champion, which another run may have registered meanwhile.
        """
        facts, found = self.facts, []
        if facts.version is None:
            return []
        own = facts.version.version
        if facts.endpoint and facts.endpoint.version != own:
            found.append(f"The endpoint serves version {facts.endpoint.version}, not {own}.")
        if facts.release and facts.release.version != own:
            found.append(f"Devices are given version {facts.release.version}, not {own}.")
        return found

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
                lost = variant.max_score_loss
                words = f"{lost * 100:g} pp" if self.metric in PERCENTAGES else f"{lost:g}"
                return f"at most {words} lost{most}"
        return "not in the task"

    @cached_property
    def devices(self) -> list[DeviceRow]:
        """What each device runs, compared with what was released."""
        return device_rows(self.facts)

    @cached_property
    def seconds(self) -> float | None:
        """Seconds from the start of the first step to the end of the last."""
        steps = self.facts.steps
        if not steps:
            return None
        return max(step.started.timestamp() + step.seconds for step in steps) - steps[0].started.timestamp()

    @cached_property
    def steps(self) -> list[StepRow]:
        """The steps and their place in time."""
        return step_rows(self.facts, self.seconds)

    @cached_property
    def lineage(self) -> list[tuple[str, str]]:
        """Name and value of what ties the shipped bytes to code, task and data."""
        facts, version, data = self.facts, self.facts.version, self.facts.population
        rows: list[tuple[str, str | None]] = [
            ("Task digest", self.task.digest),
            ("Data digest", data.data_digest if data else None),
            ("Held-out data digest", data.test_digest if data else None),
            ("Registered version", f"{version.name} {version.version}" if version else None),
            ("Weights digest", version.weights_digest if version else None),
            ("State digest", version.state_digest if version else None),
            ("Code (git commit)", version.git_commit if version else None),
        ]
        for variant in version.variants if version else []:
            rows.append((f"Variant {variant.kind}", variant.digest))
            rows.append((f"Variant {variant.kind} at", variant.url))
        if served := facts.endpoint:
            rows.append(("Served", f"version {served.version}, {served.variant}, {served.digest}"))
        if facts.release:
            rows.append(("Released", f"version {facts.release.version}, state {facts.release.state_digest}"))
        return [(name, value) for name, value in rows if value]


def report_of(task: FederatedTask, run: str, tracking: str, facts: Facts) -> Report:
    """The report of a run as of now."""
    return Report(task, run, tracking, facts, datetime.now(UTC).replace(microsecond=0))
