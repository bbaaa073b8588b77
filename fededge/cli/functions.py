"""fededge functions: serve the gateway's functions as CloudEvents services, and measure those that train and answer."""

import json
from pathlib import Path

import typer

from fededge import settings, storage
from fededge.cli import show

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Serve the gateway's functions as CloudEvents services, and measure functions that train and answer.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def serve(
    names: list[str] = typer.Argument(
        ..., help="monitoring, selection, model-update, aggregation, triggering, or all.", show_default=False
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8471, min=0, max=65535, help="Port; 0: a free one."),
    url: str | None = typer.Option(
        None,
        help="URL by which clients reach objects (default: FEDEDGE_GATEWAY_URL, or as they came).",
        show_default=False,
    ),
    certificate: Path | None = typer.Option(None, help="PEM file, for TLS.", show_default=False),
    private_key: Path | None = typer.Option(None, help="PEM file, for TLS.", show_default=False),
    insecure: bool = typer.Option(
        False, "--insecure", help="Plain HTTP beyond this machine, as behind a proxy that does TLS."
    ),
    oidc_issuer: str | None = typer.Option(
        None, help="URL of an OpenID Connect provider.", show_default=False
    ),
    oidc_audience: str = typer.Option("fededge", help="That its tokens must be for."),
    brokers: list[str] = typer.Option(
        [],
        "--broker",
        help="ACCOUNT=TENANT: tokens of this provider with the subject ACCOUNT are an operator's; repeatable.",
    ),
    ready_file: Path | None = typer.Option(
        None, help="File that gets its URL as JSON, once it answers.", show_default=False
    ),
) -> None:
    """Serve functions of the gateway at /NAME until SIGTERM or Ctrl-C, over the same registry and store.

    [bold]Examples[/bold]

      fededge functions serve selection

      fededge functions serve all --port 8471
    """
    from fededge.errors import GatewayError, shown
    from fededge.fleet.gateway.server import serve as run
    from fededge.fleet.gateway.settings import GatewaySettings, Oidc
    from fededge.fleet.hosts.app import NAMES, create_app
    from fededge.fleet.registry.database import Registry
    from pipelines.triggered import Triggered

    for name in names:
        if name not in (*NAMES, "all"):
            raise GatewayError(
                f"no function {shown(name)}: choose of {', '.join(NAMES)}, or all", "NO_FUNCTION"
            )
    accounts = dict(each.rpartition("=")[::2] for each in brokers)
    if "" in accounts or (accounts and not oidc_issuer):
        raise GatewayError("--broker takes ACCOUNT=TENANT, and needs --oidc-issuer", "BROKER")
    chosen = GatewaySettings(
        host=host,
        port=port,
        url=url or settings.gateway_url(),
        certificate_file=certificate,
        private_key_file=private_key,
        insecure=insecure,
        oidc=Oidc(oidc_issuer, oidc_audience, accounts=accounts) if oidc_issuer else None,
    )

    def ready(where: str) -> None:
        show.say(f"functions: {where}")
        if ready_file is not None:
            storage.write(str(ready_file), json.dumps({"url": where}).encode())

    registry = Registry.open(chosen.database)
    try:
        triggered = Triggered(registry, settings.home(), show.sayer())
        served = NAMES if "all" in names else names
        run(chosen, ready, lambda settings, where: create_app(settings, where, served, triggered.look))
    finally:
        registry.close()
