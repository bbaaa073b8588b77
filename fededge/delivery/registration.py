"""Registering a model version: its variants published, its document kept, its gate decision final.

A version is registered once. A step that is repeated, or a run that is resumed, finds the version that it
made: it gets that version's document and decision, and no alias is moved again. So neither a newer champion
nor a rollback is undone by an older run.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fededge import settings, storage
from fededge.delivery import registry
from fededge.delivery.gates import choose, judge_again
from fededge.delivery.registry import CANDIDATE, CHAMPION, DECISION, DOCUMENT, EVALUATION, FOLDER, Entry
from fededge.documents import Evaluation, GateDecision, Measurement, ModelVersion, PublishedVariant
from fededge.errors import IntegrityError, ReleaseError
from fededge.kinds import file_name
from fededge.task import FederatedTask
from fededge.tracking.connection import connect, exclusive, translated
from fededge.tracking.run import TrackedRun


@dataclass(frozen=True)
class Trained:
    """A trained global model, as it comes to registration."""

    state: Path
    digest: str
    weights_digest: str
    round: int
    evaluation: Evaluation
    """Of the weights on held-out examples."""


def register(
    task: FederatedTask,
    run: str,
    tracked: TrackedRun,
    model: Trained,
    variants: Mapping[str, bytes],
    measured: Sequence[Measurement],
    decision: GateDecision,
) -> tuple[ModelVersion, GateDecision]:
    """Publish the variants that passed and register the model version.

    Where another version became champion since the decision was taken, it is taken again. On this machine's
    own MLflow store, no other run can register in between; a server has no such lock, so of two runs that
    register at the very same moment, the later one's alias stays.

    Args:
        task: what was learned.
        run: pipeline run id.
        tracked: its MLflow run, which keeps a copy of state and variants as the version's source.
        model: the trained model.
        variants: kind to model file.
        measured: measurement of each variant.
        decision: of the model's gate.

    Returns:
        The model version, and the decision that counts: the version became champion if it says so.

    Raises:
        ReleaseError: the model passed, but no variant did, the endpoint's did not, or none fits a device
            class.
        IntegrityError: a variant is not the one that was measured, or other weights were judged.
        StorageError: a variant cannot be published.
        TrackingError: MLflow cannot be reached or refuses.
    """
    _check_digests(variants, measured)
    if decision.weights_digest != model.weights_digest:
        raise IntegrityError(
            f"the gate decision is on weights {decision.weights_digest}, not on {model.weights_digest}, which are "
            "to be registered: run gate_model again (`fededge run --fresh`)"
        )
    with exclusive():
        own = _made_before(task.name, tracked, model)
        if own is not None and (final := own.decision) is not None:
            return own.document(), final
        rival = registry.rival(task.name)
        if not (rival and own and rival.version == own.version):  # else it was cut off just before the end
            decision = judge_again(task.gate, model.evaluation, decision, rival)
        devices = {}
        if decision.passed:
            devices = choose(task.devices, measured)
            _check_gates(task, measured)
        shipped = [m for m in measured if m.passed]
        published = [_publish(m, variants[m.kind]) for m in shipped]
        source = _keep(tracked, model, variants, measured, decision)
        number = own.version if own else _create(task, run, tracked, model, decision, source)
        version = ModelVersion(
            name=task.name,
            version=number,
            task_digest=task.digest,
            state_digest=model.digest,
            weights_digest=model.weights_digest,
            round=model.round,
            git_commit=tracked.git_commit,
            run=run,
            champion=decision.passed,
            metric=decision.metric,
            score=decision.score,
            shape=measured[0].shape,
            classes=measured[0].classes,
            variants=published,
            devices=devices,
        )
        _finish(version, decision)
    return version, decision


def _made_before(name: str, tracked: TrackedRun, model: Trained) -> Entry | None:
    """The version that this run made of these weights, in this step's earlier attempt."""
    for entry in registry.versions(name):
        if entry.run_id == tracked.run_id and entry.tags.get("weights_digest") == model.weights_digest:
            return entry
    return None


