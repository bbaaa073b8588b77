"""Release envelopes of an enemy: only what the trusted key signed for this task is read."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fededge.documents import Release, VariantFile
from fededge.errors import IntegrityError
from fededge.signing import LIMIT, SigningKey
from tests.attacks.hostile import PIECES, VALUES, cases, changed, mutants, read_or_refused, valid

pytestmark = pytest.mark.environment("platform", "edge")

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = SigningKey(PRIVATE)
OTHER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"\1" * 32))
SCHEMA = Release.model_json_schema()
CONTENT: dict[str, Any] = {
    "format": Release.format_name(),
    "task": "digits",
    "version": 1,
    "issued": 1.0,
    "devices": {"gateway": {"kind": "int8", "url": "/x", "digest": "sha256:" + "a" * 64, "bytes": 5}},
    "shape": [28, 28, 1],
    "classes": 10,
    "state_digest": "sha256:" + "b" * 64,
    "round": 3,
}
ENVELOPE = KEY.sign(CONTENT)


def signed(payload: str) -> bytes:
    """An envelope of any text that was signed by the trusted key."""
    signature = base64.b64encode(PRIVATE.sign(payload.encode())).decode()
    return json.dumps({"payload": payload, "signature": signature, "key": KEY.public.id}).encode()


def opened(envelope: bytes) -> Release | None:
    return read_or_refused(lambda: Release.opened(envelope, KEY.public, "digits"))


def test_the_release_that_was_signed_is_read() -> None:
    release = opened(ENVELOPE)
    assert release is not None
    assert isinstance(release.devices["gateway"], VariantFile)


@settings(max_examples=300)
@given(mutants([ENVELOPE]))
def test_a_changed_envelope_says_the_same_or_is_refused(data: bytes) -> None:
    payload = read_or_refused(lambda: KEY.public.verify(data), IntegrityError)
    assert payload is None or payload == CONTENT


@settings(max_examples=300)
@given(changed(json.loads(ENVELOPE)))
def test_an_envelope_with_changed_fields_says_the_same_or_is_refused(content: Any) -> None:
    payload = read_or_refused(lambda: KEY.public.verify(json.dumps(content).encode()), IntegrityError)
    assert payload is None or payload == CONTENT


@settings(max_examples=300)
@given(changed(CONTENT) | valid(SCHEMA, SCHEMA))
def test_a_signed_release_with_changed_values_is_read_or_refused_by_name(content: Any) -> None:
    opened(signed(json.dumps(content)))


@given(mutants([json.dumps(CONTENT).encode()]))
def test_a_signed_release_with_changed_bytes_is_read_or_refused_by_name(payload: bytes) -> None:
    opened(signed(payload.decode("utf-8", "replace")))


@pytest.mark.parametrize("piece", PIECES)
def test_pieces_that_break_parsers_are_refused_by_name(piece: bytes) -> None:
    text = piece.decode("utf-8", "replace")
    for data in (piece, b'{"payload":' + piece + b"}", signed(text), signed('{"format":' + text + "}")):
        assert opened(data) is None


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("field", sorted(CONTENT))
def test_each_field_with_each_hostile_value_is_read_or_refused(field: str, value: Any) -> None:
    release = opened(signed(json.dumps(CONTENT | {field: value})))
    if release is not None:
        read_or_refused(lambda: release.variant_for("\x1b[2J"))


@given(st.binary(max_size=80))
def test_no_other_signature_fits(signature: bytes) -> None:
    forged = json.loads(ENVELOPE) | {"signature": base64.b64encode(signature).decode()}
    assert opened(json.dumps(forged).encode()) is None


def test_another_key_another_task_and_a_large_envelope_are_refused() -> None:
    assert opened(OTHER.sign(CONTENT)) is None
    assert opened(KEY.sign(CONTENT | {"task": "other\x1b"})) is None
    assert opened(ENVELOPE + b" " * LIMIT) is None


@cases("releases")
def test_what_once_did_harm_is_refused_by_name(case: bytes) -> None:
    opened(case)
    opened(signed(case.decode("utf-8", "replace")))
