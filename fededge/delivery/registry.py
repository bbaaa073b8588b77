"""Model versions: registered in MLflow, their variants published in the blob store.

The registered model is named after the task. A version gets the alias `candidate` when it is
registered and `champion` when its gate decision is "pass". Registering again after a failure gives
the same version, and never moves an alias back to an older one.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fededge import settings, storage
from fededge.delivery.gates import choose
from fededge.errors import IntegrityError, ReleaseError
from fededge.task import FederatedTask
from fededge.tracking.connection import connect, exclusive, translated
from fededge.tracking.run import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

CANDIDATE, CHAMPION = "candidate", "champion"
FOLDER = "model"
PUBLISHED = ("kind", "digest", "bytes", "compressed_bytes", "accuracy", "latency_ms_1", "latency_ms_500")


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a task's model."""

    name: str
    version: int
    run_id: str
    aliases: tuple[str, ...]
    digest: str
    task_digest: str
    git_commit: str
    round: int
    accuracy: float
    created: float
    """Unix seconds."""


@dataclass(frozen=True)
class Trained:
    """A trained global model, as it comes to registration."""

    state: Path
    digest: str
    round: int
    accuracy: float
    """On held-out data, 0 to 1."""


def register(
    task: FederatedTask,
    run: str,
    tracked: TrackedRun,
    model: Trained,
    variants: Mapping[str, bytes],
    measured: Sequence[Mapping[str, Any]],
    passed: bool,
) -> dict[str, Any]:
    """Publish the variants that passed and register the model version.

    Args:
        task: what was learned.
        run: pipeline run id.
        tracked: its MLflow run, which keeps a copy of state and variants as the version's source.
        model: the trained model.
        variants: kind to LiteRT file.
        measured: measurement of each variant, with `passed` and `reasons`.
        passed: the model gate's decision; only then does the version become champion.

    Returns:
        The model version document.

    Raises:
        ReleaseError: the model passed, but no variant did, the endpoint's did not, or none fits a device
            class.
        IntegrityError: a variant is not the one that was measured.
        StorageError: a variant cannot be published.
        TrackingError: MLflow cannot be reached or refuses.
    """
    _check_digests(variants, measured)
    devices = {}
    if passed:
        devices = choose(task.devices, measured)
        _check_gates(task, measured)
    shipped = [m for m in measured if m["passed"]]
    published = [_publish(m, variants[m["kind"]]) for m in shipped]
    tags = {
        "digest": model.digest,
        "task_digest": task.digest,
        "round": str(model.round),
        "git_commit": tracked.git_commit,
        "accuracy": repr(model.accuracy),
        "fededge.run": run,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, data in {
            "state.safetensors": model.state.read_bytes(),
            **{f"{m['kind']}.tflite": variants[m["kind"]] for m in shipped},
            "gates.json": json.dumps(list(measured), indent=1).encode(),
        }.items():
            (Path(folder) / name).write_bytes(data)
        source = tracked.keep(Path(folder), FOLDER)
    version = _version(task, tracked, source, tags, passed)
    return {
        "name": task.name,
        "version": version,
        "task_digest": task.digest,
        "state_digest": model.digest,
        "round": model.round,
        "git_commit": tracked.git_commit,
        "run": run,
        "champion": passed,
        "accuracy": model.accuracy,
        "shape": measured[0]["shape"],
        "classes": measured[0]["classes"],
        "variants": published,
        "devices": devices,
    }


def versions(name: str) -> list[ModelVersion]:
    """All versions of a task's model, newest first; none where it was never registered.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with translated("list the models of"), exclusive():
        client = connect()
        return _entries(client, name)


def models() -> list[ModelVersion]:
    """The newest version of every model, by name.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    with translated("list the models of"), exclusive():
        client = connect()
        names = sorted(model.name for model in client.search_registered_models())
        return [version for name in names for version in _entries(client, name)[:1]]


def champion(name: str) -> ModelVersion | None:
    """The version of a task's model that has the alias champion; None where there is none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    return next((version for version in versions(name) if CHAMPION in version.aliases), None)


def _check_gates(task: FederatedTask, measured: Sequence[Mapping[str, Any]]) -> None:
    outcomes = {m["kind"]: m for m in measured}
    if not any(m["passed"] for m in measured):
        why = "; ".join(f"{kind} {', '.join(m['reasons'])}" for kind, m in outcomes.items())
        raise ReleaseError(f"no variant passed its gate ({why}): relax variants, or train longer")
    if task.endpoint is not None:
        wanted = outcomes.get(task.endpoint.variant)
        if wanted is None or not wanted["passed"]:
            why = ", ".join(wanted["reasons"]) if wanted else "it was not measured"
            raise ReleaseError(
                f"endpoint.variant {task.endpoint.variant} did not pass its gate ({why}): "
                "name another variant"
            )


def _check_digests(variants: Mapping[str, bytes], measured: Sequence[Mapping[str, Any]]) -> None:
    for outcome in measured:
        kind = outcome["kind"]
        found = storage.digest(variants[kind]) if kind in variants else "no file"
        if found != outcome["digest"]:
            raise IntegrityError(
                f"variant {kind} is {found} but {outcome['digest']} was measured: run build_variant and "
                "measure_variant again"
            )


def _publish(measured: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    folder = measured["digest"].removeprefix("sha256:")
    url = storage.join(settings.storage(), "models", folder, f"{measured['kind']}.tflite")
    storage.write(url, data)
    return {"url": url, **{key: measured[key] for key in PUBLISHED}}


def _version(
    task: FederatedTask, tracked: TrackedRun, source: str, tags: dict[str, str], passed: bool
) -> int:
    """Number of the registered version: the one that this run made of these bytes, or a new one."""
    from mlflow.exceptions import MlflowException

    with translated("register a model version in"), exclusive():
        client = connect()
        known = _found(client, task.name)
        if not known:
            try:
                client.create_registered_model(task.name, description="Made by FedEdge")
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        same = [v for v in known if v.run_id == tracked.run_id and v.tags.get("digest") == tags["digest"]]
        if same:
            number = int(same[0].version)
        else:
            made = client.create_model_version(task.name, source, run_id=tracked.run_id, tags=tags)
            number = int(made.version)
        for alias in (CANDIDATE, CHAMPION) if passed else (CANDIDATE,):
            if number >= _holder(client, task.name, alias):
                client.set_registered_model_alias(task.name, alias, str(number))
    return number


def _holder(client: "MlflowClient", name: str, alias: str) -> int:
    """Number of the version that has `alias`, 0 where none has."""
    return int(client.get_registered_model(name).aliases.get(alias, 0))


def _found(client: "MlflowClient", name: str) -> "list[MlflowVersion]":
    """All versions of `name`, newest first."""
    found = client.search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def _entries(client: "MlflowClient", name: str) -> list[ModelVersion]:
    found = _found(client, name)
    holders = client.get_registered_model(name).aliases if found else {}
    return [
        ModelVersion(
            name=name,
            version=int(version.version),
            run_id=version.run_id or "",
            aliases=tuple(sorted(a for a, holder in holders.items() if int(holder) == int(version.version))),
            digest=version.tags.get("digest", ""),
            task_digest=version.tags.get("task_digest", ""),
            git_commit=version.tags.get("git_commit", ""),
            round=int(version.tags.get("round", 0)),
            accuracy=float(version.tags.get("accuracy", "nan")),
            created=version.creation_timestamp / 1000,
        )
        for version in found
    ]
