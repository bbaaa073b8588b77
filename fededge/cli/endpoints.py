"""fededge endpoints, fededge stop: the servers on this machine."""

import typer

from fededge.cli import show


def endpoints(as_json: bool = show.JSON) -> None:
    """List the inference endpoints that run on this machine."""
    from fededge.delivery.endpoints import local as local_endpoint

    found = local_endpoint.running()
    show.table(
        ["endpoint", "version", "variant", "REST", "gRPC", "log"],
        [(e.name, e.version, e.variant, e.rest, e.grpc, e.log) for e in found],
        as_json=as_json,
    )
    if not found and not as_json:
        show.say("no endpoint runs here")


def stop(name: str = typer.Argument("", help="Endpoint (default: all).", show_default=False)) -> None:
    """Stop inference endpoints of this machine.

    [bold]Examples[/bold]

      fededge stop

      fededge stop digits
    """
    from fededge.delivery.endpoints import local as local_endpoint
    from fededge.errors import EndpointError

    names = [name] if name else local_endpoint.names()
    for each in names:
        if not local_endpoint.stop(each):
            raise EndpointError(f"no endpoint {each} runs here: see fededge endpoints")
        show.say(f"stopped {each}")
    if not names:
        show.say("no endpoint runs here")
