"""Registration of model versions, and who is champion."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge import paired, settings, storage
from fededge.delivery import registration, registry
from fededge.delivery.gates import Rival
from fededge.delivery.rollback import roll_back
from fededge.documents import Champion, GateDecision, ModelVersion
from fededge.errors import IntegrityError, ReleaseError, StorageError, TrackingError
from fededge.task import FederatedTask, parse
from fededge.tracking import connection
from fededge.tracking.connection import connect
from tests.registered_models import FILES, evaluated, measured, register_version

pytestmark = pytest.mark.usefixtures("store")

Register = Callable[..., ModelVersion]


def failed(kind: str, reason: str = "loses 0.1") -> Any:
    return measured(kind, passed=False, reasons=[reason])


def champion() -> int:
    found = registry.champion("digits")
    assert found
    return found.version


def test_a_version_knows_where_it_comes_from(register: Register, task: FederatedTask) -> None:
    document = register()
    (version,) = registry.versions("digits")
    assert version.version == document.version == 1
    assert version.digest == document.weights_digest == storage.digest(b"weights")
    assert version.tags["task_digest"] == document.task_digest == task.digest
    assert version.tags["git_commit"] == document.git_commit
    assert (version.round, version.score) == (12, 0.98)
    run = connect().get_run(version.run_id)
    assert run.data.tags["fededge.run"] == document.run == "run-1"
    assert registry.task_of(document) == task


def test_a_versions_document_is_kept_with_it_and_proven_when_it_is_read(register: Register) -> None:
    document = register()
    url = registry.document_url("digits", 1)
    assert ModelVersion.read(url) == registry.champion_document("digits") == document
    storage.write(url, storage.read(url).replace(b'"round": 12', b'"round": 13'))
    with pytest.raises(IntegrityError, match="was changed or damaged"):
        registry.champion_document("digits")


def test_variants_are_published_under_their_digest(register: Register) -> None:
    for variant in register().variants:
        content = FILES[variant.kind]
        folder = variant.digest.removeprefix("sha256:")
        assert variant.url == f"{settings.storage()}/models/{folder}/{variant.kind}.tflite"
        assert storage.read_verified(variant.url, variant.digest) == content


def test_the_source_of_a_version_is_a_folder_of_the_run_with_all_its_files(register: Register) -> None:
    register()
    (found,) = connect().search_model_versions("name = 'digits'")
    assert found.run_id
    assert found.source
    files = connect().list_artifacts(found.run_id, registry.FOLDER)
    assert found.source.endswith("/artifacts/model")
    assert {Path(file.path).name for file in files} == {
        "state.safetensors",
        "float32.tflite",
        "int8.tflite",
        "gates.json",
        "decision.json",
        "evaluation.json",
    }


def test_device_classes_get_the_variants_that_fit(register: Register) -> None:
    found = register(results=[measured("float32"), measured("int8", score=0.96)])
    assert found.devices == {"gateway": "float32", "hub": "int8"}


def test_a_version_that_passed_is_candidate_and_champion(register: Register) -> None:
    assert register().champion
    assert registry.versions("digits")[0].aliases == ("candidate", "champion")
    assert champion() == 1


def test_a_version_that_failed_stays_candidate_and_the_champion_stays(register: Register) -> None:
    register()
    assert not register("run-2", b"worse", score=0.5).champion
    newest, oldest = registry.versions("digits")
    assert (newest.version, newest.aliases) == (2, ("candidate",))
    assert (oldest.version, oldest.aliases) == (1, ("champion",))


def test_registering_again_gives_the_same_version_and_decision(task: FederatedTask) -> None:
    first = register_version(task, "run-1")
    assert register_version(task, "run-1") == first
    assert len(registry.versions("digits")) == 1


def test_a_late_retry_does_not_dethrone_a_newer_champion(register: Register) -> None:
    register()
    register("run-2", b"better")
    assert register().version == 1
    assert champion() == 2
    assert registry.versions("digits")[0].aliases == ("candidate", "champion")


class TestStaleDecisions:
    def test_a_model_is_held_against_the_champion_of_the_moment_when_it_is_registered(
        self, task: FederatedTask
    ) -> None:
        register_version(task, "run-1", weights=b"best", score=0.99)
        version, decision = register_version(task, "run-2", score=0.95)  # judged when there was no champion
        assert not decision.passed
        assert decision.champion == Champion(version=1, score=0.99)
        assert not version.champion
        assert champion() == 1
        assert registry.versions("digits")[0].decision == decision

    def test_a_decision_that_still_stands_is_not_taken_again(self, task: FederatedTask) -> None:
        register_version(task, "run-1")
        decision = register_version(task, "run-2", against=Rival(1, "accuracy", 0.5))[1]
        assert decision.champion == Champion(version=1, score=0.5)

    def test_a_registration_that_is_cut_off_after_the_alias_goes_on_to_the_same_end(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlflow import MlflowClient

        whole = MlflowClient.set_model_version_tag

        def cut_off(client: Any, name: str, version: str, key: str, value: str) -> None:
            if key == registry.DECISION:
                raise KeyboardInterrupt
            whole(client, name, version, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_model_version_tag", cut_off)
            with pytest.raises(KeyboardInterrupt):
                register_version(task, "run-1")
        assert champion() == 1
        version, decision = register_version(task, "run-1")
        assert (version.version, version.champion, decision.champion) == (1, True, None)
        assert len(registry.versions("digits")) == 1

    def test_a_decision_on_other_weights_is_refused(self, task: FederatedTask) -> None:
        judged = register_version(task, "run-1")[1]
        with pytest.raises(IntegrityError, match="run gate_model again"):
            registration.register(
                task,
                "run-2",
                None,  # type: ignore[arg-type]
                registration.Trained(
                    Path("state"), "sha256:1", "sha256:1", round=1, evaluation=evaluated(0.98)
                ),
                FILES,
                [measured("float32"), measured("int8")],
                judged,
            )


class TestKeepingTheChampion:
    """A model that passes its gate and is not better than the champion."""

    careful = parse("name: digits\ndata: {source: digits}\ngate: {min: 0.5, replace: better}\n")

    def register(self, run: str, wrong: int) -> tuple[ModelVersion, GateDecision]:
        errors = paired.pack(np.arange(200) < wrong)
        facts = {"errors": errors, "examples": 200, "test_digest": "sha256:" + "d" * 64}
        score = 1 - wrong / 200
        return register_version(self.careful, run, weights=run.encode(), score=score, facts=facts)

    def test_it_is_registered_and_the_champion_stays(self) -> None:
        assert self.register("run-1", wrong=20)[1].decision == "pass"
        version, decision = self.register("run-2", wrong=18)
        assert (decision.decision, version.version, version.champion) == ("kept", 2, False)
        assert [entry.aliases for entry in registry.versions("digits")] == [("candidate",), ("champion",)]
        assert self.register("run-2", wrong=18) == (version, decision)
        with pytest.raises(ReleaseError, match="never became the champion"):
            roll_back("digits", 2, "try it")

    def test_a_better_one_takes_its_place(self) -> None:
        self.register("run-1", wrong=20)
        version, decision = self.register("run-2", wrong=4)
        assert decision.passed
        assert decision.comparison
        assert decision.comparison.examples == 200
        assert champion() == version.version == 2

    def test_a_champion_whose_evaluation_was_changed_is_not_compared(self) -> None:
        self.register("run-1", wrong=20)
        (kept,) = settings.home().rglob("evaluation.json")
        kept.write_bytes(kept.read_bytes().replace(b"0.9", b"0.1"))
        with pytest.raises(IntegrityError, match="the evaluation of version 1 of digits was changed"):
            self.register("run-2", wrong=4)


class TestFollowingTheChampion:
    def test_it_is_done_for_the_champion_whoever_asks(self, register: Register) -> None:
        register()
        register("run-2", b"better")
        acted: list[int] = []

        def act(champion: ModelVersion) -> int:
            acted.append(champion.version)
            return champion.version

        champion, result = registry.for_champion("digits", act)
        assert (champion.version, result, acted) == (2, 2, [2])

    def test_it_is_done_again_when_another_version_became_champion_meanwhile(
        self, register: Register
    ) -> None:
        register()
        acted = []

        def act(version: ModelVersion) -> int:
            acted.append(version.version)
            if version.version == 1:
                other = threading.Thread(target=register, args=("run-2", b"better"))
                other.start()
                other.join()
            return version.version

        assert registry.for_champion("digits", act)[1] == 2
        assert acted == [1, 2]

    def test_without_a_champion_there_is_nothing_to_follow(self, register: Register) -> None:
        register(score=0.5)
        with pytest.raises(ReleaseError, match="no version of digits has the alias champion"):
            registry.champion_document("digits")

    def test_a_champion_of_an_older_fededge_is_named(self, register: Register) -> None:
        register()
        connect().delete_model_version_tag("digits", "1", registry.DOCUMENT)
        with pytest.raises(ReleaseError, match="version 1 of digits has no document"):
            registry.champion_document("digits")


def test_a_task_that_was_never_registered_has_no_versions_and_no_champion() -> None:
    assert registry.versions("digits") == []
    assert registry.champion("digits") is None
    assert registry.models() == []


def test_asking_for_models_makes_no_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDEDGE_HOME", str(tmp_path / "home"))
    assert registry.models() == registry.versions("digits") == []
    assert list(tmp_path.iterdir()) == []


def test_models_lists_the_newest_version_of_each(register: Register) -> None:
    register()
    register("run-2", b"better")
    assert [(model.name, model.version) for model in registry.models()] == [("digits", 2)]


def test_a_model_that_failed_is_a_candidate_whatever_its_variants_are(register: Register) -> None:
    document = register(results=[failed("float32"), failed("int8")], score=0.5)
    assert (document.devices, document.variants) == ({}, [])
    assert registry.versions("digits")[0].aliases == ("candidate",)


def test_a_variant_that_failed_its_gate_is_not_published(register: Register) -> None:
    with pytest.raises(ReleaseError, match=r"endpoint\.variant float32 did not pass its gate \(too large\)"):
        register(results=[failed("float32", "too large"), measured("int8")])
    nothing_was_written()


def test_a_device_class_without_a_variant_stops_registration(register: Register) -> None:
    with pytest.raises(ReleaseError, match="device class hub"):
        register(results=[measured("float32"), failed("int8")])
    nothing_was_written()


def test_a_variant_changed_after_it_was_measured_is_refused(register: Register) -> None:
    with pytest.raises(IntegrityError, match="int8"):
        register(files={**FILES, "int8": b"other"}, results=[measured("float32"), measured("int8")])
    nothing_was_written()


def test_a_store_that_cannot_be_written_registers_nothing(
    register: Register, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FEDEDGE_STORAGE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        register()
    assert registry.versions("digits") == []


def test_only_what_passed_is_published(task: FederatedTask) -> None:
    unbound = task.model_copy(update={"devices": [], "endpoint": None})
    results = [failed("float32"), measured("int8")]
    document, _ = register_version(unbound, "run-1", results=results)
    assert [variant.kind for variant in document.variants] == ["int8"]
    with pytest.raises(ReleaseError, match="no variant passed its gate"):
        register_version(unbound, "run-2", results=results[:1])


def test_runs_that_register_at_the_same_time_are_each_held_against_the_other(register: Register) -> None:
    runs = [threading.Thread(target=register, args=(f"run-{n}", str(n).encode())) for n in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    found = registry.versions("digits")
    assert [entry.version for entry in found] == [3, 2, 1]
    judged = [entry.decision.champion for entry in found if entry.decision]
    assert [against and against.version for against in judged] == [2, 1, None]
    assert champion() == 3


def test_a_store_that_is_held_for_long_is_waited_for_in_turn() -> None:
    with connection.exclusive(), connection.exclusive():
        waiting = threading.Thread(target=registry.models)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_run_that_keeps_no_task_is_named(register: Register, task: FederatedTask) -> None:
    document = register()
    (file,) = (settings.home() / "mlartifacts").rglob("task.yaml")
    file.unlink()
    with pytest.raises(TrackingError, match="cannot read a task from MLflow"):
        registry.task_of(document)


def nothing_was_written() -> None:
    assert registry.versions("digits") == []
    assert not (settings.home() / "storage").exists()
