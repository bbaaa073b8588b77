"""Which environment of this machine stands for an image."""

import re
from pathlib import Path

from fededge.errors import EnvironmentMissing
from fededge.host.layout import NAMES, VENVS


def interpreter_folder(image: str, environments: Path = VENVS) -> Path:
    """The bin folder of the environment that stands for `image`.

    Raises:
        EnvironmentMissing: there is none.
    """
    name = re.split(r"[:@]", image.rsplit("/", 1)[-1])[0]
    if name not in NAMES:
        raise EnvironmentMissing(
            f"image {image} has no environment on this machine: only {', '.join(NAMES)} do. "
            "Run this pipeline on Kubeflow, or give its components one of these images"
        )
    folder = environments / name / "bin"
    if not (folder / "python3").exists():
        raise EnvironmentMissing(
            f"the environment of image {name} is not set up ({folder} has no python3): "
            "run `make run`, or `python -m fededge.host`"
        )
    return folder
