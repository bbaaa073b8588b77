"""The model card of a version: what it is for, what it learned from, how well it does, and what nobody knows.

Its sections are those of Margaret Mitchell, Simone Wu, Andrew Zaldivar, Parker Barnes, Lucy Vasserman, Ben Hutchinson,
Elena Spitzer, Inioluwa Deborah Raji and Timnit Gebru 2019, Model Cards for Model Reporting, section 4. Of clients it
tells counts and scores over all of them, and names none.
"""

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fededge import storage
from fededge.delivery.card_pages import Section, Table, html, markdown
from fededge.delivery.registry import FOLDER
from fededge.documents import Evaluation, GateDecision, Measurement, ModelVersion, Population, RoundRecord
from fededge.task import FederatedTask
from fededge.tracking.connection import connect, translated
from fededge.tracking.run import TrackedRun

FEW = 10
"""Held-out examples of a class below which its figures say little."""
ROWS = 50
"""Most classes or features that a card lists."""
DESCRIPTION = 5000
"""Characters of a version's description; what a database behind MLflow holds."""
HELD_OUT = {
    "example": "examples of the clients that it learned from; not on clients that took no part",
    "client": "clients that it did not learn from",
    "owner": "owners that it did not learn from",
    "time": "examples later than those that it learned from",
    "source": "the test set that came with the data",
}


@dataclass(frozen=True)
class Facts:
    """What a card is made of, beside the task and the version.

    Attributes:
        population: whom it learned from.
        history: of its rounds.
        evaluation: of its weights.
        decision: of its gate.
        measured: its variants.
        parents: digest of each artifact that it was registered from, by name.
    """

    population: Population
    history: Sequence[RoundRecord]
    evaluation: Evaluation
    decision: GateDecision
    measured: Sequence[Measurement]
    parents: Mapping[str, str]


def keep(tracked: TrackedRun, task: FederatedTask, version: ModelVersion, facts: Facts) -> None:
    """Keep the card with the version, as README.md and README.html, and as its description unless it has one.

    Raises:
        TrackingError: MLflow cannot be reached, or its store cannot be written.
    """
    title, sections = f"{version.name}, version {version.version}", model_card(task, version, facts)
    text = markdown(title, sections)
    with tempfile.TemporaryDirectory() as folder:
        storage.write(str(Path(folder) / "README.md"), text.encode())
        storage.write(str(Path(folder) / "README.html"), html(title, sections).encode())
        tracked.keep(Path(folder), FOLDER)
    with translated("describe a model version in"):
        client, number = connect(), str(version.version)
        if not client.get_model_version(version.name, number).description:
            client.update_model_version(version.name, number, shortened(text))


def shortened(text: str) -> str:
    """`text`, cut after a line where it is longer than DESCRIPTION characters."""
    if len(text) <= DESCRIPTION:
        return text
    rest = "\n\nThe whole card is README.md among the version's files.\n"
    cut = text[: DESCRIPTION - len(rest)]
    return cut[: cut.rfind("\n")] + rest


def model_card(task: FederatedTask, version: ModelVersion, facts: Facts) -> list[Section]:
    """The sections of the card."""
    return [
        _details(task, version, facts),
        Section("Intended use", notes=[task.card.intended_use or "Not stated by its authors."]),
        _factors(facts),
        _metrics(version, facts),
        _evaluation_data(facts),
        _training_data(task, facts),
        *_analyses(facts),
        _variants(version, facts),
        _ethics(facts),
        _caveats(task, facts),
        _lineage(version, facts),
    ]


