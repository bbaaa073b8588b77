"""fededge tenants: the teams that share a gateway, and their quotas."""

import typer

from fededge.cli import show
from fededge.cli.fleet_options import gateway

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Teams that share a gateway, each with its own clients, rounds and tokens (scope admin).",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("list")
def list_tenants(as_json: bool = show.JSON) -> None:
    """List tenants and their quotas."""
    with gateway() as fleet:
        found = list(fleet.tenants())
    if as_json:
        show.document([each.to_content() for each in found])
        return
    rows = [(each.name, each.clients, each.open_rounds, each.bytes) for each in found]
    show.table(("tenant", "clients", "open rounds", "bytes"), rows)


@app.command("set")
def set_tenant(
    name: str = typer.Argument(..., help="Of the tenant; made where there is none.", show_default=False),
    clients: int | None = typer.Option(None, min=0, help="Most that may be enrolled.", show_default=False),
    open_rounds: int | None = typer.Option(None, min=0, help="Most at a time.", show_default=False),
    stored: int | None = typer.Option(
        None, "--bytes", min=0, help="Most that it may have stored.", show_default=False
    ),
) -> None:
    """Make a tenant, or set its quotas; what is not given has no limit.

    [bold]Example[/bold]

      fededge tenants set cardiology --clients 200 --open-rounds 4
    """
    from fededge.protocol import Tenant

    with gateway() as fleet:
        made = fleet.put_tenant(Tenant(name=name, clients=clients, open_rounds=open_rounds, bytes=stored))
    show.document(made.to_content())
