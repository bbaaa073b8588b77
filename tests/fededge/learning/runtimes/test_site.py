"""A site runs the plan with plain TensorFlow, and hands out an update and nothing else."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.client_reports import TrainingReport
from fededge.documents import Plan
from fededge.learning.frameworks import open_client
from fededge.learning.runtimes.local import LocalSites
from fededge.plan_runner import PlanRunner
from fededge.task import FederatedTask
from fededge.update import UpdateFormat
from fededge.weights import Weights, to_bytes

pytestmark = pytest.mark.environment("worker")


@pytest.fixture(scope="module")
def task(make_task: Callable[..., FederatedTask]) -> FederatedTask:
    return make_task()


@pytest.fixture(scope="module")
def weights(prepared: Any, task: FederatedTask) -> Weights:
    return prepared.spec(task).initial_weights()


def test_the_models_weights_are_the_papers(weights: Weights) -> None:
    assert sum(value.size for value in weights.values()) == 317_066


def test_sigterm_ends_an_idle_site_by_its_own_doing_as_it_must_in_process_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fededge.learning.runtimes.site"]
    with subprocess.Popen(
        [*command, "--plan", str(tmp_path), "--data", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as site:
        assert site.stdin is not None
        assert site.stdout is not None
        site.stdin.write(b'{"do": "evaluate", "weights": "missing"}\n')
        site.stdin.flush()
        assert b"error" in site.stdout.readline()
        site.send_signal(signal.SIGTERM)
        assert site.wait(timeout=30) == 128 + signal.SIGTERM  # the kernel's own end would be -SIGTERM


def test_a_site_needs_no_tff_and_the_same_request_gives_the_same_bytes(
    prepared: Any, task: Any, weights: Any, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(to_bytes(weights))
    requests = [
        {
            "do": "train",
            "seed": 3,
            "round": 1,
            "weights": str(tmp_path / "weights"),
            "update": str(tmp_path / f"u{i}"),
        }
        for i in range(2)
    ]
    blocker = (
        "import sys\nsys.modules['tensorflow_federated'] = None\n"
        "from fededge.learning.runtimes.site import main\nmain()\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", blocker, "--plan", str(prepared.plan(task))),
            *("--data", str(prepared.clients / "site-0")),
        ],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{}, {}]
    first, second = ((tmp_path / f"u{i}").read_bytes() for i in range(2))
    assert first == second
    held = prepared.population.clients[0].train
    assert UpdateFormat.of(Plan.read(prepared.plan(task) / "plan.json")).screen(first, held).examples == held


def test_bad_data_at_one_site_fails_that_site_only(
    prepared: Any, task: Any, weights: Any, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(prepared.clients, tmp_path / "clients")
    spoilt = tmp_path / "clients" / "site-1" / "train" / "x.npy"
    images = np.load(spoilt)
    images[0] = np.nan
    np.save(spoilt, images)
    with LocalSites(prepared.plan(task), tmp_path / "clients") as sites:
        both = ["site-0", "site-1"]
        updates, failed = split(sites.train(weights, 3, 1, both, 120))
        assert set(updates) == {"site-0"}
        assert "NaN" in failed["site-1"]
        evaluated = {report.client: report for report in sites.evaluate(weights, 0, both, 120)}
        assert evaluated["site-0"].counts
        assert "NaN" in (evaluated["site-1"].failure or "")


def test_a_site_whose_training_diverges_says_what_to_do(prepared: Any, make_task: Any, weights: Any) -> None:
    wild = make_task(client={"batch_size": 100, "learning_rate": 1e30})
    with LocalSites(prepared.plan(wild), prepared.clients) as sites:
        updates, failed = split(sites.train(weights, 3, 1, ["site-0"], 120))
    assert updates == {}
    assert "lower learning.client.learning_rate" in failed["site-0"]


def test_a_site_that_is_slow_or_dies_is_left_behind(prepared: Any, task: Any, weights: Any) -> None:
    with LocalSites(prepared.plan(task), prepared.clients) as sites:
        updates, failed = split(sites.train(weights, 3, 1, ["site-0"], deadline_seconds=0.01))
        assert updates == {}
        assert "no report within" in failed["site-0"]
        assert children() == set()
        assert split(sites.train(weights, 3, 1, ["site-0"], 120))[1] == {}
        (site,) = children()
        os.kill(site, signal.SIGKILL)
        assert "the site process ended" in split(sites.train(weights, 3, 1, ["site-0"], 120))[1]["site-0"]
        assert split(sites.train(weights, 3, 1, ["site-0"], 120))[1] == {}
    assert children() == set()


def test_reports_arrive_one_by_one_and_nobody_waits_for_the_slowest(
    prepared: Any, task: Any, weights: Any
) -> None:
    with LocalSites(prepared.plan(task), prepared.clients) as sites:
        list(sites.train(weights, 3, 1, ["site-0", "site-1"], 120))
        slow = max(children())
        os.kill(slow, signal.SIGSTOP)
        reports = sites.train(weights, 3, 2, ["site-0", "site-1"], 120)
        assert next(reports).failure is None
        os.kill(slow, signal.SIGCONT)
        assert [report.failure for report in reports] == [None]


def split(reports: Iterable[TrainingReport]) -> tuple[dict[str, Path], dict[str, str]]:
    """Updates and failures by client."""
    found = list(reports)
    return (
        {report.client: report.update for report in found if report.update},
        {report.client: report.failure for report in found if report.failure},
    )


def children() -> set[int]:
    """Site processes of this one."""
    listed = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "runtimes.site"], capture_output=True, text=True
    )
    return {int(line) for line in listed.stdout.split()}


def test_a_share_of_the_examples_is_drawn_anew_for_each_round_and_client(
    prepared: Any, task: Any, weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "weights").write_bytes(to_bytes(weights))
    site = PlanRunner(prepared.plan(task), prepared.clients / "site-0", open_client)
    form = UpdateFormat.of(Plan.read(prepared.plan(task) / "plan.json"))
    held = prepared.population.clients[0].train

    def trained(**changes: Any) -> bytes:
        files = {"weights": str(tmp_path / "weights"), "update": str(tmp_path / "update")}
        request = {"do": "train", "seed": 3, "round": 1, "client": "site-0", "share": 0.25} | files
        assert site.answer(request | changes) == {}
        return (tmp_path / "update").read_bytes()

    first = trained()
    assert trained() == first
    assert form.screen(first, held).examples == math.ceil(0.25 * held)
    assert len({first, trained(round=2), trained(client="site-9"), trained(share=0.5)}) == 4
    assert form.screen(trained(share=1.0), held).examples == held
    assert form.screen(trained(share=1.0, most=held - 1), held).examples == held - 1
    assert form.screen(trained(share=0.25, most=2 * held), held).examples == math.ceil(0.25 * held)
    assert not list(tmp_path.glob("fededge-share-*"))


def test_no_more_than_the_test_examples_that_are_asked_for_are_evaluated(
    prepared: Any, task: Any, weights: Any, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(to_bytes(weights))
    site = PlanRunner(prepared.plan(task), prepared.clients / "site-0", open_client)
    request = {"do": "evaluate", "weights": str(tmp_path / "weights")}
    held = prepared.population.clients[0].test
    told = [site.answer(request | more)["counts"]["examples"] for more in ({}, {"most": 3}, {"most": held})]
    assert told == [held, 3, held]