def _details(task: FederatedTask, version: ModelVersion, facts: Facts) -> Section:
    learning, schema = task.learning, facts.population.example
    more = f" and {len(schema.features) - FEW} more" if len(schema.features) > FEW else ""
    return Section(
        "Model details",
        facts=[
            ("Authors", ", ".join(task.card.authors) or "not stated"),
            ("License", task.card.license or "not stated"),
            ("Model", f"{task.model.shown}, {task.model.framework}"),
            (
                "Takes",
                f"{', '.join(each.name for each in schema.features[:FEW])}{more}, as {list(schema.shape)}",
            ),
            ("Predicts", _label(facts)),
            ("Rounds", str(version.round)),
            ("Cohort", f"{learning.cohort.size} clients a round, selected by {learning.cohort.policy}"),
            ("Algorithm", _algorithm(task)),
            ("Gate", f"{facts.decision.decision}{_because(facts.decision.reasons)}"),
        ],
    )


def _algorithm(task: FederatedTask) -> str:
    client, server = task.learning.client, task.learning.server
    return (
        f"federated averaging; clients: {client.optimizer}, learning rate {client.learning_rate:g}, {client.epochs} "
        f"epochs, batches of {client.batch_size}; server: {server.optimizer}, learning rate {server.learning_rate:g}"
    )


def _because(reasons: Sequence[str]) -> str:
    return f": {'; '.join(reasons)}" if reasons else ""


def _label(facts: Facts) -> str:
    label = facts.population.example.label
    named = f" {label.name}" if label.name else ""
    if label.classes:
        names = label.names or [str(number) for number in range(label.classes)]
        more = f" and {len(names) - ROWS} more" if len(names) > ROWS else ""
        return f"{label.kind}{named}, {label.classes} classes: {', '.join(names[:ROWS])}{more}"
    return f"{label.kind}{named}{f' in {label.unit}' if label.unit else ''}"


def _factors(facts: Facts) -> Section:
    groups = ["clients"] if facts.evaluation.clients else []
    groups += ["classes"] if facts.evaluation.per_class else []
    told = (
        f"Results are told by {' and by '.join(groups)}." if groups else "Results are told over all examples."
    )
    return Section(
        "Factors", notes=[f"{told} Other groups of people, places or instruments were not told apart."]
    )


def _metrics(version: ModelVersion, facts: Facts) -> Section:
    found = facts.evaluation
    values = {found.metric: found.score, "loss": found.loss, **found.metrics}
    note = f"The gate judged {facts.decision.metric}: {_number(facts.decision.score)}."
    if facts.decision.champion and facts.decision.champion.score is not None:
        rival = facts.decision.champion
        note += f" The champion then, version {rival.version}, had {_number(rival.score or 0.0)}."
    if facts.decision.centralized is not None:
        note += f" Training on all examples together reached {_number(facts.decision.centralized)}."
    rows = [[name, _number(value)] for name, value in values.items()]
    return Section("Metrics", tables=[Table(["on held-out examples", "value"], rows)], notes=[note])


def _evaluation_data(facts: Facts) -> Section:
    held_out = facts.population.held_out
    by = f"Tested on {HELD_OUT[held_out.by]}." if held_out else "How they were held out is not recorded."
    return Section("Evaluation data", notes=[f"{facts.evaluation.examples:,} held-out examples. {by}"])


def _training_data(task: FederatedTask, facts: Facts) -> Section:
    population = facts.population
    held = [client.train for client in population.clients]
    told = [
        ("Source", task.data.source),
        ("Clients", f"{population.size:,}{', simulated on one machine' if population.simulated else ''}"),
        ("Partition", task.partition.kind if population.simulated else "as the clients hold them"),
        ("Examples", f"{population.examples:,} of all clients, training and test"),
    ]
    if held:
        told.append(
            (
                "Training examples a client",
                f"{min(held):,} to {max(held):,}, median {statistics.median(held):,g}",
            )
        )
    features = population.example.features
    rows = [
        [f.name, f.dtype, str(f.shape) if f.shape else "", f.unit, str(len(f.categories) or "")]
        for f in features[:ROWS]
    ]
    tables = [Table(["feature", "dtype", "shape", "unit", "categories"], rows)]
    counts = [client.labels for client in population.clients if client.labels]
    if counts and len({len(each) for each in counts}) == 1:
        label = population.example.label
        names = label.names or [str(number) for number in range(len(counts[0]))]
        totals = [f"{sum(each):,}" for each in zip(*counts, strict=True)]
        rows = [list(pair) for pair in zip(names, totals, strict=False)]
        tables.append(Table(["class", "training examples of all clients"], rows[:ROWS]))
    more = len(features) - ROWS
    return Section(
        "Training data", facts=told, tables=tables, notes=[f"And {more:,} more features."] if more > 0 else []
    )


