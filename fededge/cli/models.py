"""fededge models: what is registered."""

from datetime import UTC, datetime

import typer

from fededge.cli import show


def models(
    name: str = typer.Argument("", help="Show all versions of this model.", show_default=False),
    as_json: bool = show.JSON,
) -> None:
    """List registered models: the newest version of each, or all versions and rollbacks of one.

    Equal digests mean equal weights.

    [bold]Example[/bold]

      fededge models digits
    """
    from fededge.delivery import registry
    from fededge.errors import ReleaseError

    found = registry.versions(name) if name else registry.models()
    if name and not found:
        raise ReleaseError(f"no model {name!r} is registered: `fededge models` lists those that are")
    show.table(
        ["model", "version", "aliases", "metric", "score", "round", "digest", "registered"],
        [
            (
                model.name,
                model.version,
                list(model.aliases),
                model.metric,
                model.score,
                model.round,
                model.digest if as_json else model.digest.removeprefix("sha256:")[:12],
                _moment(model.created),
            )
            for model in found
        ],
        as_json=as_json,
    )
    if as_json:
        return
    if not found:
        show.say("no model is registered yet")
    rollbacks = [rollback for model in found for rollback in model.rollbacks] if name else []
    if rollbacks:
        show.table(
            ["rolled back", "from", "to", "by", "why"],
            [
                (_moment(each.at), each.from_version, each.to_version, each.who, each.why)
                for each in sorted(rollbacks, key=lambda rollback: rollback.at)
            ],
        )


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
