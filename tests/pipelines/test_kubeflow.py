"""The real kfp client against an API that speaks the v2beta1 paths."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fededge.errors import KubeflowError
from fededge.ports import free_port
from fededge.task import FederatedTask
from pipelines.kubeflow import Kubeflow

from .fake_kfp_api import FakeKubeflow, serving

TASK = FederatedTask.from_json('{"name": "digits", "data": {"source": "digits"}}')


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKubeflow]:
    for name in (
        "KFP_NAMESPACE",
        "KFP_EXISTING_TOKEN",
        "KF_PIPELINES_UI_ENDPOINT",
        "KUBERNETES_SERVICE_HOST",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving() as fake:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", fake.url)
        yield fake


@pytest.fixture
def package(compiled: Callable[[str], Path]) -> Path:
    return compiled("whole")


def test_uploads_a_pipeline_and_its_versions_once_each(
    api: FakeKubeflow, package: Path, compiled: Callable[[str], Path]
) -> None:
    kubeflow = Kubeflow()
    first = kubeflow.upload(package, "fededge-digits")
    again = kubeflow.upload(package, "fededge-digits")
    other = kubeflow.upload(compiled("inspect"), "fededge-digits")
    assert (first.new, again.new, other.new) == (True, False, True)
    assert again.version_id == first.version_id != other.version_id
    assert first.pipeline_id == other.pipeline_id
    assert len(api.pipelines) == 1
    assert first.url == f"{api.url}/#/pipelines/details/{first.pipeline_id}/version/{first.version_id}"


def test_uploads_once_into_the_namespace_of_a_profile(
    api: FakeKubeflow, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Kubeflow().upload(package, "fededge-digits")
    monkeypatch.setenv("KFP_NAMESPACE", "alice")
    first, again = (Kubeflow().upload(package, "fededge-digits") for _ in range(2))
    assert (first.new, again.new) == (True, False)
    assert first.pipeline_id == again.pipeline_id != shared.pipeline_id


def test_the_version_of_the_server_is_told_where_it_knows_it(api: FakeKubeflow) -> None:
    assert Kubeflow().version == "2.17.0"
    api.tag = "unknown"
    assert Kubeflow().version is None


def test_starts_a_run_in_the_experiment_of_the_task(api: FakeKubeflow, package: Path) -> None:
    kubeflow = Kubeflow()
    submitted = [kubeflow.run(package, TASK) for _ in range(2)]
    assert [e["display_name"] for e in api.experiments.values()] == ["digits"]
    run = api.runs[submitted[0].id]
    assert run["runtime_config"]["parameters"] == {"task": TASK.to_json()}
    version = api.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    assert version["pipeline_spec"]["pipelineInfo"]["name"] == "whole"
    assert version["display_name"] == submitted[0].version
    assert [p["display_name"] for p in api.pipelines.values()] == ["fededge-digits"]
    assert submitted[0].url == f"{api.url}/#/runs/details/{submitted[0].id}"
    assert {found.id for found in kubeflow.runs()} == {s.id for s in submitted}


@pytest.mark.parametrize(
    ("when", "trigger"),
    [
        ({"cron": "0 30 3 * * *"}, {"cron_schedule": {"cron": "0 30 3 * * *"}}),
        ({"seconds": 3600}, {"periodic_schedule": {"interval_second": "3600"}}),
    ],
)
def test_schedules_recurring_runs_of_an_uploaded_version(
    when: dict[str, str], trigger: dict[str, object], api: FakeKubeflow, package: Path
) -> None:
    submitted = Kubeflow().schedule(package, TASK, **when)  # type: ignore[arg-type]
    recurring = api.recurring[submitted.id]
    found = recurring["trigger"]
    assert {k: {n: str(v) for n, v in c.items()} for k, c in found.items()} == trigger
    assert recurring["mode"] == "ENABLE"
    assert recurring["no_catchup"] is True
    assert recurring["pipeline_version_reference"]["pipeline_version_id"] in api.versions
    assert [p["display_name"] for p in api.pipelines.values()] == ["fededge-digits"]


def test_sends_the_token_of_the_environment(
    api: FakeKubeflow, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.token = "secret"
    with pytest.raises(KubeflowError, match=r"401 no valid token.*KFP_EXISTING_TOKEN"):
        Kubeflow()
    monkeypatch.setenv("KFP_EXISTING_TOKEN", "secret")
    assert Kubeflow().run(package, TASK).id in api.runs


def test_rereads_the_token_of_a_service_account(
    api: FakeKubeflow, package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    api.token = "first"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    kubeflow = Kubeflow()
    token.write_text("second")
    api.token = "second"
    assert kubeflow.run(package, TASK).id in api.runs


def test_a_refusal_is_one_clear_message(
    api: FakeKubeflow, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow = Kubeflow()
    api.refuse = (500, "out of\norder")
    with pytest.raises(
        KubeflowError, match=r"cannot upload fededge-digits to .*: 500 out of order"
    ) as caught:
        kubeflow.run(package, TASK)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_an_unreachable_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", endpoint)
    with pytest.raises(KubeflowError, match=f"cannot reach Kubeflow Pipelines at {endpoint}"):
        Kubeflow()


@pytest.mark.parametrize("endpoint", ["http://", "http://host:notaport", "http://no.such.host.invalid"])
def test_a_malformed_endpoint_is_named(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", endpoint)
    with pytest.raises(KubeflowError, match="KF_PIPELINES_ENDPOINT"):
        Kubeflow()


def test_a_missing_endpoint_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeflowError, match="set KF_PIPELINES_ENDPOINT"):
        Kubeflow()
