"""fededge upload: a pipeline to Kubeflow."""

import tempfile
from pathlib import Path

import typer

from fededge import task as tasks
from fededge.cli import show


def upload(
    source: Path = typer.Argument(
        ..., metavar="TASK|FILE", help="Task file, or a compiled pipeline.", show_default=False
    ),
    changes: list[str] = show.CHANGES,
    no_cache: bool = show.NO_CACHE,
) -> None:
    """Upload a task's pipeline, or a compiled one, to Kubeflow; a changed one becomes a new version.

    [bold]Examples[/bold]

      fededge upload examples/digits/task.yaml

      fededge upload compiled.yaml
    """
    from fededge.learning.bundles import packed
    from pipelines.check import check_before_submitting
    from pipelines.cluster_runs import pipeline_name
    from pipelines.compiled import name_of
    from pipelines.federated_training.pipeline import compile_to
    from pipelines.kubeflow import Kubeflow

    name = name_of(source)
    for option, given in (("--set", changes), ("--no-cache", no_cache)):
        if given and name is not None:
            raise typer.BadParameter(f"{option} goes with a task file: {source} is compiled already")
    with tempfile.TemporaryDirectory() as folder:
        package = source
        if name is None:
            spec = tasks.load(source, changes)
            spec = packed(spec, on_cluster=True)
            check_before_submitting(spec)
            package, name = Path(folder) / "pipeline.yaml", pipeline_name(spec.name)
            compile_to(spec, package, cache=not no_cache)
        uploaded = Kubeflow().upload(package, name)
    show.wrote("uploaded" if uploaded.new else "already there", f"version {uploaded.version}")
    show.wrote("page", uploaded.url)
