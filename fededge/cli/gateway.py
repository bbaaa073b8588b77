"""fededge gateway: serve the gateway of a fleet, and look after its registry."""

import json
import threading
import time
from pathlib import Path

import typer

from fededge import settings
from fededge.cli import serving_options as options
from fededge.cli import show
from fededge.cli.keys import Scope

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Serve the gateway that sites and devices connect to, and look after its registry.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
TENANT: str = typer.Option("default", help="Whose it is.")


@app.command()
def serve(
    host: str = options.HOST,
    port: int = typer.Option(8470, min=0, max=65535, help="Port; 0: a free one."),
    url: str | None = options.URL,
    certificate: Path | None = options.CERTIFICATE,
    private_key: Path | None = options.PRIVATE_KEY,
    client_ca: Path | None = typer.Option(
        None, help="PEM file: serve only those with a certificate of this CA (mTLS).", show_default=False
    ),
    insecure: bool = options.INSECURE,
    trusted_proxies: list[str] = typer.Option(
        [], "--trusted-proxy", help="Address of a proxy whose X-Forwarded-For is believed; repeatable."
    ),
    oidc_issuer: str | None = options.OIDC_ISSUER,
    oidc_audience: str = options.OIDC_AUDIENCE,
    enrolls_per_second: float = typer.Option(
        0.5, min=0.001, help="Clients that may enroll from one address, after the first 20."
    ),
    history_days: float | None = typer.Option(
        None, min=1, help="Days for which closed rounds are kept (default: for good).", show_default=False
    ),
    traces: str | None = typer.Option(
        None, help="OTLP endpoint, such as http://collector:4318/v1/traces.", show_default=False
    ),
    ready_file: Path | None = options.READY_FILE,
    token_file: Path | None = typer.Option(
        None, help="New file for the first admin's token (default: in FEDEDGE_HOME).", show_default=False
    ),
) -> None:
    """Serve until SIGTERM or Ctrl-C. It logs JSON lines on standard error.

    At its first start on an empty registry it makes the tenant [bold]default[/bold] and an admin's token.

    [bold]Examples[/bold]

      fededge gateway serve

      fededge gateway serve --host 0.0.0.0 --certificate tls.crt --private-key tls.key
    """
    from fededge.fleet.functions import operators
    from fededge.fleet.gateway.server import serve as run
    from fededge.fleet.gateway.settings import GatewaySettings, Oidc, Rate
    from fededge.fleet.registry.database import Registry
    from pipelines.triggered import Triggered

    oidc = Oidc(oidc_issuer, oidc_audience) if oidc_issuer else None
    chosen = GatewaySettings(
        host=host,
        port=port,
        url=url or settings.gateway_url(),
        certificate_file=certificate,
        private_key_file=private_key,
        client_ca_file=client_ca,
        insecure=insecure,
        trusted_proxies=tuple(trusted_proxies),
        oidc=oidc,
        enrolls=Rate(enrolls_per_second, max(20.0, enrolls_per_second)),
        history_seconds=None if history_days is None else 86_400 * history_days,
        trace_endpoint=traces,
    )
    registry = Registry.open(chosen.database)
    try:
        made = operators.first_admin(registry, time.time())
        if made is not None:
            file = token_file or settings.home() / "gateway" / "admin.token"
            file.parent.mkdir(parents=True, exist_ok=True)
            show.secret(file, made.token)
            show.wrote("the first admin's token", file)

        ready = options.telling("gateway", ready_file)
        ending = threading.Event()
        triggered = Triggered(registry, settings.home(), show.sayer())
        thread = threading.Thread(target=triggered.serve, args=(ending,), name="triggers")
        thread.start()
        try:
            run(chosen, ready)
        finally:
            ending.set()
            thread.join()
    finally:
        registry.close()


@app.command()
def migrate() -> None:
    """Make the tables of FEDEDGE_FLEET_DATABASE, or bring them to this version."""
    from fededge.fleet.registry.database import Registry

    Registry.migrate(settings.fleet_database())
    show.say("the registry is of this version")


@app.command()
def token(
    name: str = typer.Argument(..., help="Who or what uses it.", show_default=False),
    scope: Scope = typer.Option(Scope.admin, help="What it allows."),
    tenant: str = TENANT,
    output: Path = typer.Option(..., "-o", "--output", help="New file for it.", show_default=False),
) -> None:
    """Make a token at the registry itself, for who has lost theirs; else: fededge keys make."""
    from fededge.fleet.functions import operators
    from fededge.fleet.registry.database import Registry
    from fededge.protocol import OperatorRequest

    registry = Registry.open(settings.fleet_database())
    try:
        request = OperatorRequest(name=name, scope=scope.value)
        made = operators.make(registry, tenant, request, f"shell:{settings.user()}", time.time())
    finally:
        registry.close()
    show.secret(output, made.token)
    show.wrote(f"token {made.id}", output)


@app.command()
def backup(file: Path = typer.Argument(..., help="New file.", show_default=False)) -> None:
    """Write all of the registry to a checksummed archive, as of one moment; the gateway may run meanwhile."""
    from fededge.fleet.registry import backup as archive

    rows = archive.backup(settings.fleet_database(), file)
    show.wrote(f"{rows:,} rows", file)


@app.command()
def restore(file: Path = typer.Argument(..., help="That backup wrote.", show_default=False)) -> None:
    """Bring an archive back into an empty registry, of the same or another kind of database."""
    from fededge.fleet.registry import backup as archive

    rows = archive.restore(file, settings.fleet_database())
    show.say(f"restored {rows:,} rows")


@app.command()
def audit(
    limit: int = typer.Option(100, min=1, max=1_000_000, help="How many lines to list."),
    as_json: bool = show.JSON,
) -> None:
    """List the audit log: who did what, as its gateway tells (scope admin)."""
    from fededge.cli import fleet_options

    with fleet_options.gateway() as fleet:
        found = list(fleet_options.first(fleet.audit(), limit))
    if as_json:
        show.document([each.to_content() for each in found])
        return
    rows = [
        (
            each.number,
            fleet_options.when(each.at),
            each.actor,
            each.action,
            each.subject,
            json.dumps(each.details),
        )
        for each in found
    ]
    show.table(("number", "at", "actor", "action", "subject", "details"), rows)


@app.command("verify-audit")
def verify_audit() -> None:
    """Check that no line of the audit log was changed, taken out or put in."""
    from fededge.errors import IntegrityError
    from fededge.fleet.registry import audit as log
    from fededge.fleet.registry.database import Registry

    registry = Registry.open(settings.fleet_database())
    try:
        broken = log.verify(registry)
    finally:
        registry.close()
    if broken is not None:
        raise IntegrityError(f"the audit log is broken at {broken}. Compare it with a backup")
    show.say("the audit log is whole")
