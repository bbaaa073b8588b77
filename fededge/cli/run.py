"""fededge run: a task, from data to devices."""

import sys
import tempfile
from enum import StrEnum
from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import live, show
from fededge.task import FederatedTask


class Platform(StrEnum):
    """Where a pipeline runs."""

    local = "local"
    kubeflow = "kubeflow"


def run(
    task: Path = typer.Argument(..., help="Task file (YAML).", show_default=False),
    changes: list[str] = show.CHANGES,
    no_cache: bool = show.NO_CACHE,
    on: Platform = typer.Option(Platform.local, help="Where to run."),
    devices: int = typer.Option(
        0, min=0, max=64, help="Simulated devices that take the release (local).", show_default=False
    ),
    fresh: bool = typer.Option(False, "--fresh", help="Start a new run instead of going on with the last."),
    wait: bool = typer.Option(False, "--wait", help="Follow the run until it ends (kubeflow)."),
) -> None:
    """Run a task's whole pipeline.

    On this machine, a run that was stopped or failed goes on after the steps that finished; its
    operation and delivery may have changed meanwhile.

    [bold]Examples[/bold]

      fededge run examples/digits/task.yaml --devices 6

      fededge run task.yaml --set learning.rounds=5 --set seed=3

      fededge run task.yaml --on kubeflow --wait
    """
    spec = tasks.load(task, changes)
    if on is Platform.kubeflow:
        if devices or fresh:
            raise typer.BadParameter("--devices and --fresh go with --on local")
        _on_kubeflow(spec, wait, cache=not no_cache)
    else:
        if no_cache:
            raise typer.BadParameter("--no-cache goes with --on kubeflow: no run here reuses another's steps")
        if devices and not spec.devices:
            raise typer.BadParameter(f"{task} has no device classes (devices) that --devices could simulate")
        _here(spec, devices, fresh)


def _on_kubeflow(spec: FederatedTask, wait: bool, *, cache: bool) -> None:
    from fededge.learning.bundles import packed
    from pipelines.check import check_before_submitting
    from pipelines.doctor.quick import missing
    from pipelines.federated_training.pipeline import compile_to
    from pipelines.kubeflow import Kubeflow

    kubeflow = Kubeflow()
    spec = packed(spec, on_cluster=True)
    check_before_submitting(spec)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_to(spec, package, cache=cache)
        for finding in missing(spec, package, kubeflow.multi_user):
            print(f"warning: {finding.check}: {finding.found} {finding.remedy}", file=sys.stderr)
        submitted = kubeflow.run(package, spec)
    show.wrote("run", submitted.id)
    show.wrote("version", submitted.version)
    show.wrote("page", submitted.url)
    if wait:
        live.follow(kubeflow, submitted.id)
        show.say(f"see it: fededge report {submitted.id} --on kubeflow")


def _here(spec: FederatedTask, devices: int, fresh: bool) -> None:
    from fededge.report import summary
    from pipelines.job import run_task
    from pipelines.local_steps import StepFailed

    try:
        with live.progress() as say:
            finished = run_task(spec, devices=devices, fresh=fresh, say=say)
    except StepFailed as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as stopped:
        print("stopped; the same command goes on after the steps that finished", file=sys.stderr)
        raise typer.Exit(130) from stopped
    show.console().print(summary(finished.report))
    show.wrote("report", finished.page)
    show.wrote("tracking", finished.report.tracking)
    if spec.endpoint and finished.report.facts.endpoint:
        show.say(f"try it: fededge predict {spec.endpoint.name} --sample 5")
