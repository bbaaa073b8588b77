"""Handing releases to the gateway, from which clients take them."""

from collections.abc import Mapping

from fededge import settings, storage
from fededge.documents import Release, check_model
from fededge.fleet.gateway_client import GatewayClient
from fededge.protocol import ReleaseRequest


def offer(gateway: GatewayClient, release: Release, envelope: bytes) -> None:
    """Hand a published release to the gateway, which tells the clients that follow its task.

    Raises:
        GatewayError: it does not take it.
        IntegrityError, StorageError: a model cannot be read as it was released.
    """
    for variant in {each.digest: each for each in release.devices.values()}.values():
        model = storage.read(variant.url, variant.bytes)
        check_model(variant, model)
        gateway.store(model)
    models = {name: variant.digest for name, variant in release.devices.items()}
    hand_over(gateway, release.task, envelope, release.issued, models)


def hand_over(
    gateway: GatewayClient, task: str, envelope: bytes, issued: float, files: Mapping[str, str]
) -> None:
    """Hand the signed `envelope` of a release to the gateway, which has its files already.

    Args:
        issued: as the envelope says.
        files: digest of what each device class fetches.

    Raises:
        GatewayError: it does not take it.
    """
    request = ReleaseRequest(manifest=gateway.store(envelope), issued=issued, models=dict(files))
    gateway.put_release(task, request)


def offer_to_gateway(release: Release, envelope: bytes) -> bool:
    """`offer` it to the gateway that the environment names; whether it names one."""
    if settings.gateway() is None:
        return False
    with GatewayClient.from_settings() as gateway:
        offer(gateway, release, envelope)
    return True
