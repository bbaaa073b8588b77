"""`fededge check` of a task whose examples lie at clients: the gateway is asked who holds such."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fededge import task as tasks
from fededge.cli import main
from fededge.documents import Feature, Label, Schema
from fededge.errors import GatewayError
from fededge.host.layout import VENVS
from fededge.protocol import Dataset
from pipelines.check import check, check_before_submitting
from tests.fededge.fleet.stand_in import TOKEN, StandIn, running

TEXT = "name: t\ndata: {source: fleet, dataset: numerals, held_out: {source: digits}}\n"
DIGITS = Schema(
    features=[Feature(name="image", dtype="float32", shape=[28, 28, 1])],
    label=Label(kind="class", classes=10),
)


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A gateway without clients, which the environment names."""
    if not (VENVS / "worker" / "bin" / "python3").exists():
        pytest.skip("the worker environment is not set up: run `python -m fededge.host`")
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "task.yaml").write_text(TEXT)
    with running(StandIn(lambda request, client: None)) as stand_in:
        monkeypatch.setenv("FEDEDGE_GATEWAY", stand_in.url)
        monkeypatch.setenv("FEDEDGE_GATEWAY_TOKEN_FILE", str(tmp_path / "token"))
        yield stand_in


def held(schema_digest: str) -> Dataset:
    return Dataset(name="numerals", train=10, test=1, schema_digest=schema_digest)


def test_who_holds_such_examples_is_counted(
    gateway: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        gateway.enroll(name, held(DIGITS.form_digest))
    gateway.enroll("odd", held("sha256:" + "0" * 64))
    assert main(["check", str(tmp_path / "task.yaml")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 clients hold numerals, 1 hold others and are left out" in told
    assert "1,797 held-out examples" in told


def test_that_nobody_does_is_a_mistake_before_anything_starts(
    gateway: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.enroll("odd", held("sha256:" + "0" * 64))
    assert main(["check", str(tmp_path / "task.yaml")]) == 2
    assert (
        "holds examples of the dataset numerals like the held-out ones (1 hold others)"
        in capsys.readouterr().err
    )


def test_a_machine_that_submits_a_run_need_not_reach_the_gateway(
    gateway: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDEDGE_GATEWAY")
    task = tasks.parse(TEXT)
    check_before_submitting(task)
    with pytest.raises(GatewayError, match="set FEDEDGE_GATEWAY"):
        check(task)
