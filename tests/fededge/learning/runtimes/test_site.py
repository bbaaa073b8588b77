"""A site runs the plan with plain TensorFlow, and hands out an update and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fededge.learning.frameworks.keras import models
from fededge.learning.runtimes.local import LocalSites
from fededge.learning.update import Layout
from fededge.task import FederatedTask
from fededge.weights import Weights, shapes, to_bytes

pytestmark = pytest.mark.environment("worker")


@pytest.fixture(scope="module")
def task(make_task: Callable[..., FederatedTask]) -> FederatedTask:
    return make_task()


@pytest.fixture(scope="module")
def weights(task: FederatedTask) -> Weights:
    return models.initial_weights(task)


def test_the_models_weights_are_the_papers(weights: Weights) -> None:
    assert sum(value.size for value in weights.values()) == 317_066


def test_a_site_needs_no_tff_and_the_same_request_gives_the_same_bytes(
    prepared, task, weights, tmp_path
) -> None:  # type: ignore[no-untyped-def]
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
            *("--data", str(prepared.data / "clients" / "site-0")),
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
    update = Layout(shapes(weights)).screen(first)
    assert update.examples == len(np.load(prepared.data / "clients" / "site-0" / "train" / "y.npy"))


def test_bad_data_at_one_site_fails_that_site_only(prepared, task, weights, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    shutil.copytree(prepared.data / "clients", tmp_path / "clients")
    spoilt = tmp_path / "clients" / "site-1" / "train" / "x.npy"
    images = np.load(spoilt)
    images[0] = np.nan
    np.save(spoilt, images)
    sites = LocalSites(prepared.plan(task), tmp_path / "clients")
    try:
        reports = sites.train(3, 1, weights, ["site-0", "site-1"], 120)
        assert set(reports.updates) == {"site-0"}
        assert "NaN" in reports.failed["site-1"]
        evaluated = sites.evaluate(weights, ["site-0", "site-1"], 120)
        assert set(evaluated.counts) == {"site-0"}
        assert "NaN" in evaluated.failed["site-1"]
    finally:
        sites.close()


def test_a_site_whose_training_diverges_says_what_to_do(prepared, make_task, weights) -> None:  # type: ignore[no-untyped-def]
    wild = make_task(client={"batch_size": 100, "learning_rate": 1e30})
    sites = LocalSites(prepared.plan(wild), prepared.data / "clients")
    try:
        reports = sites.train(3, 1, weights, ["site-0"], 120)
    finally:
        sites.close()
    assert reports.updates == {}
    assert "lower learning.client.learning_rate" in reports.failed["site-0"]


def test_a_site_that_is_slow_or_dies_is_left_behind(prepared, task, weights) -> None:  # type: ignore[no-untyped-def]
    sites = LocalSites(prepared.plan(task), prepared.data / "clients")
    try:
        reports = sites.train(3, 1, weights, ["site-0"], deadline_seconds=0.01)
        assert reports.updates == {}
        assert "no report within" in reports.failed["site-0"]
        assert not sites._sites
        (Path(sites._folder.name) / "site-0.log").unlink()
        assert sites.train(3, 1, weights, ["site-0"], 120).failed == {}
        sites._sites["site-0"]._process.kill()
        sites._sites["site-0"]._process.wait()
        assert "the site process ended" in sites.train(3, 1, weights, ["site-0"], 120).failed["site-0"]
        assert sites.train(3, 1, weights, ["site-0"], 120).failed == {}
    finally:
        sites.close()
