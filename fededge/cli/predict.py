"""fededge predict: ask an endpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fededge.cli import show

if TYPE_CHECKING:
    import numpy as np

AT_ONCE = 1000


def predict(
    endpoint: str = typer.Argument(
        ..., help="Name of an endpoint on this machine, or a URL.", show_default=False
    ),
    files: list[Path] = typer.Argument(None, help="Images: .npy or .png files.", show_default=False),
    sample: int = typer.Option(
        0, min=0, max=AT_ONCE, help="Send this many held-out examples of the latest run.", show_default=False
    ),
) -> None:
    """Send images to an inference endpoint and show what it answers.

    [bold]Examples[/bold]

      fededge predict digits --sample 5

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
        url = _address(endpoint)
        batches, labels = [prediction.to_uint8(x)], list(y)
        names = [f"example {index}" for index in range(len(y))]
    else:
        url = _address(endpoint)
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


def _address(name: str) -> str:
    """URL of the endpoint `name` of this machine, or `name` itself if it is a URL."""
    if "://" in name:
        return name
    from fededge.delivery.endpoints import local as local_endpoint
    from fededge.errors import EndpointError

    for endpoint in local_endpoint.running():
        if endpoint.name == name:
            return endpoint.rest
    raise EndpointError(f"no endpoint {name} runs here: see `fededge endpoints`, or give a URL")


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
