"""fededge data: data sets made up, or spread over folders."""

from pathlib import Path

import typer

from fededge.cli import show
from fededge.documents import Schema
from fededge.errors import DataError

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Make up data sets, or spread them over folders."
)


@app.command("make")
def make(
    schema: Path = typer.Argument(..., help="Schema file (JSON).", show_default=False),
    examples: int = typer.Option(1000, min=1, max=10_000_000, help="How many."),
    output: Path = typer.Option(..., "-o", "--output", help="Folder to write.", show_default=False),
    seed: int = typer.Option(0, min=0, help="Of what is random."),
) -> None:
    """Make mock data of a schema, so that a task can be tried before a site gives access to its own.

    [bold]Example[/bold]

      fededge data make site/schema.json --examples 500 -o clients/mock
    """
    from fededge.learning.data import mock

    if output.exists():
        raise DataError(f"{output} exists: name a folder that does not, so that nothing is lost")
    mock.make(Schema.read(schema), examples, seed, output)
    show.wrote(f"{examples:,} examples", output)


@app.command("spread")
def spread(
    task: Path = typer.Argument(..., help="Task file (YAML).", show_default=False),
    output: Path = typer.Option(..., "-o", "--output", help="New folder to write.", show_default=False),
    changes: list[str] = show.CHANGES,
) -> None:
    """Write a task's examples as one folder for each client, and those that are held out, as a run does.

    So a site's own table or images become the folder that [bold]fededge site[/bold] learns from
    (with partition.clients=1, or one folder an owner), and data can be carried to sites to try them.

    [bold]Example[/bold]

      fededge data spread examples/digits/task.yaml -o spread
    """
    from fededge import task as tasks
    from pipelines.spreading import spread as write

    population = write(tasks.load(task, changes), output)
    rows = [(client.id, client.train, client.test) for client in population.clients]
    show.table(("client", "train", "test"), rows)
    show.wrote("clients", output / "clients")
    show.wrote("held out", output / "held-out")
