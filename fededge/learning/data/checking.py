"""What the steps will find in a task's data, found before the first of them runs.

    python -m fededge.learning.data.checking < task.json

reads a task as canonical JSON and writes a `Report` as JSON. Nothing else is written. TensorFlow is not imported, but
for a PyTorch model, of which variants for LiteRT are built by way of Keras, and for a fleet's clients on LiteRT.
"""

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fededge.documents import Label, Schema
from fededge.errors import DataError, FedEdgeError, TaskError, VariantError
from fededge.kinds import TITLES, Runtime, kinds_of, runtime_of
from fededge.learning.data import splits
from fededge.learning.data.sources import open_source
from fededge.learning.data.splits import Division
from fededge.learning.data.survey import survey
from fededge.learning.frameworks import litert_refusal, model_spec
from fededge.learning.interfaces import ModelSpec
from fededge.learning.models import shipped
from fededge.task import FederatedTask, HuggingFaceData, KerasData, KerasMnist
from fededge.weights import Weights

SHOWN = 5
"""Features that a finding names."""


class Finding(BaseModel):
    """One thing that was checked, and what was found."""

    checked: str
    found: str


class Report(BaseModel):
    """What was found, or the named error that the data ends with; `form`: digest of the form of an example, if known."""

    findings: list[Finding] = []
    form: str | None = None
    error: str | None = None
    message: str = ""


def check(task: FederatedTask) -> Report:
    """Look at all of the task's examples, spread them, and see whether all that it asks for can be had.

    Those of a fleet lie elsewhere: the held-out ones are looked at.

    Data sets that are downloaded are so by the step that prepares them, and are left out here.

    Raises:
        DataError: the data are missing or malformed, cannot be spread as asked, or hold too little.
        TaskError: a cohort is larger than the population, or the model does not fit the data.
        VariantError: no variant can be built of a PyTorch model.
        StorageError: they cannot be read.
    """
    data = task.local_data
    source = f"{'data.source' if task.simulated else 'data.held_out.source'} {data.source}"
    if isinstance(data, KerasData | KerasMnist | HuggingFaceData):
        downloaded = "is downloaded, and checked, by the step prepare-data"
        return Report(findings=[Finding(checked=source, found=downloaded)])
    opened = open_source(data, task.seed, task.partition.column)
    found = survey(opened)
    division = None
    if task.simulated:
        division = splits.divide(found, data, task.partition, task.seed)
        findings = _simulated(task, source, opened.schema, division)
    else:
        findings = [
            (source, f"{found.count:,} held-out examples"),
            ("features", _features(opened.schema)),
            ("labels", _label(opened.schema.label)),
        ]
    if task.model.framework != "keras":
        findings.append((f"model {task.model.shown}", _model(task, opened.schema)))
    elif (
        task.model.factory is None
    ):  # one's own is made in the second step: TensorFlow takes longer to import
        shape = shipped.check(task.model.name or shipped.DEFAULT, opened.schema)
        findings.append((f"model {task.model.shown}", f"takes examples of shape {list(shape)}"))
    if division is not None and any(variant.kind == "int8" for variant in task.variants):
        findings.append(("variant int8", _calibration(task, division)))
    if not task.simulated:
        findings.append(("training on LiteRT alone", _litert(task, opened.schema)))
    told = [Finding(checked=checked, found=found) for checked, found in findings]
    return Report(findings=told, form=opened.schema.form_digest)


def _litert(task: FederatedTask, schema: Schema) -> str:
    """Whether devices without TensorFlow can train the model."""
    refusal = litert_refusal(model_spec(task.model, schema, task.seed), task.learning.client)
    return f"no: {refusal}" if refusal else "yes, as far as the model's operations tell"


def _simulated(task: FederatedTask, source: str, schema: Schema, division: Division) -> list[tuple[str, str]]:
    """What was found of a population that is played apart."""
    sizes = division.sizes
    held = sum(division.count(*place) for place in (splits.TEST, splits.VALIDATION))
    return [
        (source, f"{sum(sizes):,} training and {held:,} test examples"),
        ("features", _features(schema)),
        ("labels", _label(schema.label)),
        ("data.split", _split(division)),
        (
            f"partition.kind {task.partition.kind}",
            f"{len(sizes)} clients with {min(sizes):,} to {max(sizes):,} examples",
        ),
        (f"learning.cohort.size {task.learning.cohort.size}", _cohort(task, len(sizes))),
    ]


