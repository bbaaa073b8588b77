import getpass
import os
import shutil
import subprocess
import sys
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml

from fededge import storage
from fededge.documents import (
    Champion,
    ClientScore,
    Ending,
    Evaluation,
    GateDecision,
    Measurement,
    RoundRecord,
    Rounds,
    Score,
    StepRecord,
)
from fededge.errors import RoundError, TrackingError
from fededge.task import FederatedTask, parse
from fededge.tracking.connection import connect
from fededge.tracking.description import parameters
from fededge.tracking.run import TrackedRun
from fededge.tracking.step import Step

ROUND = RoundRecord(
    round=3,
    cohort=["site-0", "site-1"],
    reported=["site-0"],
    failed={"site-1": "late"},
    examples=10,
    loss=0.25,
    score=0.9,
    seconds=1.5,
    at=1_700_000_000.5,
    held_out=Score(score=0.8, loss=0.5, examples=20),
)


def points(tracked: TrackedRun, name: str) -> list[tuple[int, float, int]]:
    return [(p.step, p.value, p.timestamp) for p in connect().get_metric_history(tracked.run_id, name)]


def outside_run(name: str = "theirs", **tags: str) -> str:
    client = connect()
    found = client.get_experiment_by_name(name)
    folder = (Path(os.environ["FEDEDGE_HOME"]) / "theirs").as_uri()
    experiment = found.experiment_id if found else client.create_experiment(name, folder)
    run_id: str = client.create_run(experiment, tags=tags).info.run_id
    return run_id


