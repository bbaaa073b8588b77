"""A real site executes real plans and hands in the very bytes that a client of a local run does."""

import io
import math
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fededge.__main__ import runner
from fededge.documents import Plan
from fededge.learning.frameworks import model_spec
from fededge.learning.runtimes.local import LocalSites
from fededge.protocol import Hello, ReportMessage
from fededge.task import FederatedTask, Model
from fededge.update import UpdateFormat
from fededge.weights import Weights, to_bytes
from tests.enrolled_site import EnrolledSite, in_loop
from tests.stand_in_gateway import CLIENT, StandInGateway

pytestmark = pytest.mark.environment("worker")


@pytest.fixture(scope="module")
def task(make_task: Callable[..., FederatedTask]) -> FederatedTask:
    return make_task()


@pytest.fixture(params=["keras", "sklearn"])
def planned(request: pytest.FixtureRequest, prepared: Any, task: Any, tmp_path: Path) -> tuple[Path, Weights]:
    """A plan's folder, and weights to begin with."""
    if request.param == "keras":
        return prepared.plan(task), prepared.spec(task).initial_weights()
    model = Model(framework="sklearn", name="SGDClassifier", arguments={"loss": "log_loss"})
    spec = model_spec(model, prepared.population.example, task.seed)
    spec.export_plan(task.learning.client, task.identity, tmp_path / "plan")
    return tmp_path / "plan", spec.initial_weights()


@pytest.fixture
def site(prepared: Any, tmp_path: Path) -> EnrolledSite:
    site = EnrolledSite(tmp_path, runner())
    shutil.copytree(prepared.clients / "site-0", tmp_path / "clients" / CLIENT)
    site.write_policy(datasets={"steps": f"clients/{CLIENT}"}, min_examples=5)
    return site


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return buffer.getvalue()


def test_a_site_hands_in_what_a_local_client_does(
    site: EnrolledSite, planned: tuple[Path, Weights], tmp_path: Path
) -> None:
    plan, weights = planned
    framework = Plan.read(plan / "plan.json").framework
    with LocalSites(plan, tmp_path / "clients") as local:
        (trained,) = local.train(weights, 3, 1, [CLIENT], 120)
        (evaluated,) = local.evaluate(weights, 1, [CLIENT], 120)
        (measured,) = local.ranges(weights, 1, [CLIENT], 120)
        assert trained.update is not None
        update = trained.update.read_bytes()

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            assert framework in (await gateway.hears(Hello)).frameworks
            work: dict[str, Any] = {
                "plan": zipped(plan),
                "weights": to_bytes(weights),
                "framework": framework,
            }
            await gateway.tell(gateway.order(1, **work))
            report = await gateway.hears(ReportMessage)
            assert report.failure is None
            assert [bytes(each) for each in gateway.uploads.values()] == [update]
            await gateway.tell(gateway.order(2, kind="evaluate", **work))
            assert (await gateway.hears(ReportMessage, 2)).counts == evaluated.counts
            await gateway.tell(gateway.order(3, kind="ranges", **work))
            assert (await gateway.hears(ReportMessage, 3)).ranges == measured.ranges
            await gateway.tell(gateway.order(4, share=0.3, **work))
            report = await gateway.hears(ReportMessage, 4)
            assert report.update is not None
            part = bytes(gateway.uploads[report.update.removeprefix("sha256:")])
            held = (await gateway.hears(Hello)).datasets[0].train
            form = UpdateFormat.of(Plan.read(plan / "plan.json"))
            assert form.screen(update, held).examples == held
            assert form.screen(part, held).examples == math.ceil(0.3 * held)

    in_loop(scenario)


def test_a_plan_without_the_data_that_it_is_for_is_a_failed_round(
    site: EnrolledSite, planned: tuple[Path, Weights]
) -> None:
    plan, weights = planned
    site.write_policy()  # examples of three numbers

    async def scenario() -> None:
        async with StandInGateway() as gateway, site.running(gateway):
            await gateway.hears(Hello)
            framework = Plan.read(plan / "plan.json").framework
            await gateway.tell(
                gateway.order(plan=zipped(plan), weights=to_bytes(weights), framework=framework)
            )
            failure = str((await gateway.hears(ReportMessage)).failure)
            assert failure.startswith("steps/train/schema.json is not the schema")

    in_loop(scenario)
