"""fededge keys: the tokens of people and programs at the gateway."""

from enum import StrEnum
from pathlib import Path

import typer

from fededge.cli import fleet_options, show
from fededge.cli.fleet_options import YES, gateway

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Tokens of people and programs at the gateway (scope admin).",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Scope(StrEnum):
    """What a token allows; each allows what those before it allow."""

    reader = "reader"
    operator = "operator"
    admin = "admin"


@app.command("list")
def list_keys(as_json: bool = show.JSON) -> None:
    """List tokens, without their secrets."""
    with gateway() as fleet:
        found = list(fleet.tokens())
    if as_json:
        show.document([each.to_content() for each in found])
        return
    rows = [
        (
            each.id,
            each.name,
            each.scope,
            fleet_options.when(each.created),
            fleet_options.when(each.last_used),
            "revoked" if each.revoked else fleet_options.when(each.expires) or "good for ever",
        )
        for each in found
    ]
    show.table(("id", "name", "scope", "made", "last used", "until"), rows)


@app.command()
def make(
    name: str = typer.Argument(..., help="Who or what uses it.", show_default=False),
    scope: Scope = typer.Option(Scope.operator, help="What it allows."),
    days: float | None = typer.Option(None, min=0.01, max=366.0, help="For how long.", show_default=False),
    output: Path | None = typer.Option(None, "-o", "--output", help="New file for it.", show_default=False),
) -> None:
    """Make a token. It is shown once; the gateway keeps a digest.

    [bold]Example[/bold]

      fededge keys make nightly-pipeline --scope operator --days 90 -o pipeline.token
    """
    from fededge.protocol import OperatorRequest

    with gateway() as fleet:
        made = fleet.make_token(
            OperatorRequest(
                name=name, scope=scope.value, expires_seconds=None if days is None else days * 86_400
            )
        )
    if output is None:
        show.say(made.token)
    else:
        show.secret(output, made.token)
        show.wrote(f"token {made.id}", output)


@app.command()
def revoke(
    key: str = typer.Argument(..., help="Id of the token.", show_default=False), yes: bool = YES
) -> None:
    """Make a token worthless, at once."""
    if not yes:
        typer.confirm(f"Revoke {key}?", abort=True)
    with gateway() as fleet:
        fleet.revoke_token(key)
    show.say(f"revoked {key}")
