"""fededge rollback: an earlier version becomes the champion again, at the endpoint and on the devices."""

import os

import typer

from fededge.cli import show
from fededge.cli.run import Platform


def rollback(
    name: str = typer.Argument(..., help="Model, named after its task.", show_default=False),
    version: int = typer.Argument(
        None, min=1, help="Version to go back to (default: the champion before).", show_default=False
    ),
    why: str = typer.Option(..., help="The reason, for those who come later.", show_default=False),
    on: Platform = typer.Option(Platform.local, help="Where it is served and released."),
) -> None:
    """Make an earlier version the champion again, then serve and release it.

    The decision is kept with the version, and `fededge models NAME` shows it. To repeat what failed after the
    decision, name the version.

    [bold]Example[/bold]

      fededge rollback digits --why "misreads sevens since Monday"

      fededge rollback digits 3 --why "drill"
    """
    from fededge.delivery.rollback import roll_back
    from fededge.errors import FedEdgeError, ReleaseError

    if not why.strip() or len(why) > 1000:
        raise typer.BadParameter(f"--why has {len(why)} characters: give a reason of at most 1000")
    os.environ["FEDEDGE_PLATFORM"] = "local" if on is Platform.local else "kubernetes"
    decided = roll_back(name, version, why)
    if decided:
        show.say(
            f"champion of {name}: version {decided.to_version}, no longer version {decided.from_version}"
        )
    else:
        show.say(f"version {version} is the champion of {name} already")
    try:
        _deliver(name)
    except FedEdgeError as error:
        again = (
            f"fededge rollback {name} {decided.to_version if decided else version} --why ... --on {on.value}"
        )
        raise ReleaseError(
            f"{error}. The champion is changed, but it is not served and released yet: then repeat `{again}`"
        ) from error


def _deliver(name: str) -> None:
    """Serve and release the champion as its task says."""
    from components.images import SERVING
    from fededge import settings
    from fededge.delivery import registry
    from fededge.delivery.endpoints import deployment
    from fededge.documents import ModelVersion
    from fededge.fleet import offering, release
    from fededge.signing import SigningKey

    def deliver(champion: ModelVersion) -> None:
        task = registry.task_of(champion)
        if task.endpoint:
            at_once = task.endpoint.model_copy(update={"canary_percent": None})
            served = deployment.deploy(at_once, task.operation.replicas, champion, SERVING)
            show.say(f"endpoint {served.name} serves version {served.version} at {served.rest}")
        if champion.devices:
            key = SigningKey.for_releases()
            published, envelope = release.publish(settings.storage(), release.build(champion), key)
            offering.offer_to_gateway(published, envelope)
            show.say(f"version {published.version} is released to {', '.join(sorted(published.devices))}")

    registry.for_champion(name, deliver)
