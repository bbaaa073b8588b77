"""fededge clients: the sites and devices of a fleet."""

import json
from enum import StrEnum
from pathlib import Path

import typer

from fededge.cli import fleet_options, show
from fededge.cli.fleet_options import LIMIT, YES, gateway

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The sites and devices of a fleet, as its gateway knows them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
CLIENT: str = typer.Argument(..., help="Id of the client.", show_default=False)


class Kind(StrEnum):
    """What a client is."""

    site = "site"
    device = "device"
    relay = "relay"


@app.command("list")
def list_clients(
    dataset: str | None = typer.Option(None, help="Only those that hold it.", show_default=False),
    region: str | None = typer.Option(None, help="Only those in it.", show_default=False),
    connected: bool = typer.Option(False, "--connected", help="Only those that are there now."),
    limit: int = LIMIT,
    as_json: bool = show.JSON,
) -> None:
    """List clients.

    [bold]Example[/bold]

      fededge clients list --dataset rooms --connected
    """
    with gateway() as fleet:
        found = list(
            fleet_options.first(
                fleet.clients(dataset=dataset, region=region, connected=True if connected else None), limit
            )
        )
    if as_json:
        show.document([client.to_content() for client in found])
        return
    rows = [
        (
            client.client,
            client.kind,
            client.region,
            "revoked" if client.state == "revoked" else "connected" if client.connected else "away",
            fleet_options.when(client.last_seen),
            client.rounds,
            ", ".join(f"{each.name} ({each.train:,})" for each in client.datasets),
        )
        for client in found
    ]
    show.table(
        ("client", "kind", "region", "state", "last seen", "rounds", "datasets (training examples)"), rows
    )


@app.command("show")
def show_client(client: str = CLIENT) -> None:
    """Show all that the gateway knows of a client, as JSON."""
    with gateway() as fleet:
        show.document(fleet.client(client).to_content())


@app.command()
def enroll(
    client: str | None = typer.Argument(
        None, help="Id of the new client (default: made up).", show_default=False
    ),
    kind: Kind = typer.Option(Kind.site, help="What it is."),
    region: str | None = typer.Option(None, help="Where it is.", show_default=False),
    device_class: str | None = typer.Option(None, "--class", help="Its device class.", show_default=False),
    attributes: list[str] = typer.Option(
        [], "--tag", metavar="NAME=VALUE", help="What is said of it; repeatable."
    ),
    count: int = typer.Option(1, min=1, max=10_000, help="How many tokens, for as many clients."),
    hours: float = typer.Option(24.0, min=0.01, max=720.0, help="For how long a token is good."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="File to write them to.", show_default=False
    ),
    as_json: bool = show.JSON,
) -> None:
    """Make one-time tokens, with which new clients enroll themselves. A token is shown once.

    [bold]Examples[/bold]

      fededge clients enroll hospital-a --region eu-west --tag building=north

      fededge clients enroll --kind device --class camera --count 500 -o tokens.json
    """
    from fededge.protocol import EnrollmentRequest

    request = EnrollmentRequest(
        client=client,
        kind=kind.value,
        region=region,
        device_class=device_class,
        attributes=fleet_options.facts(attributes, "--tag"),
        count=count,
        expires_seconds=hours * 3600,
    )
    with gateway() as fleet:
        tokens = fleet.enroll(request)
    content = [token.to_content() for token in tokens]
    if output is not None:
        show.secret(output, json.dumps(content, indent=1))
        show.wrote(f"{len(content)} tokens", output)
    elif as_json:
        show.document(content)
    else:
        rows = [(token.client, fleet_options.when(token.expires), token.token) for token in tokens]
        show.table(("client", "good until", "token"), rows)
        program = "agent" if kind is Kind.device else "site"
        show.say(f"at the client: fededge {program} enroll URL --token-file FILE")


@app.command()
def revoke(client: str = CLIENT, yes: bool = YES) -> None:
    """Shut a client out for good, at once: its connection ends, and its key is never taken again."""
    if not yes:
        typer.confirm(f"Shut out {client} for good?", abort=True)
    with gateway() as fleet:
        fleet.revoke_client(client)
    show.say(f"revoked {client}")


@app.command()
def tag(
    client: str = CLIENT,
    attributes: list[str] = typer.Argument(
        None, metavar="[NAME=VALUE]...", help="A tag of no value is removed."
    ),
    region: str | None = typer.Option(None, help="Where it is.", show_default=False),
    device_class: str | None = typer.Option(None, "--class", help="Its device class.", show_default=False),
) -> None:
    """Change what is said of a client.

    [bold]Example[/bold]

      fededge clients tag hospital-a building=south floor= --region eu-north
    """
    from fededge.protocol import ClientChange

    said = fleet_options.facts(attributes or [], "NAME=VALUE")
    change = ClientChange(
        region=region,
        device_class=device_class,
        attributes={name: value or None for name, value in said.items()},
    )
    with gateway() as fleet:
        show.document(fleet.change_client(client, change).to_content())


@app.command()
def update(
    wheels: list[str] = typer.Argument(
        ...,
        metavar="CLASS=FOLDER...",
        help="A device class, and the folder of its wheels.",
        show_default=False,
    ),
    key: Path | None = typer.Option(
        None, help="Private key to sign with (default: that of releases).", show_default=False
    ),
) -> None:
    """Release another version of FedEdge itself to clients of these device classes, signed.

    A folder holds the wheel of fededge, and of each package in which the class is to differ from what was installed
    there by hand. A client whose policy has `program`, with this class and the public key, fetches the bundle, proves
    it, installs it beside what runs, tries it in a child and switches. It goes back by itself where the new one has no
    session with the gateway. `fededge clients show CLIENT` tells what runs, or why not.

    Each release takes the place of the one before: name all classes that are to follow.

    [bold]Example[/bold]

      fededge clients update camera=wheels/arm64 hub=wheels/x86-64
    """
    from fededge.fleet import program_release
    from fededge.signing import SigningKey

    folders = {name: Path(folder) for name, folder in fleet_options.facts(wheels, "CLASS=FOLDER").items()}
    signing = SigningKey.for_releases() if key is None else SigningKey.load(key)
    with gateway() as fleet:
        made = program_release.release(fleet, folders, signing)
    show.say(
        f"fededge {made.version} is released to {', '.join(sorted(made.bundles))}, signed by {signing.public.id}"
    )
