"""The two wheels of this tree, built and installed as on a device that has nothing but Python."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fededge import __version__

from .conftest import ROOT

pytestmark = pytest.mark.slow


def command(device: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`fededge` of the device, with nothing of this process's environment."""
    return subprocess.run(
        [device / "bin" / "fededge", *arguments],
        capture_output=True,
        text=True,
        cwd=device,
        env={"PATH": os.defpath, "HOME": str(device)},
    )


def test_a_device_has_the_library_and_neither_pipelines_nor_what_they_need(device: Path) -> None:
    packages = device / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    for absent in (
        "components",
        "pipelines",
        "serving",
        "kfp",
        "mlflow",
        "tensorflow",
        "typer",
        "sqlalchemy",
    ):
        assert not (packages / absent).exists(), absent
    assert (packages / "fededge" / "device" / "client.py").exists()
    beside = {"pip", "__pycache__"}  # what a virtual environment brings, and what running left
    files = [file for file in packages.rglob("*") if file.is_file() and not beside & set(file.parts)]
    size = sum(file.stat().st_size for file in files)
    assert size < 160e6


@pytest.mark.parametrize("verb", ["agent", "site"])
def test_its_programs_start(device: Path, verb: str) -> None:
    done = command(device, verb, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


def test_what_a_device_cannot_do_names_the_wheels_that_can(device: Path) -> None:
    done = command(device, "run", "task.yaml")
    assert done.returncode == 2
    assert "pip install 'fededge[platform]' fededge-pipelines" in done.stderr


def test_both_wheels_are_of_one_version(wheels: dict[str, Path]) -> None:
    assert {file.name.split("-")[1] for file in wheels.values()} == {__version__}
    config = configparser.ConfigParser()
    config.read(ROOT / "packaging" / "pipelines" / "setup.cfg")
    assert config["options"]["install_requires"].strip() == f"fededge=={__version__}"
