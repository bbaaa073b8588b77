"""Signed documents: what was signed comes back, and nothing else does."""

import base64
import contextlib
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fededge.errors import IntegrityError, StorageError
from fededge.signing import LIMIT, SigningKey, TrustedKey, public_file

pytestmark = pytest.mark.environment("platform", "worker", "serving", "edge")

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
numbers = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | text,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=4),
    max_leaves=12,
)
payloads = st.dictionaries(text, json_values, max_size=5)


@given(payloads)
def test_what_was_signed_is_what_is_read(payload: dict) -> None:
    assert KEY.public.verify(KEY.sign(payload)) == payload


@given(payloads)
def test_signing_twice_gives_the_same_bytes(payload: dict) -> None:
    assert KEY.sign(payload) == KEY.sign(payload)


@given(payloads, payloads)
def test_a_signature_fits_no_other_payload(signed: dict, other: dict) -> None:
    envelope, forged = json.loads(KEY.sign(signed)), json.loads(KEY.sign(other))
    forged["signature"] = envelope["signature"]
    data = json.dumps(forged).encode()
    if envelope["payload"] == forged["payload"]:
        assert KEY.public.verify(data) == signed
    else:
        with pytest.raises(IntegrityError, match="changed after signing"):
            KEY.public.verify(data)


@given(payloads, st.data())
def test_a_flipped_bit_never_changes_what_is_read(payload: dict, data: st.DataObject) -> None:
    envelope = bytearray(KEY.sign(payload))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(IntegrityError):
        assert KEY.public.verify(bytes(envelope)) == payload


@given(payloads, st.data())
def test_a_truncated_envelope_is_refused(payload: dict, data: st.DataObject) -> None:
    envelope = KEY.sign(payload)
    with pytest.raises(IntegrityError):
        KEY.public.verify(envelope[: data.draw(st.integers(0, len(envelope) - 1))])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        KEY.public.verify(data)


def test_another_key_is_refused_by_both_ids() -> None:
    with pytest.raises(IntegrityError) as refused:
        KEY.public.verify(OTHER.sign({"a": 1}))
    assert KEY.public.id in str(refused.value)
    assert OTHER.public.id in str(refused.value)


def test_another_key_under_the_trusted_id_is_refused() -> None:
    envelope = json.loads(OTHER.sign({"a": 1})) | {"key": KEY.public.id}
    with pytest.raises(IntegrityError, match="changed after signing"):
        KEY.public.verify(json.dumps(envelope).encode())


@pytest.mark.parametrize("payload", ["[1]", '"text"', "7", "not json", "[" * 100_000])
def test_a_signed_payload_that_is_no_object_is_refused(payload: str) -> None:
    signature = base64.b64encode(KEY._key.sign(payload.encode())).decode()
    envelope = {"payload": payload, "signature": signature, "key": KEY.public.id}
    with pytest.raises(IntegrityError):
        KEY.public.verify(json.dumps(envelope).encode())


def test_an_oversized_document_is_refused_at_both_ends() -> None:
    with pytest.raises(IntegrityError, match="too large to sign"):
        KEY.sign({"a": "x" * LIMIT})
    with pytest.raises(IntegrityError, match="larger than"):
        KEY.public.verify(b"{" + b" " * LIMIT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_a_payload_that_is_not_json_is_not_signed(value: object) -> None:
    with pytest.raises(IntegrityError, match="not JSON"):
        KEY.sign({"a": value})


def test_a_created_key_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "release.pem"
    made = SigningKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in path.parent.iterdir()) == ["release.pem", "release.pub.pem"]
    assert SigningKey.load(path).public.id == made.public.id
    assert TrustedKey.load(public_file(path)).verify(made.sign({"a": 1})) == {"a": 1}


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "release.pem"
    SigningKey.create(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"release\.pem"):
        SigningKey.create(path)
    SigningKey.load_or_create(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["release.pem", "release.pub.pem"]


def test_a_failed_write_leaves_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        SigningKey.load_or_create(tmp_path / "release.pem")
    assert list(tmp_path.iterdir()) == []


def test_a_lost_public_key_is_exported_again(tmp_path: Path) -> None:
    path = tmp_path / "release.pem"
    made = SigningKey.create(path)
    public_file(path).unlink()
    SigningKey.load_or_create(path)
    assert TrustedKey.load(public_file(path)).id == made.public.id


def test_a_key_is_made_for_releases_on_a_laptop_but_not_on_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "release.pem"
    monkeypatch.setenv("FEDEDGE_SIGNING_KEY_FILE", str(path))
    monkeypatch.setenv("FEDEDGE_PLATFORM", "kubernetes")
    with pytest.raises(StorageError, match="FEDEDGE_SIGNING_KEY_FILE"):
        SigningKey.for_releases()
    assert not path.exists()
    monkeypatch.setenv("FEDEDGE_PLATFORM", "local")
    made = SigningKey.for_releases()
    monkeypatch.setenv("FEDEDGE_PLATFORM", "kubernetes")
    assert SigningKey.for_releases().public.id == made.public.id


def test_no_text_form_shows_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "release.pem"
    SigningKey.create(path)
    secret = path.read_text().splitlines()[1]
    assert secret not in repr(SigningKey.load(path)) + str(SigningKey.load(path))
    path.write_text(path.read_text().replace("END PRIVATE", "END PRIVAT"))
    with pytest.raises(IntegrityError) as refused:
        SigningKey.load(path)
    assert secret not in str(refused.value)
    assert refused.value.__cause__ is None


def test_other_files_than_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"no key")
    for load in (SigningKey.load, TrustedKey.load):
        with pytest.raises(IntegrityError, match=r"key\.pem"):
            load(path)
        with pytest.raises(StorageError):
            load(tmp_path / "missing.pem")


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    elliptic = generate_private_key(SECP256R1())
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(
        elliptic.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public.write_bytes(
        elliptic.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(IntegrityError, match="Ed25519"):
        SigningKey.load(private)
    with pytest.raises(IntegrityError, match="Ed25519"):
        TrustedKey.load(public)
