"""The release manifest: built, published once, opened only when it is genuine."""

import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fededge import storage
from fededge.documents import ModelVersion, Release
from fededge.errors import DocumentError, IntegrityError, ReleaseError, StorageError
from fededge.fleet import release
from fededge.signing import SigningKey

pytestmark = pytest.mark.environment("platform", "edge")


def test_a_published_release_opens_as_it_was_built(fleet: Any) -> None:
    built = fleet.manifest(3)
    published, envelope = release.publish(fleet.root, built, fleet.key)
    assert published == built
    assert storage.read(fleet.url) == envelope
    opened = Release.opened(envelope, fleet.key.public, "tiny")
    assert opened == built
    assert opened.variant_for("camera").kind == "float32"
    assert (opened.version, opened.shape, opened.classes, opened.round) == (3, [4, 4, 1], 3, 12)


def test_publishing_again_changes_nothing(fleet: Any) -> None:
    first = fleet.publish(1)
    stored = storage.read(fleet.url)
    assert fleet.publish(1) == first
    assert storage.read(fleet.url) == stored


def test_every_new_release_is_issued_later_even_if_the_clock_goes_back(fleet: Any) -> None:
    first = fleet.publish(2)
    early = fleet.manifest(3, "second").model_copy(update={"issued": first.issued - 3600})
    later, _ = release.publish(fleet.root, early, fleet.key)
    assert later.issued > first.issued
    assert later.version == 3


def test_going_back_is_a_new_release(fleet: Any) -> None:
    old = fleet.publish(1)
    newer = fleet.publish(2, "second")
    back = fleet.publish(1)
    assert back.version == 1
    assert back.issued > newer.issued > old.issued


def test_a_damaged_release_is_replaced(fleet: Any) -> None:
    fleet.publish(1)
    storage.write(fleet.url, storage.read(fleet.url)[:-20])
    fleet.publish(1)
    assert Release.opened(storage.read(fleet.url), fleet.key.public, "tiny").version == 1


def test_a_tampered_model_is_not_published(fleet: Any) -> None:
    manifest = fleet.manifest(1)
    data = bytearray(storage.read(fleet.model_url(manifest)))
    data[500] ^= 1
    storage.write(fleet.model_url(manifest), bytes(data))
    with pytest.raises(IntegrityError, match="were released"):
        release.publish(fleet.root, manifest, fleet.key)
    assert not storage.exists(fleet.url)


def test_a_full_disk_leaves_the_published_release(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.publish(1)
    stored = storage.read(fleet.url)
    second = fleet.manifest(2, "second")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        release.publish(fleet.root, second, fleet.key)
    assert storage.read(fleet.url) == stored
    assert storage.names(fleet.url.rsplit("/", 1)[0]) == ["tiny.json"]


def test_a_release_signed_by_another_key_is_refused(fleet: Any) -> None:
    stranger = SigningKey(Ed25519PrivateKey.generate())
    envelope = stranger.sign(fleet.manifest(1).to_content())
    with pytest.raises(IntegrityError, match="trusted"):
        Release.opened(envelope, fleet.key.public, "tiny")


def test_a_release_of_another_task_is_refused(fleet: Any) -> None:
    _, envelope = release.publish(fleet.root, fleet.manifest(1), fleet.key)
    with pytest.raises(ReleaseError, match="'tiny', not 'other'"):
        Release.opened(envelope, fleet.key.public, "other")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "fededge-rollout-1"},
        {"extra": 1},
        {"version": 0},
        {"version": "1"},
        {"issued": -1.0},
        {"shape": [0]},
        {"devices": {"camera": {"kind": "float32", "url": "u", "digest": "md5:0", "bytes": 1}}},
        {
            "devices": {
                "camera": {"kind": "float32", "url": "u", "digest": "sha256:" + "0" * 64, "bytes": 1 << 40}
            }
        },
    ],
)
def test_a_signed_document_that_is_no_manifest_is_refused(fleet: Any, change: dict[str, Any]) -> None:
    envelope = fleet.key.sign({**fleet.manifest(1).to_content(), **change})
    with pytest.raises(ReleaseError, match=next(iter(change))):
        Release.opened(envelope, fleet.key.public, "tiny")


def test_a_class_that_the_release_does_not_know_is_named(fleet: Any) -> None:
    with pytest.raises(ReleaseError, match=r"'toaster'.*camera"):
        fleet.manifest(1).variant_for("toaster")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": {}}, "made for no device class"),
        ({"variants": []}, "device class gateway"),
    ],
)
def test_a_document_that_leaves_a_class_without_a_model_is_refused(
    fleet: Any, change: dict[str, Any], message: str
) -> None:
    document = json.dumps({**fleet.document(1), **change}).encode()
    with pytest.raises(ReleaseError, match=message):
        release.build(ModelVersion.from_bytes(document))


def test_a_document_that_is_not_json_is_refused(fleet: Any) -> None:
    with pytest.raises(DocumentError, match="Register the model again"):
        ModelVersion.from_bytes(b'{"version": 1')
