"""Releases at a gateway: the newest of each task, told to who follows it, and what clients say that they run."""

from typing import Any

import pytest

from fededge.errors import GatewayError
from fededge.fleet.functions import blobs, enrollment, releases
from fededge.fleet.registry.database import Registry
from fededge.protocol import Following, ReleaseRequest, Running
from tests.registries import NOW, TENANT, make_fleet, make_tenant

CAMERA, HUB, FIRST, SECOND = (f"sha256:{each * 64}" for each in "abcd")


def request(manifest: str = FIRST, issued: float = 10.0, **models: str) -> ReleaseRequest:
    return ReleaseRequest(manifest=manifest, issued=issued, models=models or {"camera": CAMERA, "hub": HUB})


@pytest.fixture
def fleet(registry: Registry) -> Registry:
    make_fleet(registry, ["device-1", "device-2"])
    for digest in (CAMERA, HUB, FIRST, SECOND):
        blobs.stored(registry, TENANT, digest, 100, NOW)
    return registry


def publish(registry: Registry, wanted: ReleaseRequest) -> Any:
    return releases.publish(registry, TENANT, "digits", wanted, "ada", NOW)


def follow(registry: Registry, **said: Any) -> list[releases.Newer]:
    following = Following(**{"task": "digits", "device_class": "camera", **said})
    return releases.follow(registry, TENANT, "device-1", [following], NOW)


def test_a_release_is_told_to_who_does_not_have_it(fleet: Registry) -> None:
    assert follow(fleet) == []
    publish(fleet, request())
    newer = releases.Newer("digits", (FIRST, 100), (CAMERA, 100))
    assert follow(fleet) == [newer]
    assert follow(fleet, manifest=SECOND) == [newer]
    assert follow(fleet, manifest=FIRST) == []
    assert follow(fleet, device_class="kiosk")[0].model is None
    assert follow(fleet, task="other") == []


def test_a_release_that_was_issued_no_later_is_refused_and_the_same_changes_nothing(fleet: Registry) -> None:
    first = publish(fleet, request())
    assert publish(fleet, request()) == first
    for issued in (9.0, 10.0):
        with pytest.raises(GatewayError, match="issued later"):
            publish(fleet, request(SECOND, issued))
    assert publish(fleet, request(SECOND, 11.0, camera=CAMERA)).manifest == SECOND
    assert [each.manifest for each in releases.listing(fleet, TENANT).items] == [SECOND]
    with pytest.raises(GatewayError, match="issued later"):
        publish(fleet, request())


def test_a_release_of_what_is_not_stored_is_refused(fleet: Registry) -> None:
    with pytest.raises(GatewayError, match="not stored"):
        publish(fleet, request(camera=f"sha256:{'9' * 64}"))
    with pytest.raises(GatewayError, match="no release"):
        releases.get(fleet, TENANT, "digits")


def test_what_a_release_names_is_kept_until_another_takes_its_place(fleet: Registry) -> None:
    publish(fleet, request())

    def unused() -> set[str]:
        return {digest for digest, owner in blobs.unused(fleet, TENANT, NOW + 1) if owner is None}

    assert not unused() & {FIRST, CAMERA, HUB}
    assert SECOND in unused()
    publish(fleet, request(SECOND, 11.0, camera=CAMERA))
    assert unused() >= {FIRST, HUB}
    assert not unused() & {SECOND, CAMERA}


def test_a_client_shows_what_it_runs(fleet: Registry) -> None:
    running = Running(
        task="digits",
        device_class="camera",
        version=3,
        kind="int8",
        digest=CAMERA,
        status="running",
        score=0.5,
    )
    follow(fleet, running=running)
    assert enrollment.info(fleet, TENANT, "device-1", NOW).running == [running]
    assert enrollment.info(fleet, TENANT, "device-2", NOW).running == []
    failed = running.model_copy(update={"status": "failed", "error": "the model hangs"})
    follow(fleet, manifest=FIRST, running=failed)
    assert enrollment.info(fleet, TENANT, "device-1", NOW).running == [failed]


def test_tenants_see_only_their_own_releases(fleet: Registry) -> None:
    make_tenant(fleet, "other")
    publish(fleet, request())
    assert releases.listing(fleet, "other").items == []
    assert (
        releases.follow(fleet, "other", "device-1", [Following(task="digits", device_class="camera")], NOW)
        == []
    )
