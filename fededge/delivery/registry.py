"""Model versions in MLflow: what is registered, which version is the champion, and what a version is.

The registered model is named after the task. A version gets the alias `candidate` when it is registered
(`fededge.delivery.registration`) and `champion` when its gate decision is "pass". Its ModelVersion document
lies in the blob store, and a tag holds the document's digest. What is served and released is always the
champion: `for_champion`.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fededge import settings, storage
from fededge import task as tasks
from fededge.delivery.gates import Rival
from fededge.documents import Evaluation, GateDecision, ModelVersion, Rollback
from fededge.documents.base import ACCURACY
from fededge.errors import IntegrityError, ReleaseError, TaskError, shown
from fededge.task import FederatedTask
from fededge.tracking.connection import connect, exclusive, is_missing, public_uri, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

CANDIDATE, CHAMPION = "candidate", "champion"
DOCUMENT, EVALUATION, DECISION, ROLLBACK = "document", "evaluation", "decision", "rollback."
"""Tags of a version: digests of its document and its evaluation, its gate decision, and (numbered) rollbacks to it."""
FOLDER = "model"
URI = re.compile(r"models:/(?P<name>[a-z0-9-]+)(?:@(?P<alias>[\w-]+)|/(?P<version>[0-9]+))")
"""Of a version's files, among the artifacts of its run."""
LARGEST = 64 << 20

Result = TypeVar("Result")


@dataclass(frozen=True)
class Entry:
    """A registered version of a task's model, as MLflow lists it."""

    name: str
    version: int
    run_id: str
    """Of MLflow."""
    aliases: tuple[str, ...]
    created: float
    """Seconds since the epoch."""
    tags: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Of the weights themselves: equal for equal weights."""
        return self.tags.get("weights_digest") or self.tags.get("digest", "")

    @property
    def round(self) -> int:
        """After which the weights were taken."""
        return int(self.tags.get("round", 0))

    @property
    def metric(self) -> str:
        """Of its score; versions of FedEdge 0.1 knew accuracy alone."""
        return self.tags.get("metric", ACCURACY)

    @property
    def score(self) -> float | None:
        """On held-out examples; None where nobody measured it."""
        value = self.tags.get("score", self.tags.get(ACCURACY))
        return None if value is None else float(value)

    @property
    def decision(self) -> GateDecision | None:
        """The gate decision that it was registered with; None while it is not registered to the end."""
        text = self.tags.get(DECISION)
        return GateDecision.from_bytes(text.encode(), self._named("decision on")) if text else None

    @property
    def rollbacks(self) -> list[Rollback]:
        """The rollbacks to this version, latest last."""
        texts = [self.tags[tag] for tag in self.tags if tag.startswith(ROLLBACK)]
        found = [Rollback.from_bytes(text.encode(), self._named("rollback to")) for text in texts]
        return sorted(found, key=lambda rollback: rollback.at)

    def document(self) -> ModelVersion:
        """The version's document, proven by its digest.

        Raises:
            ReleaseError: it has none.
            StorageError: it cannot be read.
            IntegrityError: it was changed.
        """
        digest = self.tags.get(DOCUMENT)
        if digest is None:
            raise ReleaseError(
                f"{self._named('')} has no document: its registration was cut off, or an older FedEdge made it. "
                "Train and register the model again (`fededge run --fresh`)"
            )
        url = document_url(self.name, self.version)
        return ModelVersion.from_bytes(storage.read_verified(url, digest, ModelVersion.LIMIT), url)

    def _named(self, what: str) -> str:
        return f"{what} version {self.version} of {self.name}".strip()


def document_url(name: str, version: int) -> str:
    """Where the document of a version lies in the blob store."""
    return storage.join(settings.storage(), "models", name, "versions", f"{version}.json")


def versions(name: str) -> list[Entry]:
    """All versions of a task's model, newest first; none where it was never registered.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    if is_missing():
        return []
    with translated("list the models of"), exclusive():
        return _entries(connect(), name)


def models() -> list[Entry]:
    """The newest version of every model, by name.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    if is_missing():
        return []
    with translated("list the models of"), exclusive():
        client = connect()
        names = sorted(model.name for model in client.search_registered_models())
        return [version for name in names for version in _entries(client, name)[:1]]


def champion(name: str) -> Entry | None:
    """The version of a task's model that has the alias champion; None where there is none.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    return next((version for version in versions(name) if CHAMPION in version.aliases), None)


def champion_document(name: str) -> ModelVersion:
    """The document of a model's champion, proven by its digest.

    Raises:
        TrackingError: MLflow cannot be reached.
        ReleaseError: no version is the champion, or it has no document.
        StorageError, IntegrityError: the document cannot be read, or was changed.
    """
    found = champion(name)
    if found is None:
        raise ReleaseError(
            f"no version of {name} has the alias {CHAMPION} at {public_uri()}, so there is nothing to serve or "
            f"release: set the alias there, or register a version that passes its gate"
        )
    return found.document()


