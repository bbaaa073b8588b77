"""The kustomize manifests build offline, what they build is valid, and fits what runs and their steps do."""

import json
import re
from pathlib import Path

import pytest
import yaml

import fededge
from fededge.delivery.endpoints.seldon import build_seldon_deployment
from fededge.learning.runtimes import training_job
from fededge.task import Endpoint, FederatedTask
from pipelines.federated_training import steps
from pipelines.federated_training.pipeline import compile_to
from tests.built_manifests import (
    MANIFESTS,
    Manifest,
    build,
    check_restricted,
    check_valid,
    pods,
    selects,
)
from tests.model_versions import DIGEST, model_version, published

FOLDERS = sorted(
    file.parent
    for file in MANIFESTS.rglob("kustomization.yaml")
    if yaml.safe_load(file.read_text())["kind"] == "Kustomization"
)
COMPONENTS = sorted(file.parent for file in (MANIFESTS / "components").rglob("kustomization.yaml"))
OF_ANOTHER_PIPELINE = {"workflows.argoproj.io/workflow": "theirs", "pipeline/runid": "1", "app": "theirs"}


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


@pytest.fixture
def with_component(tmp_path: Path) -> Path:
    """A folder for an overlay of the test's own beside a copy of the manifests."""
    (tmp_path / "manifests").symlink_to(MANIFESTS)
    (tmp_path / "overlay").mkdir()
    return tmp_path / "overlay"


@pytest.fixture
def step_labels(tmp_path: Path) -> list[dict[str, str]]:
    """The labels of each step of a compiled pipeline."""
    content = {"name": "digits", "data": {"source": "digits"}, "endpoint": {"name": "digits"}}
    compile_to(FederatedTask.from_json(json.dumps(content)), tmp_path / "pipeline.yaml")
    platform = list(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))[1]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return [executor["podMetadata"]["labels"] for executor in executors.values()]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(MANIFESTS)))
def test_what_is_built_is_valid(folder: Path) -> None:
    built = build(folder)
    assert built
    for each in built:
        # Those of other kinds: test_mesh.py, test_relay.py, test_functions.py.
        if not re.search(r"((istio|kubeedge)\.io|serving\.knative\.dev)/", each["apiVersion"]):
            check_valid(each)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(MANIFESTS)))
def test_every_pod_passes_restricted_pod_security(folder: Path) -> None:
    for pod in pods(build(folder)):
        check_restricted(pod["spec"])


def test_the_pod_of_an_endpoint_passes_restricted_pod_security() -> None:
    version = model_version([published("s3://models/a", digest=DIGEST, bytes=1)])
    manifest = build_seldon_deployment(Endpoint(name="tiny"), 1, version, "serving:1")
    for predictor in manifest["spec"]["predictors"]:
        for part in predictor["componentSpecs"]:
            check_restricted(part["spec"])


@pytest.mark.parametrize(
    "broken",
    [
        {"hostNetwork": True},
        {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
        {"securityContext": {"runAsNonRoot": True}},
        {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}},
    ],
)
def test_the_check_of_pod_security_finds_what_it_refuses(broken: Manifest) -> None:
    (pod,) = pods(build(MANIFESTS / "base" / "mlflow"))
    with pytest.raises(AssertionError):
        check_restricted({**pod["spec"], **broken})


def test_policies_services_and_budgets_find_the_pods_that_they_are_for() -> None:
    built = build(MANIFESTS / "overlays" / "mlflow-replicated")
    labels = [pod["metadata"]["labels"] for pod in pods(built)]
    assert len(labels) == 2
    selectors = [{"matchLabels": each["spec"]["selector"]} for each in of_kind(built, "Service")]
    selectors += [each["spec"]["podSelector"] for each in of_kind(built, "NetworkPolicy")]
    selectors += [each["spec"]["selector"] for each in of_kind(built, "PodDisruptionBudget")]
    assert [sum(selects(selector, each) for each in labels) for selector in selectors] == [1] * 5


def test_the_rights_are_those_that_a_deployment_uses() -> None:
    role = next(each for each in build(MANIFESTS / "base" / "endpoints") if each["kind"] == "Role")
    assert role["rules"] == [
        {
            "apiGroups": ["machinelearning.seldon.io"],
            "resources": ["seldondeployments"],
            "verbs": ["get", "create", "patch"],
        },
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]


