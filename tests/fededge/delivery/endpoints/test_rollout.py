"""Waiting for a version on a cluster, against what a real Kubernetes with Seldon Core 1.18.2 answered.

The recordings are played back through a fake API server with a clock of its own.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fededge.delivery.endpoints import cluster
from fededge.delivery.endpoints.cluster import Cluster
from fededge.delivery.endpoints.rollout import last_words
from fededge.delivery.endpoints.seldon import build_seldon_deployment
from fededge.errors import EndpointError
from fededge.task import Endpoint as Wanted
from tests.fake_cluster import FakeCluster, serving
from tests.model_versions import model_version, published

NAME = "digits-kill"
Play = Callable[..., FakeCluster]


def manifest(number: int) -> dict[str, Any]:
    variant = published("s3://models/x.tflite", digest="sha256:" + str(number) * 64, bytes=1)
    version = model_version([variant], name="digits", version=number)
    return build_seldon_deployment(Wanted(name=NAME), 1, version, "image")


@pytest.fixture
def play(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Starts a recording, as it went after a version was applied."""
    fake = FakeCluster()

    def start(recording: str, number: int) -> FakeCluster:
        file = shared / "recorded" / f"seldon-update-{recording}.jsonl"
        if not file.exists():
            pytest.skip(f"no recording at {file}")
        fake.recording = [json.loads(line) for line in file.read_text().splitlines()]
        fake.now = 0.0
        fake.objects[NAME] = manifest(number)
        return fake

    with serving(fake, tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
        monkeypatch.setattr(cluster, "time", fake.clock())
        yield start


def waited(number: int, **limits: float) -> None:
    Cluster().wait(manifest(number), **limits)


def test_a_good_update_is_over_when_the_new_version_alone_answers(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = play("good", 2)
    waited(2)
    assert 24.5 <= fake.now <= 26  # Seldon says Available from 0.0 to 0.4 s, too: of version 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(f"fededge: endpoint {NAME}, ") for line in lines)
    assert len(lines) == 5  # 0 to 24 s, each 5 s
    assert "Seldon has not updated its Deployment yet" in lines[0]
    assert (
        "0 of 1 new pods ready; pod digits-kill-main-0-model-c659c969d-tdkrw: seldon-container-engine not ready"
        in (lines[-1])
    )


def test_a_model_with_another_digest_is_told_within_a_minute_and_the_old_version_goes_on(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = play("wrong-digest", 3)
    with pytest.raises(EndpointError) as caught:
        waited(3)
    assert 45 <= fake.now <= 60
    assert "version 3 does not run at default/digits-kill" in str(caught.value)
    assert "container model of pod digits-kill-main-0-model-5495989f84-gwv54 ended with exit code 1" in str(
        caught.value
    )
    assert "Meanwhile version 2 goes on answering" in str(caught.value)
    assert "fededge rollback" in str(caught.value)
    assert "restarted 2 times" in capsys.readouterr().out


def test_an_image_that_is_not_there_is_told_within_a_minute_in_the_pods_words(play: Play) -> None:
    fake = play("image-absent", 4)
    with pytest.raises(EndpointError, match="no such host") as caught:
        waited(4)
    assert 45 <= fake.now <= 60
    assert "ghcr.io/fededge/serving:absent" in str(caught.value)
    assert "Meanwhile version 2 goes on answering. Remedy: push that image" in str(caught.value)


def test_a_repaired_version_over_a_failed_one_is_over_when_it_answers(play: Play) -> None:
    fake = play("repaired", 5)
    waited(5)
    assert 24.2 <= fake.now <= 26


def test_a_pod_that_fits_on_no_node_is_told_within_a_minute(play: Play) -> None:
    fake = play("unschedulable", 6)
    with pytest.raises(EndpointError, match="is Unschedulable: 0/1 nodes are available: 1 Insufficient cpu"):
        waited(6)
    assert 45 <= fake.now <= 60


def test_more_patience_waits_for_a_node_that_is_added_later(play: Play) -> None:
    fake = play("unschedulable", 6)
    with pytest.raises(EndpointError, match="after 300 s"):
        waited(6, patience=300, deadline=300)
    assert fake.now >= 300


def test_what_seldon_says_meanwhile_changes_nothing(play: Play) -> None:
    """Available, Creating, Available, Creating, Available, and Failed: seen during good updates."""
    fake = play("good", 2)
    for line, state in zip(
        fake.recording, ["Available", "Creating", "Available", "Failed", "Available"], strict=False
    ):
        line["seldondeployment"]["status"]["state"] = state
    waited(2)
    assert 24.5 <= fake.now <= 26


def test_services_that_are_still_made_are_waited_for(play: Play) -> None:
    fake = play("good", 2)
    for line in fake.recording[:-2]:
        line["seldondeployment"]["status"]["state"] = "Creating"
    waited(2)
    assert 37.5 <= fake.now <= 39


def test_a_cluster_that_does_not_answer_for_a_while_is_asked_again(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = play("good", 2)
    fake.refusals = [(503, "etcd has no leader")] * 8
    waited(2)
    assert fake.refusals == []
    assert fake.now <= 26
    assert "503 etcd has no leader" in capsys.readouterr().out


def test_missing_rights_are_told_at_once(play: Play) -> None:
    fake = play("good", 2)
    fake.refusals = [(403, 'deployments.apps is forbidden: User "runner" cannot get resource')]
    with pytest.raises(EndpointError, match=r"runner.*the rights of manifests/base/endpoints"):
        waited(2)
    assert fake.now == 0


def trouble(play: Play, **container: Any) -> str:
    """What is said where the new pod's container is in this state, for good."""
    fake = play("unschedulable", 6)
    pod = next(each for each in fake.recording[-1]["pods"] if each["model_version"] == "6")
    usual = {"name": "model", "ready": False, "restarts": 0, "state": {}, "last_state": {}}
    pod |= {"conditions": [], "containers": [{**usual, **container}]}
    with pytest.raises(EndpointError) as caught:
        waited(6)
    assert fake.now <= 60
    return str(caught.value)


def test_the_last_words_of_a_server_are_told(play: Play) -> None:
    """With `terminationMessagePolicy: FallbackToLogsOnError`, the end of its log is in the pod's state."""
    log = (
        "Traceback (most recent call last):\n  File ...\nfededge.errors.StorageError: cannot read s3://models/"
        "x.tflite: Unable to locate credentials\n"
    )
    ended = {"exitCode": 1, "reason": "Error", "message": log}
    said = trouble(play, restarts=3, state={"running": {}}, last_state={"terminated": ended})
    assert (
        "(Error), restarted 3 times: cannot read s3://models/x.tflite: Unable to locate credentials" in said
    )


def test_a_secret_that_is_missing_is_told_with_what_to_do(play: Play) -> None:
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "fededge-storage" not found'}
    said = trouble(play, state={"waiting": waiting})
    assert 'CreateContainerConfigError: secret "fededge-storage" not found' in said
    assert "Remedy: create the secret" in said


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"},
            "FailedCreate: quota",
        ),
        (
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "x"},
            "ProgressDeadlineExceeded: x",
        ),
    ],
)
def test_what_a_deployment_itself_cannot_do_is_told(
    play: Play, condition: dict[str, str], words: str
) -> None:
    fake = play("unschedulable", 6)
    fake.recording[-1]["pods"] = []
    fake.recording[-1]["deployments"][0]["status"]["conditions"] = [condition]
    with pytest.raises(EndpointError, match=words):
        waited(6)
    assert fake.now <= 60


def test_last_words_are_our_own_error_or_the_last_line() -> None:
    assert last_words("a\nfededge.errors.IntegrityError: changed\nb\n") == "changed"
    assert last_words("a\n\nb\n\n") == "b"
    assert last_words("\n") == "it said nothing"