def for_champion(name: str, act: Callable[[ModelVersion], Result]) -> tuple[ModelVersion, Result]:
    """Do `act` with the champion, and again while another version became champion meanwhile.

    Whoever serves or releases a version does so through this. Of several that do at the same time, each
    looks again after it has acted; so what stands in the end is the champion's, whoever came last.

    Returns:
        The champion, and what `act` gave for it.

    Raises:
        TrackingError, ReleaseError, StorageError, IntegrityError: as for `champion_document`.
    """
    found = champion_document(name)
    while True:
        result = act(found)
        now = champion_document(name)
        if now == found:
            return found, result
        found = now


def superseded(version: int, champion: int) -> str:
    """What to tell whoever brought `version` where `champion` is served or released."""
    return f"version {version} is no longer the champion: version {champion} is"


def rival(name: str) -> Rival | None:
    """The champion of a task's model as the one that others are held against; None where there is none.

    Raises:
        TrackingError: MLflow cannot be reached.
        IntegrityError: its evaluation was changed since it was registered.
        DocumentError: its evaluation is of a newer format.
    """
    found = champion(name)
    if found is None:
        return None
    return Rival(found.version, found.metric, found.score, _evaluation(found))


def _evaluation(entry: Entry) -> Evaluation | None:
    """The evaluation that a version was registered with; None of versions of FedEdge 0.1."""
    digest = entry.tags.get(EVALUATION)
    if digest is None:
        return None
    data = _artifact(entry, f"{FOLDER}/evaluation.json", "an evaluation")
    where = f"the evaluation of version {entry.version} of {entry.name}"
    if storage.digest(data) != digest:
        raise IntegrityError(
            f"{where} was changed since it was registered: remove the alias {CHAMPION} in MLflow, or restore it"
        )
    return Evaluation.from_bytes(data, where)


def _artifact(entry: Entry, path: str, what: str) -> bytes:
    """The bytes of an artifact of the MLflow run that made a version; `what` names it in errors."""
    from mlflow.artifacts import download_artifacts

    with translated(f"read {what} from"), tempfile.TemporaryDirectory() as folder:
        file = download_artifacts(
            run_id=entry.run_id,
            artifact_path=path,
            dst_path=folder,
            tracking_uri=settings.tracking_uri(),
        )
        return storage.read(file, LARGEST)


def task_of(version: ModelVersion) -> FederatedTask:
    """The task that a version was made for, as its MLflow run keeps it.

    Raises:
        TrackingError: MLflow cannot be reached, or its run keeps no task.
        TaskError: the task is not one that this FedEdge reads.
    """
    (entry,) = [each for each in versions(version.name) if each.version == version.version]
    text = _artifact(entry, "task.yaml", "a task").decode()
    return tasks.parse(text, f"task.yaml of MLflow run {entry.run_id}")


def state_of(uri: str) -> bytes:
    """The state of a registered version, as a safetensors file.

    Args:
        uri: models:/NAME@ALIAS, or models:/NAME/VERSION.

    Raises:
        TaskError: it has another form.
        ReleaseError: there is no such version.
        TrackingError: MLflow cannot be reached, or its run keeps no state.
    """
    named = URI.fullmatch(uri)
    if named is None:
        raise TaskError(
            f"{shown(uri)} names no registered model: say models:/NAME@champion, or models:/NAME/3"
        )
    for entry in versions(named["name"]):
        if named["alias"] in entry.aliases or named["version"] == str(entry.version):
            data = _artifact(entry, f"{FOLDER}/state.safetensors", "a state")
            if storage.digest(data) != entry.tags.get("digest"):
                raise IntegrityError(
                    f"the state of {uri} was changed since it was registered: start from another"
                )
            return data
    raise ReleaseError(f"{shown(uri)} is not registered at {public_uri()}: see `fededge models`")


def _entries(client: "MlflowClient", name: str) -> list[Entry]:
    found = find(client, name)
    holders = client.get_registered_model(name).aliases if found else {}
    return [
        Entry(
            name=name,
            version=int(version.version),
            run_id=version.run_id or "",
            aliases=tuple(sorted(a for a, holder in holders.items() if int(holder) == int(version.version))),
            created=version.creation_timestamp / 1000,
            tags=dict(version.tags),
        )
        for version in found
    ]


def find(client: "MlflowClient", name: str) -> "list[MlflowVersion]":
    """All versions of `name` in MLflow's own form, newest first."""
    found = client.search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)
