"""What the verbs that serve share: where they listen, TLS, and who else vouches for operators."""

import json
from collections.abc import Callable
from pathlib import Path

import typer

from fededge import storage
from fededge.cli import show

HOST: str = typer.Option("127.0.0.1", help="Address to listen on.")
URL: str | None = typer.Option(
    None,
    help="URL by which clients reach it (default: FEDEDGE_GATEWAY_URL, or as they came).",
    show_default=False,
)
CERTIFICATE: Path | None = typer.Option(None, help="PEM file, for TLS.", show_default=False)
PRIVATE_KEY: Path | None = typer.Option(None, help="PEM file, for TLS.", show_default=False)
INSECURE: bool = typer.Option(
    False, "--insecure", help="Plain HTTP beyond this machine, as behind a proxy that does TLS."
)
OIDC_ISSUER: str | None = typer.Option(None, help="URL of an OpenID Connect provider.", show_default=False)
OIDC_AUDIENCE: str = typer.Option("fededge", help="That its tokens must be for.")
READY_FILE: Path | None = typer.Option(
    None, help="File that gets its URL as JSON, once it answers.", show_default=False
)


def telling(what: str, ready_file: Path | None) -> Callable[[str], None]:
    """What is called with the URL of `what`, once it answers."""

    def ready(where: str) -> None:
        show.say(f"{what}: {where}")
        if ready_file is not None:
            storage.write(str(ready_file), json.dumps({"url": where}).encode())

    return ready