@pytest.mark.usefixtures("store")
class TestJoin:
    def test_all_steps_of_a_pipeline_run_share_one_mlflow_run(self, task: FederatedTask) -> None:
        first, second = TrackedRun.join("run-1", task), TrackedRun.join("run-1", task)
        assert first.run_id == second.run_id
        assert TrackedRun.join("run-2", task).run_id != first.run_id

    def test_a_run_says_what_was_learnt_and_by_which_code(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        run = connect().get_run(tracked.run_id)
        assert run.data.params == parameters(task)
        assert run.data.tags["fededge.task_digest"] == task.digest
        assert run.data.tags["fededge.task_identity"] == task.identity
        assert run.data.tags["mlflow.user"] == getpass.getuser()
        assert "20 rounds of 3 clients" in run.data.tags["mlflow.note.content"].replace(
            "10 rounds", "20 rounds"
        )
        assert run.data.tags["mlflow.source.git.commit"] == tracked.git_commit
        assert connect().get_experiment(run.info.experiment_id).name == "digits"

    def test_a_task_with_many_device_classes_is_logged_whole(self, task: FederatedTask) -> None:
        many = [task.devices[1].model_copy(update={"name": f"class-{index}"}) for index in range(80)]
        large = task.model_copy(update={"devices": many})
        run_id = TrackedRun.join("run-1", large).run_id
        assert connect().get_run(run_id).data.params == parameters(large)

    def test_the_task_file_is_an_artifact_that_reads_back_as_the_task(
        self, task: FederatedTask, tmp_path: Path
    ) -> None:
        tracked = TrackedRun.join("run-1", task)
        file = connect().download_artifacts(tracked.run_id, "task.yaml", str(tmp_path))
        assert parse(Path(file).read_text()) == task
        assert next(iter(yaml.safe_load(Path(file).read_text()))) == "name"

    def test_artifacts_of_the_default_store_lie_in_the_home_folder(self, task: FederatedTask) -> None:
        home = Path(os.environ["FEDEDGE_HOME"]).resolve()
        assert TrackedRun.join("run-1", task).artifact_uri.startswith((home / "mlartifacts").as_uri())

    def test_a_change_of_what_is_learned_needs_a_new_run(self, task: FederatedTask) -> None:
        TrackedRun.join("run-1", task)
        with pytest.raises(TrackingError, match="needs a new run"):
            TrackedRun.join("run-1", task.model_copy(update={"seed": 8}))

    def test_a_run_goes_on_with_another_operation_and_delivery(
        self, task: FederatedTask, tmp_path: Path
    ) -> None:
        first = TrackedRun.join("run-1", task)
        operation = task.operation.model_copy(update={"round_deadline_seconds": 1200.0, "quorum": 2})
        changed = task.model_copy(update={"operation": operation, "devices": task.devices[:1]})
        for _ in range(2):
            second = TrackedRun.join("run-1", changed)
        assert second.run_id == first.run_id
        run = connect().get_run(second.run_id)
        assert run.data.params == {**parameters(changed), **parameters(task)}
        assert run.data.params["operation.quorum"] == "2"
        assert run.data.tags["fededge.task_digest"] == changed.digest
        file = connect().download_artifacts(run.info.run_id, "task.yaml", str(tmp_path))
        assert parse(Path(file).read_text()) == changed

    def test_what_a_joined_run_says_of_itself_stays(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(
            "MLFLOW_RUN_ID", outside_run(**{"mlflow.note.content": "mine", "mlflow.user": "me"})
        )
        tags = connect().get_run(TrackedRun.join("run-1", task).run_id).data.tags
        assert (tags["mlflow.note.content"], tags["mlflow.user"]) == ("mine", "me")

    def test_a_run_that_died_before_its_parameters_is_completed(self, task: FederatedTask) -> None:
        run_id = outside_run("digits", **{"fededge.run": "run-1"})
        assert TrackedRun.join("run-1", task).run_id == run_id
        assert connect().get_run(run_id).data.params == parameters(task)

    def test_an_injected_run_is_joined(self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch) -> None:
        run_id = outside_run()
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert TrackedRun.join("run-1", task).run_id == run_id
        monkeypatch.delenv("MLFLOW_RUN_ID")
        assert TrackedRun.join("run-1", task).run_id == run_id

    def test_nested_runs_of_steps_lead_to_the_run_of_the_pipeline(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = outside_run()
        loop = outside_run(**{"mlflow.parentRunId": pipeline})
        for _ in range(2):
            monkeypatch.setenv("MLFLOW_RUN_ID", outside_run(**{"mlflow.parentRunId": loop}))
            assert TrackedRun.join("run-1", task).run_id == pipeline

    def test_an_injected_run_of_another_pipeline_run_is_refused(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_RUN_ID", outside_run())
        TrackedRun.join("run-1", task)
        with pytest.raises(TrackingError, match="already tracks pipeline run run-1, not run-2"):
            TrackedRun.join("run-2", task)

    def test_an_injected_run_that_does_not_exist_is_named(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_RUN_ID", "feedbeef")
        with pytest.raises(TrackingError, match="feedbeef"):
            TrackedRun.join("run-1", task)

    def test_a_deleted_experiment_is_named(self, task: FederatedTask) -> None:
        client = connect()
        client.delete_experiment(client.create_experiment("digits", "file:///nowhere"))
        with pytest.raises(TrackingError, match="restore it"):
            TrackedRun.join("run-1", task)


@pytest.mark.usefixtures("store")
class TestStep:
    def test_round_metrics_carry_the_round_as_step_and_the_time_it_was_made(
        self, task: FederatedTask
    ) -> None:
        tracked = TrackedRun.join("run-1", task)
        with tracked.step("run_rounds-0001") as step:
            step.round(ROUND, "accuracy")
        assert points(tracked, "train/loss") == [(3, 0.25, 1_700_000_000_500)]
        assert points(tracked, "train/accuracy") == [(3, 0.9, 1_700_000_000_500)]

    def test_logging_a_round_again_changes_nothing(self, task: FederatedTask) -> None:
        for later in (0, 0, 60):
            tracked = TrackedRun.join("run-1", task)
            with tracked.step("run_rounds-0001") as step:
                for _ in range(2):
                    step.round(ROUND.model_copy(update={"at": ROUND.at + later}), "accuracy")
        assert len(points(tracked, "train/loss")) == 1

    def test_the_held_out_score_has_a_point_for_each_round(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        with tracked.step("run_rounds-0001") as step:
            for number in (1, 2, 3):
                step.round(ROUND.model_copy(update={"round": number}), "accuracy")
            step.round(ROUND.model_copy(update={"round": 4, "held_out": None}), "accuracy")
        assert [point[:2] for point in points(tracked, "held_out/accuracy")] == [(n, 0.8) for n in (1, 2, 3)]
        assert [point[0] for point in points(tracked, "train/accuracy")] == [1, 2, 3, 4]

    def test_variants_gate_and_clients_have_metrics(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        clients = [ClientScore(id=f"c{n}", score=n / 10, loss=0.1, examples=n and 10) for n in (0, 5, 6, 9)]
        evaluation = Evaluation(
            round=3,
            score=0.8,
            loss=0.5,
            examples=20,
            samples=30,
            per_class=[],
            confusion=[],
            clients=clients,
            failed={"c7": "late"},
            metrics={"f1": 0.75, "own:cost": 3.0},
            worst_tenth=0.5,
            spread=0.2,
        )
        measured = Measurement(
            kind="int8",
            digest=storage.digest(b"x"),
            bytes=100,
            compressed_bytes=90,
            score=0.79,
            score_loss=0.01,
            shape=[2],
            classes=2,
            latency_ms_1=0.5,
            latency_ms_500=20.0,
        )
        decision = GateDecision(
            decision="pass", reasons=[], score=0.8, champion=Champion(version=1, score=0.7)
        )
        with tracked.step("all") as step:
            step.evaluation(evaluation)
            step.variant(measured)
            step.gate(decision, step=3)
        assert connect().get_run(tracked.run_id).data.metrics == {
            "clients/failed": 1,
            "clients/worst_tenth": 0.5,
            "clients/spread": 0.2,
            "held_out/f1": 0.75,
            "held_out/own:cost": 3.0,
            "clients/accuracy_min": 0.5,
            "clients/accuracy_median": 0.6,
            "clients/accuracy_max": 0.9,
            "variant/int8/accuracy": 0.79,
            "variant/int8/score_loss": 0.01,
            "variant/int8/bytes": 100,
            "variant/int8/latency_ms_1": 0.5,
            "variant/int8/latency_ms_500": 20,
            "gate/passed": 1,
            "gate/accuracy": 0.8,
            "gate/champion": 0.7,
        }
        assert points(tracked, "gate/accuracy")[0][0] == 3

    def test_metrics_are_logged_once_a_round_and_value(self, task: FederatedTask) -> None:
        for value in (0.5, 0.5, 0.75):
            tracked = TrackedRun.join("run-1", task)
            with tracked.step("evaluate_model-0003") as step:
                step.metrics({"held_out/accuracy": value}, step=3)
        assert [point[:2] for point in points(tracked, "held_out/accuracy")] == [(3, 0.5), (3, 0.75)]

    def test_records_read_back_by_name_and_the_last_wins(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        assert tracked.records() == {}
        with tracked.step("prepare_data") as step:
            step.record("ending", Ending(state="FAILED"))
            step.record("ending", Ending(state="SUCCEEDED"))
            step.record("rounds-0001", Rounds(rounds=[ROUND]))
        records = TrackedRun.join("run-1", task).records()
        assert Ending.from_content(records["ending"]).state == "SUCCEEDED"
        assert Rounds.from_content(records["rounds-0001"]).rounds == [ROUND]

    def test_a_step_that_ends_well_says_when_and_how_long(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        with tracked.step("prepare_data"):
            pass
        outcome = tracked.records()["steps/prepare_data"]
        assert outcome["step"] == "prepare_data"
        assert outcome["status"] == "succeeded"
        assert outcome["error"] is None
        assert outcome["seconds"] >= 0
        assert StepRecord.from_content(outcome).started.tzinfo == UTC

    def test_a_step_that_fails_is_recorded_and_its_error_goes_on(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        with pytest.raises(RoundError, match="no round"), tracked.step("run_rounds-0001"):
            raise RoundError("no round\ncommitted")
        outcome = tracked.records()["steps/run_rounds-0001"]
        assert (outcome["status"], outcome["error"]) == ("failed", "no round committed")

    def test_a_failure_to_track_does_not_hide_the_step_s_own_error(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any) -> None:
            raise TrackingError("disk full")

        tracked = TrackedRun.join("run-1", task)
        monkeypatch.setattr(Step, "record", broken)
        with pytest.raises(RoundError) as caught, tracked.step("run_rounds-0001"):
            raise RoundError("no round committed")
        assert caught.value.__notes__ == ["not tracked: disk full"]

    def test_a_damaged_record_does_not_hide_the_others(self, task: FederatedTask) -> None:
        tracked = TrackedRun.join("run-1", task)
        with tracked.step("prepare_data"):
            pass
        connect().log_text(tracked.run_id, "{", "records/data.json")
        records = tracked.records()
        assert records["data"] is None
        assert records["steps/prepare_data"]["status"] == "succeeded"

    def test_a_run_that_is_only_looked_for_is_not_created(self, task: FederatedTask) -> None:
        with pytest.raises(TrackingError, match="no run of pipeline run run-1"):
            TrackedRun.find("run-1", task)
        joined = TrackedRun.join("run-1", task)
        assert TrackedRun.find("run-1", task).run_id == joined.run_id


@pytest.mark.usefixtures("store")
class TestStatus:
    @pytest.mark.parametrize(
        ("final", "ending"), [("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("CANCELED", "KILLED")]
    )
    def test_the_pipeline_s_final_state_ends_the_run(
        self, task: FederatedTask, final: str, ending: str
    ) -> None:
        tracked = TrackedRun.join("run-1", task)
        tracked.end(Ending(state=final))
        assert connect().get_run(tracked.run_id).info.status == ending

    def test_an_injected_run_is_left_for_its_owner_to_end(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_RUN_ID", outside_run())
        TrackedRun.join("run-1", task).end(Ending(state="SUCCEEDED"))
        run = connect().get_run(os.environ["MLFLOW_RUN_ID"])
        assert run.info.status == "RUNNING"
        assert run.data.tags["fededge.status"] == "SUCCEEDED"


class TestConnection:
    def test_two_first_steps_at_once_set_up_one_store_and_one_run(
        self, task: FederatedTask, tmp_path: Path
    ) -> None:
        code = (
            "import sys; from fededge.tracking.run import TrackedRun as T; "
            "from fededge.task import FederatedTask as F; "
            "print(T.join('run-1', F.from_json(sys.argv[1])).run_id)"
        )
        home = {"FEDEDGE_HOME": str(tmp_path / "new"), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", code, task.to_json()]
        steps = [
            subprocess.Popen(command, env={**os.environ, **home}, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = [step.communicate(timeout=120)[0].split() for step in steps]
        assert [step.returncode for step in steps] == [0, 0]
        assert answers[0] == answers[1]

    def test_an_unreachable_server_is_named_without_its_password(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch, free_port: int
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{free_port}")
        with pytest.raises(TrackingError, match=f"127.0.0.1:{free_port}: nobody answers there") as caught:
            TrackedRun.join("run-1", task)
        assert "secret" not in str(caught.value)
        assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ

    def test_an_unknown_kind_of_store_is_named(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "gopher://mlflow")
        with pytest.raises(TrackingError, match="gopher://mlflow"):
            TrackedRun.join("run-1", task)

    def test_a_store_that_cannot_be_written_is_named(
        self, task: FederatedTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("FEDEDGE_HOME", str(tmp_path / "file" / "home"))
        with pytest.raises(TrackingError, match="cannot write the MLflow store"):
            TrackedRun.join("run-1", task)

    def test_a_local_store_shows_the_command_that_opens_it(self, task: FederatedTask, store: Path) -> None:
        assert TrackedRun.join("run-1", task).url == f"mlflow ui --backend-store-uri sqlite:///{store}"

    @pytest.mark.parametrize("uri", ["http://[x", "http://me:secret@[x/y"])
    def test_what_is_no_url_is_named_without_its_password(
        self, uri: str, task: FederatedTask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError, match=r"http://\[x.* is not a URL") as caught:
            TrackedRun.join("run-1", task)
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0 cut short", None])
    def test_a_damaged_store_is_named_and_what_to_do(
        self, damage: bytes | None, task: FederatedTask, store: Path
    ) -> None:
        whole = store.read_bytes()
        store.write_bytes(whole[:4096] + bytes(len(whole) - 4096) if damage is None else damage * 400)
        with pytest.raises(TrackingError, match="move it away") as caught:
            TrackedRun.join("run-1", task)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["with space", "a#b", "a?b=c", "100%41", "josé", "a&b+c;d'e"])
def test_any_home_keeps_its_store_in_its_own_folder(
    name: str, task: FederatedTask, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / name
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    monkeypatch.setenv("FEDEDGE_HOME", str(home))
    tracked = TrackedRun.join("run-1", task)
    with tracked.step("try") as step:
        step.record("ending", Ending(state="SUCCEEDED"))
    assert set(TrackedRun.join("run-1", task).records()) == {"ending", "steps/try"}
    assert list((home / "mlartifacts").rglob("task.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == [name]


class TestParameters:
    def test_parts_are_flattened_by_name(self, task: FederatedTask) -> None:
        flat = parameters(task)
        assert flat["learning.client.learning_rate"] == "0.05"
        assert flat["variants.int8.max_bytes"] == "400000"
        assert flat["devices.hub.kinds"] == "int8"

    def test_what_is_not_set_is_left_out(self, task: FederatedTask) -> None:
        assert "devices.gateway.max_bytes" not in parameters(task)
