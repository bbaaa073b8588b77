"""Rolling back: a person makes an earlier version the champion again, and MLflow keeps the decision."""

import time

from fededge import settings, storage
from fededge.delivery import registry
from fededge.delivery.registry import CHAMPION, ROLLBACK, Entry
from fededge.documents import ModelVersion, Rollback, check_model
from fededge.errors import ReleaseError
from fededge.tracking.connection import connect, exclusive, translated


def roll_back(name: str, version: int | None, why: str) -> Rollback | None:
    """Make an earlier version of a model its champion, and record who did that and why.

    What is served and released does not change yet: deploy and release the champion afterwards.

    Args:
        name: of the model.
        version: to make champion; None: the one that was champion before the present one was registered.
        why: for those who come later.

    Returns:
        The recorded decision; None where that version is the champion already.

    Raises:
        ReleaseError: there is no such version, it never was the champion, or there is none to go back to.
        IntegrityError, StorageError: its document or a model file is no longer what was registered.
        TrackingError: MLflow cannot be reached or refuses.
    """
    with exclusive():
        found = {entry.version: entry for entry in registry.versions(name)}
        present = next((entry for entry in found.values() if CHAMPION in entry.aliases), None)
        if present is None:
            raise ReleaseError(
                f"{name} has no champion to roll back from: `fededge models` lists what is registered"
            )
        number = _before(present) if version is None else version
        if number == present.version:
            return None
        if number not in found:
            raise ReleaseError(
                f"{name} has no version {number} (it has {', '.join(map(str, sorted(found)))}): name one of those"
            )
        _check(found[number].document())
        decision = Rollback(
            name=name,
            from_version=present.version,
            to_version=number,
            who=settings.user()[:200],
            why=why,
            at=time.time(),
        )
        with translated("roll back a model in"):
            client = connect()
            tag = f"{ROLLBACK}{len(found[number].rollbacks) + 1}"
            client.set_model_version_tag(name, str(number), tag, decision.to_bytes().decode())
            client.set_registered_model_alias(name, CHAMPION, str(number))
        return decision


def _before(present: Entry) -> int:
    """The version that was champion when `present` took its place."""
    decision = present.decision
    if decision is None or decision.champion is None:
        raise ReleaseError(
            f"no version of {present.name} was champion before version {present.version}: name the version to go "
            f"back to, as in `fededge rollback {present.name} VERSION`"
        )
    return decision.champion.version


def _check(version: ModelVersion) -> None:
    """Check that `version` may be served and released, before anything is changed."""
    if not version.champion:
        raise ReleaseError(
            f"version {version.version} of {version.name} never became the champion: roll back to one that did"
        )
    for variant in version.variants:
        check_model(variant, storage.read(variant.url, variant.bytes))
