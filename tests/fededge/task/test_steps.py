"""Settings of steps in a task file, and in the file of a cluster's defaults: what is taken and what is refused."""

import re
from pathlib import Path

import pytest

from fededge.errors import TaskError
from fededge.task import FederatedTask, load_cluster_settings, parse
from fededge.task.keys import NOT_BY_STEP
from fededge.task.steps import StepSettings

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "kubeflow.md"


def read(steps: str) -> FederatedTask:
    return parse(f"name: a\ndata: {{source: digits}}\noperation:\n  steps: {steps}\n")


def test_what_a_task_says_of_its_steps_travels_unchanged_and_nothing_else() -> None:
    spec = read("{run-rounds: {cpu_limit: 2, memory_limit: null}}")
    assert FederatedTask.from_json(spec.to_json()) == spec
    assert '"steps":{"run-rounds":{"cpu_limit":"2","memory_limit":null}}' in spec.to_json()


def test_a_change_on_the_command_line_reaches_a_key_of_a_step() -> None:
    text = "name: a\ndata: {source: digits}\n"
    spec = parse(text, changes=["operation.steps.run-rounds.environment.LEVEL=3"])
    assert spec.operation.steps["run-rounds"].environment == {"LEVEL": "3"}


@pytest.mark.parametrize("key", sorted(NOT_BY_STEP))
def test_what_kubeflow_cannot_say_for_a_step_is_refused_with_another_way(key: str) -> None:
    with pytest.raises(TaskError, match=f"{key}: Kubeflow Pipelines cannot say this for a step: .{{20}}"):
        read(f"{{run-rounds: {{{key}: high}}}}")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("cpu_limit: lots", "cpu_limit: String should match pattern"),
        ("memory_limit: 8GB", "memory_limit: String should match pattern"),
        ("memory_limit: 0", "memory_limit: String should match pattern"),
        ("cpu_limt: 1", "unknown key; did you mean cpu_limit"),
        ("environment: {DB_PASSWORD: x}", "DB_PASSWORD looks like a secret"),
        ("proxy: {https: 'http://me:word@proxy:3128'}", "proxy.https: String should match pattern"),
        ("volumes: [{path: /data}]", "this has none"),
        ("volumes: [{path: /data, claim: a, secret: b}]", "this has claim and secret"),
        ("volumes: [{path: /minio/a, claim: a}]", "path /minio/a is taken"),
        ("volumes: [{path: /a, claim: a}, {path: /a, claim: b}]", "/a is mounted twice"),
        ("volumes: [{path: /a, secret: a}, {path: /b, secret: a}]", "secret a is mounted twice"),
        ("volumes: [{path: /a, empty_dir: 1Gi, sub_path: b}]", "sub_path goes with claim"),
        ("ca_bundle: {key: ca.crt}", "name one of them"),
        ("tolerations: [{value: a}]", "operator Equal needs a key"),
        ("tolerations: [{operator: Exists, value: a}]", "operator Exists takes no value"),
        ("tolerations: [{operator: Exists, seconds: 5}]", "seconds go with effect NoExecute"),
        ("node_affinity: [{expressions: [{key: zone}]}]", "operator In needs values"),
        ("node_affinity: [{expressions: [{key: n, operator: Gt, values: [a]}]}]", "compares with one whole"),
        ("pull_policy: Sometimes", "pull_policy: Input should be"),
    ],
)
def test_a_mistake_is_told_by_its_place(settings: str, told: str) -> None:
    with pytest.raises(TaskError, match=rf"^task:4: operation\.steps\.run-rounds.*{re.escape(told)}"):
        read(f"{{run-rounds: {{{settings}}}}}")


def test_the_file_of_a_cluster_is_read_as_strictly_as_a_task(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("steps:\n  default: {pull_secrets: [harbor]}\n")
    assert load_cluster_settings(file).steps["default"].pull_secrets == ["harbor"]
    for text, told in (
        ("steps:\n  default: {pull_secret: [harbor]}\n", r":2: steps\.default\.pull_secret: .*pull_secrets"),
        ("step: {}\n", r":1: step: unknown key; did you mean steps"),
        ("steps:\n  default: {priority: high}\n", r":2: .*PriorityClass"),
        ("- a\n", r"say at least `steps: \{\}`"),
    ):
        file.write_text(text)
        with pytest.raises(TaskError, match=told):
            load_cluster_settings(file)
    with pytest.raises(TaskError, match="nowhere"):
        load_cluster_settings(tmp_path / "nowhere.yaml")


def test_the_guide_names_every_setting_of_a_step() -> None:
    section = re.search(r"^## What steps get\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert section
    rows = re.findall(r"^\| (`[^|]*) \|", section[1], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} == set(
        StepSettings.model_fields
    )
