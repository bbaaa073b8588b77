"""Which images a compiled pipeline names: by tag in a registry, or by digest from a file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fededge import __version__
from fededge.documents import ImageDigests

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("platform", "serving", "worker")


def compile_digits(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`fededge compile` with an endpoint in a process of its own: images are named when components are imported."""
    task = folder / "task.yaml"
    text = (ROOT / "examples" / "digits" / "task.yaml").read_text()
    task.write_text(
        text if re.search("^endpoint:", text, re.MULTILINE) else f"{text}\nendpoint: {{name: digits}}\n"
    )
    command = [sys.executable, "-m", "fededge", "compile", str(task), "-o", str(folder / "pipeline.yaml")]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)


def references(folder: Path) -> set[str]:
    """Every image that the pipeline names, whether a step runs in it or deploys it."""
    text = (folder / "pipeline.yaml").read_text()
    return set(re.findall(rf"\S+/(?:{'|'.join(NAMES)})[@:][\w.:-]+", text))


def deployed(folder: Path) -> str:
    """The image that deploy_endpoint is told to serve with."""
    text = (folder / "pipeline.yaml").read_text()
    found = re.search(r"deploy-endpoint:\n(?:.*\n)*?\s+image:\n\s+runtimeValue:\n\s+constant: (\S+)", text)
    assert found
    return found[1]


def test_a_registry_reaches_every_step_and_the_endpoint(tmp_path: Path) -> None:
    assert compile_digits(tmp_path, FEDEDGE_REGISTRY="registry:5000/a").returncode == 0
    assert references(tmp_path) == {f"registry:5000/a/{name}:{__version__}" for name in NAMES}
    assert deployed(tmp_path) == f"registry:5000/a/serving:{__version__}"


def test_digests_reach_every_step_and_the_endpoint_and_go_before_the_registry(tmp_path: Path) -> None:
    pushed = {name: f"elsewhere:5000/a/{name}@sha256:{place:064x}" for place, name in enumerate(NAMES)}
    ImageDigests(images=pushed).write(tmp_path / "images.json")
    done = compile_digits(
        tmp_path, FEDEDGE_IMAGES=str(tmp_path / "images.json"), FEDEDGE_REGISTRY="registry:5000/a"
    )
    assert done.returncode == 0, done.stderr
    assert references(tmp_path) == set(pushed.values())
    assert deployed(tmp_path) == pushed["serving"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "images.json"),
        ("{", "is not JSON"),
        ('{"format": "fededge-image-digests-1", "images": {"worker": "a/worker:1"}}', "no image-digests"),
        ('{"format": "fededge-image-digests-1", "images": {}}', "name no platform"),
    ],
)
def test_digests_that_cannot_be_read_end_a_compilation_by_name(
    content: str | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "images.json").write_text(content)
    done = compile_digits(tmp_path, FEDEDGE_IMAGES=str(tmp_path / "images.json"))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
