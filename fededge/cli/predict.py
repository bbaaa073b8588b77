"""fededge predict: ask an endpoint."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fededge.cli import show
from fededge.cli.run import Platform

if TYPE_CHECKING:
    import numpy as np

AT_ONCE = 1000


def predict(
    endpoint: str = typer.Argument(..., help="Name of an endpoint, or a URL.", show_default=False),
    files: list[Path] = typer.Argument(None, help="Images: .npy or .png files.", show_default=False),
    sample: int = typer.Option(
        0, min=0, max=AT_ONCE, help="Send this many held-out examples of the latest run.", show_default=False
    ),
    on: Platform = typer.Option(Platform.local, help="Where the endpoint of that name runs."),
    namespace: str = typer.Option("default", help="Of the endpoint on the cluster."),
) -> None:
    """Send images to an inference endpoint and show what it answers.

    [bold]Examples[/bold]

      fededge predict digits --sample 5

      fededge predict digits seven.png --on kubeflow --namespace models

      fededge predict http://127.0.0.1:9000 seven.png batch.npy
    """
    if bool(files) == bool(sample):
        raise typer.BadParameter("give either image files or --sample N")
    import numpy as np

    from fededge.cli import images
    from fededge.delivery.endpoints import prediction

    labels: list[object]
    if sample:
        x, y = _held_out(endpoint, sample)
        labels, names = list(y), [f"example {index}" for index in range(len(y))]
    with _reached(endpoint, on, namespace) as url:
        if sample:
            batches = [prediction.to_uint8(x)]
        else:
            shape = prediction.input_shape(url)
            batches = [images.read(file, shape) for file in files]
            names = [f"{f}[{i}]" for f, batch in zip(files, batches, strict=True) for i in range(len(batch))]
            labels = ["" for _ in names]
        answers = [prediction.predict(url, batch) for batch in batches]
    rows = [row for probabilities, _ in answers for row in probabilities]
    show.table(
        ["image", "prediction", "probability", *(["label"] if sample else [])],
        [
            (name, int(np.argmax(row)), f"{row.max():.4f}", *([label] if sample else []))
            for name, row, label in zip(names, rows, labels, strict=True)
        ],
    )
    tags = answers[0][1]
    show.say(f"answered by version {tags['model_version']}, {tags['variant']}, {tags['digest']}")


@contextlib.contextmanager
def _reached(name: str, on: Platform, namespace: str) -> Iterator[str]:
    """URL of the endpoint `name`, or `name` itself if it is a URL."""
    from fededge.delivery.endpoints import local as local_endpoint
    from fededge.delivery.endpoints.forward import forwarded
    from fededge.errors import EndpointError

    if "://" in name:
        yield name
    elif on is Platform.kubeflow:
        with forwarded(namespace, name) as url:
            yield url
    else:
        found = next((each for each in local_endpoint.running() if each.name == name), None)
        if found is None:
            raise EndpointError(
                f"no endpoint {name} runs here: see `fededge endpoints`, give a URL, or say --on kubeflow"
            )
        yield found.rest


def _held_out(endpoint: str, count: int) -> "tuple[np.ndarray, np.ndarray]":
    """The first held-out examples of the latest run, if it can be of the run behind `endpoint`."""
    from fededge import examples, settings
    from fededge.errors import DataError
    from pipelines.runs import all_runs

    home = settings.home()
    for run in all_runs(home):
        test = run.artifact(home, "prepare-data", "test")
        if test is None:
            continue
        served = run.task(home).endpoint
        if "://" in endpoint or (served and served.name == endpoint):
            x, y = examples.read(test)
            return x[:count], y[:count]
    raise DataError(f"no run here has held-out examples for {endpoint}: give image files")