def test_steps_may_do_with_jobs_of_workers_what_they_do_and_no_more() -> None:
    role, binding = build(MANIFESTS / "base" / "workers")
    assert role["rules"] == [
        {
            "apiGroups": [training_job.GROUP],
            "resources": [training_job.TFJOB.plural, training_job.PYTORCHJOB.plural],
            "verbs": list(training_job.VERBS),
        }
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_nobody_may_connect_to_a_step_and_other_pods_are_left_alone(
    step_labels: list[dict[str, str]],
) -> None:
    (policy,) = build(MANIFESTS / "base" / "steps")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy["spec"]
    assert step_labels
    assert all(selects(policy["spec"]["podSelector"], labels) for labels in step_labels)
    assert not selects(policy["spec"]["podSelector"], OF_ANOTHER_PIPELINE)


def test_mlflow_may_be_asked_by_steps_and_by_who_is_given_the_label(
    step_labels: list[dict[str, str]],
) -> None:
    (policy,) = of_kind(build(MANIFESTS / "base" / "mlflow"), "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    asked_by = [each["podSelector"] for each in rule["from"]]

    def may_ask(labels: dict[str, str]) -> bool:
        return any(selects(selector, labels) for selector in asked_by)

    assert all(map(may_ask, step_labels))
    assert may_ask({"fededge.io/mlflow-client": "true"})
    assert not may_ask(OF_ANOTHER_PIPELINE)


def test_in_a_profile_the_rights_go_to_its_editor() -> None:
    bindings = of_kind(build(MANIFESTS / "overlays" / "profile"), "RoleBinding")
    assert {each["metadata"]["name"] for each in bindings} == {"fededge-endpoints", "fededge-workers"}
    for each in bindings:
        namespace = each["metadata"]["namespace"]
        assert each["subjects"] == [
            {"kind": "ServiceAccount", "name": "default-editor", "namespace": namespace}
        ]


def test_the_rights_in_kubeflow_go_to_the_runner_of_pipelines() -> None:
    bindings = of_kind(build(MANIFESTS / "overlays" / "kubeflow"), "RoleBinding")
    assert len(bindings) == 2
    for each in bindings:
        (subject,) = each["subjects"]
        assert (subject["name"], subject["namespace"]) == ("pipeline-runner", "kubeflow")


def test_our_images_are_of_this_version() -> None:
    images = [
        container["image"]
        for folder in FOLDERS
        for pod in pods(build(folder))
        for container in pod["spec"]["containers"]
    ]
    ours = {image for image in images if image.startswith("ghcr.io/fededge/")}
    assert ours == {
        f"ghcr.io/fededge/{name}:{fededge.__version__}" for name in ("edge", "platform", "worker")
    }


def test_external_secrets_make_the_secrets_that_steps_read(with_component: Path) -> None:
    (with_component / "kustomization.yaml").write_text(
        "resources: [../manifests/overlays/kubeflow]\ncomponents: [../manifests/components/external-secrets]\n"
    )
    made = of_kind(build(with_component.resolve()), "ExternalSecret")
    for each in made:
        check_valid(each)
    names = {steps.CONFIGURATION, *steps.CREDENTIALS, steps.SIGNING_KEY, steps.CHECKPOINT_KEY, steps.FLEET}
    assert {each["spec"]["target"]["name"] for each in made} == names


def test_a_pull_secret_comes_from_the_account_of_a_robot(with_component: Path) -> None:
    (with_component / "kustomization.yaml").write_text(
        "resources: [../manifests/overlays/kubeflow]\ncomponents: [../manifests/components/harbor]\n"
    )
    (made,) = of_kind(build(with_component.resolve()), "ExternalSecret")
    check_valid(made)
    template = made["spec"]["target"]["template"]
    assert template["type"] == "kubernetes.io/dockerconfigjson"
    text = re.sub(r"\{\{.*?\}\}", "filled", template["data"][".dockerconfigjson"])
    assert json.loads(text) == {
        "auths": {"filled": {"username": "filled", "password": "filled", "auth": "filled"}}
    }


def test_each_component_is_used_or_tried() -> None:
    used = "".join(file.read_text() for file in (MANIFESTS / "overlays").rglob("kustomization.yaml"))
    tried = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    for folder in COMPONENTS:
        assert f"components/{folder.name}" in used + tried