def _features(schema: Schema) -> str:
    names = ", ".join(feature.name for feature in schema.features[:SHOWN])
    more = len(schema.features) - SHOWN
    return f"{names}{f' and {more} more' if more > 0 else ''}: {schema.dtype} {list(schema.shape)} an example"


def _label(label: Label) -> str:
    if label.classes:
        return f"{label.kind}, {label.classes} classes"
    return f"{label.kind}, {math.prod(label.shape)} of an example" if label.kind == "number" else label.kind


def _split(division: Division) -> str:
    parts = [
        f"{division.count(*place):,} {place[0]}"
        for place in (splits.TEST, splits.VALIDATION)
        if division.count(*place)
    ]
    return f"{' and '.join(parts)} examples, by {division.by}"


def _cohort(task: FederatedTask, clients: int) -> str:
    size = task.learning.cohort.size
    if size > clients:
        raise TaskError(
            f"learning.cohort.size is {size} but the data name only {clients} clients (owners): lower the size"
        )
    return f"can be had from {clients} clients"


def _model(task: FederatedTask, schema: Schema) -> str:
    """Whether the model can be made, trained as `learning.client` says, and built into variants."""
    model = model_spec(task.model, schema, task.seed)
    with tempfile.TemporaryDirectory(prefix="fededge-plan-") as folder:
        model.export_plan(task.learning.client, task.identity, Path(folder))
    weights = model.initial_weights()
    runtimes = (
        _runtimes(task, model, weights) if task.model.framework == "torch" else "LiteRT and ONNX Runtime"
    )
    numbers = sum(value.size for value in weights.values())
    return f"{numbers:,} numbers in {len(weights)} tensors; variants for {runtimes}"


def _runtimes(task: FederatedTask, model: ModelSpec, weights: Weights) -> str:
    """The runtimes that a model has variants for, and why it has none for another.

    Raises:
        VariantError: what the task delivers can have none of its variants.
    """
    against: dict[Runtime, str] = {}
    forms: dict[Runtime, Callable[[Weights], Any]] = {"litert": model.inference, "onnx": model.onnx}
    for runtime, convert in forms.items():
        try:
            convert(weights)
        except VariantError as error:
            against[runtime] = str(error)
    fitting = [runtime for runtime in forms if runtime not in against]
    listed = {runtime_of(variant.kind) for variant in task.variants}
    needed = {device.runtime for device in task.devices}
    needed |= {runtime_of(task.endpoint.variant)} if task.endpoint else set()
    missing = sorted(needed & against.keys()) or ([] if listed & set(fitting) else sorted(against))
    if missing:
        instead = [kind for runtime in fitting for kind in kinds_of(runtime)]
        also = f". It has variants of kind {', '.join(instead)}" if instead else ""
        raise VariantError(f"{against[missing[0]]}{also}")
    return "; ".join([" and ".join(TITLES[runtime] for runtime in fitting), *against.values()])


def _calibration(task: FederatedTask, division: Division) -> str:
    """Whether enough clients hold enough training examples for the ranges that calibrate int8."""
    floor = task.privacy
    train = [division.count(name, "train") for name in division.clients]
    enough = sum(count >= floor.min_examples for count in train)
    if enough < floor.min_clients:
        raise DataError(
            f"variant int8 is calibrated by at least {floor.min_clients} clients (privacy.min_clients) with "
            f"{floor.min_examples} training examples each (privacy.min_examples), but only {enough} of {len(train)} "
            "have as many: spread the data less skewed, lower the floor, or list variants without int8"
        )
    return f"calibrated by {enough} clients"


def main() -> None:
    """Check the task on standard input; status 2 where its data end with a named error."""
    try:
        report = check(FederatedTask.from_json(sys.stdin.read()))
    except FedEdgeError as error:
        report = Report(error=type(error).__name__, message=str(error))
    print(report.model_dump_json())
    sys.exit(2 if report.error else 0)


if __name__ == "__main__":
    main()
