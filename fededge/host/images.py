"""The four container images, built from this checkout and pushed, by podman, buildah or docker."""

import os
import re
import shutil
import subprocess
import tempfile
from enum import StrEnum
from pathlib import Path

from fededge.errors import SetupError
from fededge.host.layout import IMAGES, ROOT, Command, require, say

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Engine(StrEnum):
    """What builds and pushes."""

    podman = "podman"
    buildah = "buildah"
    docker = "docker"


def find_engine(wanted: Engine | None = None) -> Engine:
    """`wanted`, or the first engine that is installed.

    Raises:
        SetupError: it is not installed.
    """
    for engine in [wanted] if wanted else list(Engine):
        if shutil.which(engine):
            return engine
    missing = f"{wanted} is not" if wanted else f"none of {', '.join(Engine)} is"
    raise SetupError(f"{missing} installed here: install an engine that builds images, such as podman")


def build(
    engine: Engine, name: str, reference: str, base: str, commit: str, platform: str | None = None
) -> None:
    """Build one image.

    An own package index (`UV_DEFAULT_INDEX`) and CA file (`SSL_CERT_FILE`) are handed to the build as secrets: no layer,
    history or command line shows them.

    Args:
        engine: what builds.
        name: of the image: platform, worker, serving or edge.
        reference: what to call it, with its tag.
        base: image with Python 3.11 that it stands on, with its digest.
        commit: of the code, which the image carries.
        platform: such as linux/arm64; by default that of this machine.

    Raises:
        SetupError: this is no checkout, `base` has no digest, or the build failed.
    """
    if not (IMAGES / "Dockerfile").exists():
        raise SetupError(
            f"there is no {IMAGES / 'Dockerfile'}: images are built in a clone of FedEdge, call its fededge"
        )
    if not re.search(f"@{DIGEST.pattern}$", base):
        raise SetupError(
            f"base {base!r} has no digest, and a tag moves: give it as NAME@sha256:<64 hex digits>"
        )
    command: Command = [engine, "build", "--target", name, "--tag", reference]
    command += ["--file", IMAGES / "Dockerfile"]
    for argument in (f"NAME={name}", f"BASE={base}", f"GIT_COMMIT={commit}"):
        command += ["--build-arg", argument]
    if engine is Engine.buildah:
        command.append("--layers")  # the others keep layers unasked
    if platform:
        command += ["--platform", platform]
    if ca := os.environ.get("SSL_CERT_FILE"):
        command += ["--secret", f"id=ca,src={ca}"]
    if os.environ.get("UV_DEFAULT_INDEX"):
        command += ["--secret", "id=index,env=UV_DEFAULT_INDEX"]
    say(f"building {reference}")
    require(f"building {reference}", [*command, ROOT])


def push(engine: Engine, reference: str) -> str:
    """Push an image to its registry.

    Returns:
        Its reference by digest, which names these very bytes for ever: `registry/name@sha256:...`.

    Raises:
        SetupError: the push failed, or the engine does not tell the digest.
    """
    say(f"pushing {reference}")
    repository = reference.rpartition(":")[0]
    if engine is Engine.docker:
        told = _pushed_by_docker(reference)
    else:
        with tempfile.TemporaryDirectory(prefix="fededge-push-") as folder:
            file = Path(folder) / "digest"
            require(f"pushing {reference}", [engine, "push", "--digestfile", file, reference])
            told = file.read_text(encoding="utf-8").strip()
    if not DIGEST.fullmatch(told):
        raise SetupError(
            f"{engine} does not tell the digest of {reference}: update it, or take another --engine"
        )
    return f"{repository}@{told}"


def _pushed_by_docker(reference: str) -> str:
    """Push, and give the digest that docker prints; what its image store says beside may be of another manifest."""
    told = ""
    command = [Engine.docker, "push", reference]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if found := re.search(f"digest: ({DIGEST.pattern})", line):
                told = found[1]
    if process.returncode:
        raise SetupError(
            f"pushing {reference} failed: docker push ended with status {process.returncode}. Read its message above"
        )
    return told
