"""Release the champion to the devices."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def release_variants(task: str, run: str, version: Input[Model], release: Output[Artifact]) -> None:
    """Sign a release of the champion (device class to variant) and publish it for the agents.

    The champion is the given version, unless another took its place or someone rolled back meanwhile. Each
    model file is checked against its digest first. Where the environment names a gateway, it gets the release, too. A
    retry publishes nothing new.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        version: the model-version document of what is served, or else of this run's model.
        release: the signed release, as published.
    """
    from fededge import lineage, settings, storage
    from fededge.delivery import registry
    from fededge.documents import ModelVersion
    from fededge.fleet import offering
    from fededge.fleet import release as releases
    from fededge.signing import SigningKey
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("release_variants") as step:
        lineage.verify(version)
        key, given = SigningKey.for_releases(), ModelVersion.read(version.path)
        champion, (published, envelope) = registry.for_champion(
            given.name, lambda found: releases.publish(settings.storage(), releases.build(found), key)
        )
        offered = offering.offer_to_gateway(published, envelope)
        storage.write(release.path, envelope)
        lineage.seal(release, parents=[version], version=published.version, key=key.public.id)
        step.record("release", published)
        if champion.version != given.version:
            print(f"fededge: {registry.superseded(given.version, champion.version)}, and is released instead")
        print(
            f"fededge: version {published.version} is released to {len(published.devices)} device classes"
            + offered * ", by the gateway"
        )