def _analyses(facts: Facts) -> list[Section]:
    found, tables, told = facts.evaluation, [], []
    if scores := [client.score for client in found.clients if client.examples]:
        told = [
            ("Clients that tested it", str(len(scores))),
            (f"{found.metric} at clients", f"{_number(min(scores))} to {_number(max(scores))}"),
            ("Median", _number(statistics.median(scores))),
        ]
        if found.worst_tenth is not None:
            told.append(("Mean of the worst tenth", _number(found.worst_tenth)))
        if found.spread is not None:
            told.append(("Spread (standard deviation)", _number(found.spread)))
    if found.per_class:
        rows = [
            [each.label, f"{each.examples:,}", *map(_number, (each.precision, each.recall, each.f1))]
            for each in found.per_class[:ROWS]
        ]
        tables.append(Table(["class", "held out", "precision", "recall", "F1"], rows))
    return [Section("Quantitative analyses", told, tables)] if told or tables else []


def _variants(version: ModelVersion, facts: Facts) -> Section:
    rows = [
        [
            each.kind,
            _number(each.score),
            f"{each.bytes:,}",
            f"{each.latency_ms_1:.3g}",
            "shipped" if each.passed else "; ".join(each.reasons) or "not shipped",
        ]
        for each in facts.measured
    ]
    head = ["variant", facts.evaluation.metric, "bytes", "ms for one example", "gate"]
    devices = [(f"Device class {name}", kind) for name, kind in version.devices.items()]
    return Section("Variants", devices, [Table(head, rows)])


def _ethics(facts: Facts) -> Section:
    where = (
        "The clients were simulated: one machine held all examples."
        if facts.population.simulated
        else "Examples stayed at the clients, which handed in updates and counts."
    )
    return Section(
        "Ethical considerations",
        notes=[
            f"{where} Whoever aggregates sees each client's update, and an update may tell of its examples."
        ],
    )


def _caveats(task: FederatedTask, facts: Facts) -> Section:
    found, population = facts.evaluation, facts.population
    reported = {client for record in facts.history for client in record.reported}
    notes = [task.card.limits] if task.card.limits else []
    if (unheard := population.size - len(reported)) > 0:
        notes.append(f"{unheard:,} of {population.size:,} clients had no update that counts.")
    if found.failed:
        notes.append(f"It could not be tested at {len(found.failed)} of the clients.")
    rare = [each.label for each in found.per_class if each.examples < FEW]
    if rare:
        notes.append(f"Fewer than {FEW} held-out examples, so hardly tested: {', '.join(rare[:ROWS])}.")
    if population.held_out is None or population.held_out.by == "example":
        notes.append("It was not tested on clients that took no part in its training.")
    notes.append(
        "Latencies are of one machine and one thread. It was not tested on data of other times or sources."
    )
    return Section("Caveats and recommendations", items=notes)


def _lineage(version: ModelVersion, facts: Facts) -> Section:
    told = [
        ("Task", version.task_digest),
        ("Weights", version.weights_digest or "not known"),
        ("Code", version.git_commit),
        ("Run", version.run),
        ("Data", facts.population.data_digest or "at the clients"),
        ("Held-out examples", facts.evaluation.test_digest or facts.population.test_digest or "not known"),
    ]
    return Section("Lineage", told + [(f"From {name}", digest) for name, digest in facts.parents.items()])


def _number(value: float) -> str:
    return f"{value:.4g}"
