from pathlib import Path
from typing import Any

import pytest

from fededge import settings, storage
from fededge.delivery import registry
from fededge.errors import IntegrityError, ReleaseError, StorageError
from fededge.task import FederatedTask
from fededge.tracking.connection import connect
from fededge.tracking.run import TrackedRun

FILES = {"float32": b"float32 model", "int8": b"int8 model"}

pytestmark = pytest.mark.usefixtures("store")


def measured(kind: str, **facts: Any) -> dict[str, Any]:
    usual = {
        "digest": storage.digest(FILES[kind]),
        "bytes": len(FILES[kind]),
        "compressed_bytes": 5,
        "accuracy": 0.97,
        "accuracy_loss": 0.0,
        "latency_ms_1": 0.1,
        "latency_ms_500": 20.0,
        "shape": [28, 28, 1],
        "classes": 10,
        "passed": True,
        "reasons": [],
    }
    return {"kind": kind, **usual, **facts}


@pytest.fixture
def register(task: FederatedTask, tmp_path: Path) -> Any:
    """Registers a model as pipeline run `run` would."""

    def call(run: str = "run-1", content: bytes = b"weights", passed: bool = True, **options: Any) -> Any:
        state = tmp_path / "state.safetensors"
        state.write_bytes(content)
        model = registry.Trained(state, storage.digest(content), round=12, accuracy=0.98)
        results = options.get("measured", [measured("float32"), measured("int8", accuracy=0.96)])
        tracked = TrackedRun.join(run, task)
        return registry.register(task, run, tracked, model, options.get("files", FILES), results, passed)

    return call


def test_a_version_knows_where_it_comes_from(register: Any, task: FederatedTask) -> None:
    document = register()
    (version,) = registry.versions("digits")
    assert version.version == document["version"] == 1
    assert version.digest == document["state_digest"] == storage.digest(b"weights")
    assert version.task_digest == document["task_digest"] == task.digest
    assert version.git_commit == document["git_commit"]
    assert (version.round, version.accuracy) == (12, 0.98)
    run = connect().get_run(version.run_id)
    assert run.data.tags["fededge.run"] == document["run"] == "run-1"


def test_variants_are_published_under_their_digest(register: Any) -> None:
    for variant in register()["variants"]:
        content = FILES[variant["kind"]]
        folder = variant["digest"].removeprefix("sha256:")
        assert variant["url"] == f"{settings.storage()}/models/{folder}/{variant['kind']}.tflite"
        assert storage.read_verified(variant["url"], variant["digest"]) == content


def test_the_source_of_a_version_is_a_folder_of_the_run_with_all_its_files(register: Any) -> None:
    register()
    (found,) = connect().search_model_versions("name = 'digits'")
    files = connect().list_artifacts(found.run_id, registry.FOLDER)
    assert found.source.endswith("/artifacts/model")
    assert {Path(file.path).name for file in files} == {
        "state.safetensors",
        "float32.tflite",
        "int8.tflite",
        "gates.json",
    }


def test_device_classes_get_the_variants_that_fit(register: Any) -> None:
    assert register()["devices"] == {"gateway": "float32", "hub": "int8"}


def test_a_version_that_passed_is_candidate_and_champion(register: Any) -> None:
    assert register()["champion"]
    assert registry.versions("digits")[0].aliases == ("candidate", "champion")
    champion = registry.champion("digits")
    assert champion
    assert champion.version == 1


def test_a_version_that_failed_stays_candidate_and_the_champion_stays(register: Any) -> None:
    register()
    assert not register("run-2", b"worse", passed=False)["champion"]
    newest, oldest = registry.versions("digits")
    assert (newest.version, newest.aliases) == (2, ("candidate",))
    assert (oldest.version, oldest.aliases) == (1, ("champion",))


def test_registering_again_gives_the_same_version(register: Any) -> None:
    assert register() == register()
    assert len(registry.versions("digits")) == 1


def test_a_late_retry_does_not_dethrone_a_newer_champion(register: Any) -> None:
    register()
    register("run-2", b"better")
    assert register()["version"] == 1
    champion = registry.champion("digits")
    assert champion
    assert champion.version == 2
    assert registry.versions("digits")[0].aliases == ("candidate", "champion")


def test_a_task_that_was_never_registered_has_no_versions_and_no_champion() -> None:
    assert registry.versions("digits") == []
    assert registry.champion("digits") is None
    assert registry.models() == []


def test_models_lists_the_newest_version_of_each(register: Any) -> None:
    register()
    register("run-2", b"better")
    assert [(model.name, model.version) for model in registry.models()] == [("digits", 2)]


def test_a_model_that_failed_is_a_candidate_whatever_its_variants_are(register: Any) -> None:
    failed = [measured(kind, passed=False, reasons=["loses 0.1"]) for kind in ("float32", "int8")]
    document = register(measured=failed, passed=False)
    assert (document["devices"], document["variants"]) == ({}, [])
    assert registry.versions("digits")[0].aliases == ("candidate",)


def test_a_variant_that_failed_its_gate_is_not_published(register: Any) -> None:
    failed = measured("float32", passed=False, reasons=["too large"])
    with pytest.raises(ReleaseError, match=r"endpoint\.variant float32 did not pass its gate \(too large\)"):
        register(measured=[failed, measured("int8")])
    nothing_was_written()


def test_a_device_class_without_a_variant_stops_registration(register: Any) -> None:
    with pytest.raises(ReleaseError, match="device class hub"):
        register(measured=[measured("float32"), measured("int8", passed=False, reasons=["loses 0.1"])])
    nothing_was_written()


def test_a_variant_changed_after_it_was_measured_is_refused(register: Any) -> None:
    with pytest.raises(IntegrityError, match="int8"):
        register(files={**FILES, "int8": b"other"})
    nothing_was_written()


def test_a_store_that_cannot_be_written_registers_nothing(
    register: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FEDEDGE_STORAGE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        register()
    assert registry.versions("digits") == []


def test_only_what_passed_is_published(register: Any, task: FederatedTask, tmp_path: Path) -> None:
    unbound = task.model_copy(update={"devices": [], "endpoint": None})
    state = tmp_path / "state"
    state.write_bytes(b"weights")
    results = [measured("float32", passed=False, reasons=["too large"]), measured("int8")]
    document = registry.register(
        unbound,
        "run-1",
        TrackedRun.join("run-1", unbound),
        registry.Trained(state, "sha256:aa", round=1, accuracy=0.9),
        FILES,
        results,
        passed=True,
    )
    assert [variant["kind"] for variant in document["variants"]] == ["int8"]
    with pytest.raises(ReleaseError, match="no variant passed its gate"):
        registry.register(
            unbound,
            "run-1",
            TrackedRun.join("run-1", unbound),
            registry.Trained(state, "sha256:aa", round=1, accuracy=0.9),
            FILES,
            results[:1],
            passed=True,
        )


def nothing_was_written() -> None:
    assert registry.versions("digits") == []
    assert not (settings.home() / "storage").exists()
