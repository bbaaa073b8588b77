"""The doctor, on this machine, and against a Kubernetes API that answers from a table of paths."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge import settings, storage
from fededge import task as tasks
from fededge.delivery import readiness
from fededge.delivery.api_server import ApiServer
from fededge.errors import KubeflowError
from pipelines.compiled import images
from pipelines.doctor import cluster, machine, pipeline
from pipelines.doctor.needs import Needs, WorkerNeeds, needs_of
from pipelines.federated_training.pipeline import compile_to

from .fake_api_server import serving

SPREAD = "learning: {workers: {replicas: 3}}"
TASK = tasks.parse("name: a\ndata: {source: digits}\nendpoint: {name: a, namespace: serving}\n")
NEEDS = Needs(secrets={"fededge-config": frozenset({"FEDEDGE_STORAGE"})}, images=[], cpu=1.0, memory=2 << 30)
SECRETS = "/api/v1/namespaces/kubeflow/secrets/"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
JOBS = "/apis/kubeflow.org/v1"
SELDON = "/apis/machinelearning.seldon.io/v1"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
ENDPOINTS = "/api/v1/namespaces/seldon-system/endpoints/seldon-webhook-service"


def healthy() -> dict[str, Any]:
    """What a cluster answers where all is well: objects by path; a number is a refusal with that status."""
    hook = {"clientConfig": {"service": {"namespace": "seldon-system", "name": "seldon-webhook-service"}}}
    return {
        "/api/v1/namespaces/kubeflow": {"kind": "Namespace"},
        f"{SECRETS}fededge-config": {"data": {"FEDEDGE_STORAGE": "eA=="}},
        "/api/v1/namespaces/serving/secrets/fededge-storage": {"data": {}},
        SELDON: {"resources": [{"name": "seldondeployments"}]},
        HOOKS: {"items": [{"metadata": {"name": "seldon-validating"}, "webhooks": [hook]}]},
        ENDPOINTS: {"subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]},
        REVIEWS: {"status": {"allowed": True}},
        "/api/v1/nodes": {"items": [node("n", "2", "8Gi")]},
        "/api/v1/pods": {"items": [pod("n", "500m", "1Gi")]},
    }


def node(name: str, cpu: str, memory: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {}, "status": {"allocatable": {"cpu": cpu, "memory": memory}}}


def pod(where: str, cpu: str, memory: str) -> dict[str, Any]:
    asked = {"resources": {"requests": {"cpu": cpu, "memory": memory}}}
    return {"spec": {"nodeName": where, "containers": [asked]}}


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The table from which the API of the configured cluster answers."""
    with serving(healthy(), tmp_path, monkeypatch) as table:
        yield table


def looked() -> dict[str, readiness.Finding]:
    return {f.check: f for f in cluster.look(ApiServer(), TASK, NEEDS, multi_user=False)}


def test_a_cluster_that_has_everything_is_good(answers: dict[str, Any]) -> None:
    found = looked()
    assert [f.check for f in found.values() if not f.good] == []
    assert "1.5 CPU and 7.0 GiB free" in found["room for the largest step"].found
    assert "rights of system:serviceaccount:kubeflow:pipeline-runner in serving" in found


