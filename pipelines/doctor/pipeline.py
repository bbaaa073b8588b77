"""A small pipeline that tries each image, its secrets, MLflow and the blob store from inside a cluster."""

import tempfile
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.compiler import Compiler

from components import images
from components.delivery.check_platform.component import check_platform
from fededge import storage
from fededge.task import FederatedTask
from pipelines.cluster_runs import pipeline_name
from pipelines.federated_training.steps import settings_for, step

NAME = pipeline_name("doctor")


def build(task: FederatedTask) -> Any:
    """The pipeline; its parameter `task` only says for which task it looks."""

    spec = task

    @dsl.pipeline(name=NAME, description="Tries from inside the cluster what FedEdge's steps rely on.")
    def doctor(task: str = spec.to_json()) -> None:
        with settings_for(spec, on_cluster=True, cache=False):
            for image in (images.PLATFORM, images.WORKER, images.SERVING):
                component = dsl.component(base_image=image, install_kfp_package=False)(
                    check_platform.python_func
                )
                step(component(), image, resumed=False)

    return doctor


def compile_to(task: FederatedTask, path: Path) -> None:
    """Compile it to the YAML file `path`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        Compiler().compile(build(task), str(file))
        storage.write(str(path), file.read_bytes())
