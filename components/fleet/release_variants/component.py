"""Release a model version to the devices."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Model, Output

from components.images import PLATFORM


@dsl.component(base_image=PLATFORM, install_kfp_package=False)
def release_variants(task: str, run: str, version: Input[Model], release: Output[Artifact]) -> None:
    """Sign a release manifest (device class -> variant) and publish it for the agents.

    Each model file is checked against its digest first. A retry publishes nothing new.

    Args:
        task: the task as canonical JSON.
        run: id of the pipeline run.
        version: the model-version document.
        release: the signed manifest, as published.
    """
    from pathlib import Path

    from fededge import lineage, settings
    from fededge.fleet import release as releases
    from fededge.signing import SigningKey
    from fededge.task import FederatedTask
    from fededge.tracking.run import TrackedRun

    spec = FederatedTask.from_json(task)
    with TrackedRun.join(run, spec).step("release_variants") as step:
        lineage.verify(version)
        key = SigningKey.for_releases()
        manifest = releases.build(spec, Path(version.path).read_bytes())
        manifest, envelope = releases.publish(settings.storage(), manifest, key)
        Path(release.path).write_bytes(envelope)
        lineage.seal(release, parents=[version], version=manifest.version, key=key.public.id)
        step.record("release", {**manifest.model_dump(mode="json"), "key": key.public.id})
