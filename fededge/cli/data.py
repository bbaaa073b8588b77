"""fededge data: data sets of a schema, made up."""

from pathlib import Path

import typer

from fededge.cli import show
from fededge.documents import Schema
from fededge.errors import DataError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Make up data sets.")


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