def _create(
    task: FederatedTask, run: str, tracked: TrackedRun, model: Trained, decision: GateDecision, source: str
) -> int:
    from mlflow.exceptions import MlflowException

    tags = {
        "digest": model.digest,
        "weights_digest": model.weights_digest,
        "task_digest": task.digest,
        "round": str(model.round),
        "git_commit": tracked.git_commit,
        "metric": decision.metric,
        "score": repr(decision.score),
        EVALUATION: storage.digest(model.evaluation.to_bytes()),
        "fededge.run": run,
    }
    with translated("register a model version in"):
        client = connect()
        try:
            client.create_registered_model(task.name, description="Made by FedEdge")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return int(client.create_model_version(task.name, source, run_id=tracked.run_id, tags=tags).version)


def _finish(version: ModelVersion, decision: GateDecision) -> None:
    """Document, aliases and, as the mark that all is done, the decision."""
    data, number = version.to_bytes(), str(version.version)
    storage.write(registry.document_url(version.name, version.version), data)
    with translated("register a model version in"):
        client = connect()
        client.set_model_version_tag(version.name, number, DOCUMENT, storage.digest(data))
        holders = client.get_registered_model(version.name).aliases
        if version.version >= int(holders.get(CANDIDATE, 0)):
            client.set_registered_model_alias(version.name, CANDIDATE, number)
        if decision.passed:
            client.set_registered_model_alias(version.name, CHAMPION, number)
        client.set_model_version_tag(version.name, number, DECISION, decision.to_bytes().decode())


def _keep(
    tracked: TrackedRun,
    model: Trained,
    variants: Mapping[str, bytes],
    measured: Sequence[Measurement],
    decision: GateDecision,
) -> str:
    """Keep the version's files among the run's artifacts; the URI of their folder."""
    files = {
        "state.safetensors": storage.read(str(model.state)),
        **{file_name(m.kind): variants[m.kind] for m in measured if m.passed},
        "gates.json": json.dumps([m.to_content() for m in measured], indent=1).encode(),
        "decision.json": decision.to_bytes(),
        "evaluation.json": model.evaluation.to_bytes(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            storage.write(str(Path(folder) / name), data)
        return tracked.keep(Path(folder), FOLDER)


def _check_gates(task: FederatedTask, measured: Sequence[Measurement]) -> None:
    if not any(m.passed for m in measured):
        why = "; ".join(f"{m.kind} {', '.join(m.reasons)}" for m in measured)
        raise ReleaseError(f"no variant passed its gate ({why}): relax variants, or train longer")
    if task.endpoint is not None:
        wanted = next((m for m in measured if m.kind == task.endpoint.variant), None)
        if wanted is None or not wanted.passed:
            why = ", ".join(wanted.reasons) if wanted else "it was not measured"
            raise ReleaseError(
                f"endpoint.variant {task.endpoint.variant} did not pass its gate ({why}): "
                "name another variant"
            )


def _check_digests(variants: Mapping[str, bytes], measured: Sequence[Measurement]) -> None:
    for m in measured:
        found = storage.digest(variants[m.kind]) if m.kind in variants else "no file"
        if found != m.digest:
            raise IntegrityError(
                f"variant {m.kind} is {found} but {m.digest} was measured: run build_variants and "
                "measure_variants again"
            )


def _publish(measured: Measurement, data: bytes) -> PublishedVariant:
    folder = measured.digest.removeprefix("sha256:")
    url = storage.join(settings.storage(), "models", folder, file_name(measured.kind))
    storage.write(url, data)
    return PublishedVariant(
        kind=measured.kind,
        url=url,
        digest=measured.digest,
        bytes=measured.bytes,
        compressed_bytes=measured.compressed_bytes,
        score=measured.score,
        latency_ms_1=measured.latency_ms_1,
        latency_ms_500=measured.latency_ms_500,
    )