@pytest.mark.parametrize(
    ("path", "answer", "check", "words"),
    [
        ("/api/v1/namespaces/kubeflow", 404, "namespace kubeflow", "no such namespace"),
        (f"{SECRETS}fededge-config", 404, "secret kubeflow/fededge-config", "is missing"),
        (f"{SECRETS}fededge-config", {"data": {}}, "secret kubeflow/fededge-config", "lacks FEDEDGE_STORAGE"),
        (SELDON, 404, "Seldon Core", "does not know SeldonDeployments"),
        (ENDPOINTS, {"subsets": []}, "Seldon Core", "no ready pod is behind its webhook"),
        (
            "/api/v1/namespaces/serving/secrets/fededge-storage",
            404,
            "secret serving/fededge-storage",
            "missing",
        ),
        ("/api/v1/nodes", {"items": [node("n", "1", "8Gi")]}, "room for the largest step", "n has 0.5 CPU"),
        (
            REVIEWS,
            {"status": {"allowed": False}},
            "rights of system:serviceaccount:kubeflow:pipeline-runner in serving",
            "may not get seldondeployments",
        ),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(
    answers: dict[str, Any], path: str, answer: Any, check: str, words: str
) -> None:
    answers[path] = answer
    found = looked()
    assert words in found[check].found
    assert found[check].remedy
    assert [f.check for f in found.values() if not f.good] == [check]


@pytest.mark.parametrize(
    ("path", "answer", "check", "words"),
    [
        ("", None, "", ""),
        (JOBS, 404, "Training Operator", "does not know TFJobs"),
        (JOBS, {"resources": [{"name": "pytorchjobs"}]}, "Training Operator", "does not know TFJobs"),
        (
            REVIEWS,
            {"status": {"allowed": False}},
            "rights of system:serviceaccount:kubeflow:pipeline-runner to start workers",
            "may not get tfjobs",
        ),
        (
            "/api/v1/nodes",
            {"items": [node("n", "2", "8Gi"), node("m", "900m", "100Gi")]},
            "room for the workers",
            "3 pods of 0.5 CPU and 2.0 GiB, of which 2 fit now",
        ),
    ],
)
def test_what_workers_need_is_looked_for_where_a_task_has_some(
    answers: dict[str, Any], path: str, answer: Any, check: str, words: str
) -> None:
    task = tasks.parse(f"name: a\ndata: {{source: digits}}\n{SPREAD}\n")
    needs = replace(NEEDS, cpu=0.1, workers=WorkerNeeds(3, 0.5, 2.0 * 2**30))
    answers["/api/v1/nodes"] = {"items": [node("n", "2", "8Gi"), node("m", "4", "100Gi")]}
    answers["/api/v1/pods"] = {
        "items": [pod("n", "500m", "1Gi"), pod("n", "500m", "1Gi"), pod("m", "500m", "1Gi")]
    }
    answers[JOBS] = {"resources": [{"name": "tfjobs"}, {"name": "tfjobs/status"}]}
    if path:
        answers[path] = answer
    found = {f.check: f for f in cluster.look(ApiServer(), task, needs, multi_user=False)}
    assert [f.check for f in found.values() if not f.good] == ([check] if check else [])
    assert not check or words in found[check].found


def test_what_a_user_may_not_look_at_is_no_fault(answers: dict[str, Any]) -> None:
    answers["/api/v1/nodes"] = 403
    found = looked()["room for the largest step"]
    assert found.good
    assert "may not look" in found.found


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(KubeflowError, match="no Kubernetes cluster is configured"):
        ApiServer()


def test_needs_are_read_from_the_compiled_pipeline(tmp_path: Path) -> None:
    compile_to(TASK, tmp_path / "p.yaml")
    needs = needs_of(tmp_path / "p.yaml")
    assert needs.secrets["fededge-config"] == {"MLFLOW_TRACKING_URI", "FEDEDGE_STORAGE"}
    assert "fededge-checkpoint-key" in needs.secrets
    assert "fededge-storage" not in needs.secrets, "it is optional"
    assert needs.cpu == 1.0
    assert needs.memory == pytest.approx(2 << 30)
    assert len(needs.images) == 3


def test_the_run_inside_tries_every_image(tmp_path: Path) -> None:
    compile_to(TASK, tmp_path / "p.yaml")
    pipeline.compile_to(TASK, tmp_path / "doctor.yaml")
    spec = next(yaml.safe_load_all((tmp_path / "doctor.yaml").read_text()))
    assert images(spec) == needs_of(tmp_path / "p.yaml").images
    assert spec["pipelineInfo"]["name"] == "fededge-doctor"
    assert needs_of(tmp_path / "doctor.yaml").secrets.keys() == {"fededge-config"}


def test_this_machine_is_good_and_nothing_is_left_behind() -> None:
    assert [f for f in machine.look() if not f.good] == []
    assert storage.names(storage.join(settings.storage(), "doctor")) == []


def test_tracking_and_store_that_do_not_serve_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEDEDGE_STORAGE", str(tmp_path / "file"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracking, store = readiness.inside()
    assert "nobody answers there" in tracking.found
    assert "cannot write" in store.found
    assert tracking.remedy
    assert store.remedy
