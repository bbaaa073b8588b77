"""What ties an artifact to its bytes and its past: digest, parents and round in its metadata."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fededge.errors import IntegrityError
from fededge.storage import digest_path


class Artifact(Protocol):
    """The part of a Kubeflow artifact that lineage needs."""

    path: str
    metadata: dict[str, Any]


def seal(artifact: Artifact, parents: Iterable[Artifact] = (), **facts: Any) -> None:
    """Write digest, parents' digests and `facts` (such as round) into the artifact's metadata."""
    artifact.metadata.update(
        digest=digest_path(artifact.path),
        parents=[parent.metadata["digest"] for parent in parents],
        **facts,
    )


def verify(*artifacts: Artifact) -> None:
    """Check each artifact's bytes against the digest in its metadata.

    Raises:
        IntegrityError: no digest, or other bytes than were sealed.
    """
    for artifact in artifacts:
        expected = artifact.metadata.get("digest")
        found = digest_path(artifact.path)
        if found != expected:
            raise IntegrityError(
                f"artifact {Path(artifact.path).name} at {artifact.path} has digest {found} but was "
                f"sealed as {expected}: it was changed after the step that made it. "
                "Make it again in a new run (`fededge run --fresh`)"
            )
