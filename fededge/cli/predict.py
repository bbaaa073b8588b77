"""fededge predict: ask an endpoint."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fededge.cli import show
from fededge.cli.run import Platform

if TYPE_CHECKING:
    import numpy as np

    from fededge.delivery.endpoints.prediction import Way

AT_ONCE = 1000


def predict(
    endpoint: str = typer.Argument(..., help="Name of an endpoint, or a URL.", show_default=False),
    files: list[Path] = typer.Argument(
        None, help="Examples: .csv, .json, .npy or .png files.", show_default=False
    ),
    sample: int = typer.Option(
        0, min=0, max=AT_ONCE, help="Send this many held-out examples of the latest run.", show_default=False
    ),
    on: Platform = typer.Option(Platform.local, help="Where the endpoint of that name runs."),
    namespace: str = typer.Option("default", help="Of the endpoint on the cluster."),
) -> None:
    """Send examples to an inference endpoint and show what it answers.

    [bold]Examples[/bold]

      fededge predict digits --sample 5

      fededge predict rooms today.csv

      fededge predict digits seven.png --on kubeflow --namespace models

      fededge predict http://127.0.0.1:9000 seven.png batch.npy
    """
    if bool(files) == bool(sample):
        raise typer.BadParameter("give either files or --sample N")
    import numpy as np

    from fededge import named
    from fededge.cli import inputs
    from fededge.delivery.endpoints import prediction
    from fededge.examples import floats

    labels: list[object]
    if sample:
        x, y = _held_out(endpoint, sample)
        labels, names = [value.tolist() for value in y], [f"example {index}" for index in range(len(y))]
    with _reached(endpoint, on, namespace) as (url, way):
        shape, schema = prediction.input_of(url, way)
        if sample:
            batches = [np.ascontiguousarray(x)]
        else:
            batches = [inputs.read(file, shape, schema) for file in files]
            names = [f"{f}[{i}]" for f, batch in zip(files, batches, strict=True) for i in range(len(batch))]
            labels = ["" for _ in names]
        answers = [prediction.predict(url, batch, way) for batch in batches]
    rows = [row for outputs, _ in answers for row in outputs]
    if schema is None:
        told = [{"prediction": int(np.argmax(row)), "probability": f"{row.max():.4f}"} for row in rows]
    else:
        given = np.concatenate([floats(batch) for batch in batches])
        told = [_in_columns(answer) for answer in named.answers(np.array(rows), given, schema)]
        if schema.label.kind == "class" and sample:
            labels = [named.class_names(schema.label)[int(str(label))] for label in labels]
    show.table(
        ["example", *told[0], *(["label"] if sample else [])],
        [
            (name, *answer.values(), *([label] if sample else []))
            for name, answer, label in zip(names, told, labels, strict=True)
        ],
    )
    tags = answers[0][1]
    show.say(f"answered by version {tags['model_version']}, {tags['variant']}, {tags['digest']}")


def _in_columns(answer: dict[str, Any]) -> dict[str, object]:
    """An answer by name as columns: of probabilities, that of the class which is said."""
    if "label" in answer:
        chosen = answer["probabilities"][answer["label"]]
        return {"prediction": answer["label"], "probability": f"{chosen:.4f}"}
    if "value" in answer:
        return {"prediction": answer["value"]}
    return {name: value for name, value in answer.items() if name != "probabilities"}


@contextlib.contextmanager
def _reached(name: str, on: Platform, namespace: str) -> "Iterator[tuple[str, Way]]":
    """URL of the endpoint `name`, or `name` itself if it is a URL; and how to ask there."""
    from fededge.delivery.endpoints import ingress
    from fededge.delivery.endpoints import local as local_endpoint
    from fededge.delivery.endpoints.forward import forwarded
    from fededge.delivery.endpoints.prediction import DIRECT
    from fededge.errors import EndpointError

    if "://" in name:
        yield name, DIRECT
    elif on is Platform.kubeflow:
        if behind := ingress.way_to(namespace, name):
            yield behind
            return
        with forwarded(namespace, name) as url:
            yield url, DIRECT
    else:
        found = next((each for each in local_endpoint.running() if each.name == name), None)
        if found is None:
            raise EndpointError(
                f"no endpoint {name} runs here: see `fededge endpoints`, give a URL, or say --on kubeflow"
            )
        yield found.rest, DIRECT


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
    raise DataError(f"no run here has held-out examples for {endpoint}: give files")
