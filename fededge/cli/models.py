"""fededge models: what is registered."""

from datetime import UTC, datetime

import typer

from fededge.cli import show


def models(
    name: str = typer.Argument("", help="Show all versions of this model.", show_default=False),
) -> None:
    """List registered models: the newest version of each, or all versions of one.

    [bold]Example[/bold]

      fededge models digits
    """
    from fededge.delivery import registry

    found = registry.versions(name) if name else registry.models()
    show.table(
        ["model", "version", "aliases", "accuracy", "round", "digest", "registered"],
        [
            (
                model.name,
                model.version,
                ", ".join(model.aliases),
                f"{model.accuracy:.4f}",
                model.round,
                model.digest.removeprefix("sha256:")[:12],
                f"{datetime.fromtimestamp(model.created, UTC):%Y-%m-%d %H:%M} UTC",
            )
            for model in found
        ],
    )
    if not found:
        show.say(f"no version of {name} is registered" if name else "no model is registered yet")
