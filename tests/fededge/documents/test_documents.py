"""Documents: written and read alike, refused by name when newer, malformed or of another kind."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fededge import documents
from fededge.documents import Document, Evaluation, GateDecision, ModelVersion, Population, Release, Rounds
from fededge.errors import DocumentError, StorageError

pytestmark = pytest.mark.environment("platform", "worker", "serving", "edge")

KINDS = [
    value
    for name in documents.__all__
    if isinstance(value := getattr(documents, name), type)
    and issubclass(value, Document)
    and value is not Document
]
POPULATION = {
    "clients": [{"id": "site-0", "train": 9, "test": 1, "labels": [4, 5]}],
    "example": {
        "features": [{"name": "image", "dtype": "float32", "shape": [2, 2, 1]}],
        "label": {"kind": "class", "classes": 2, "names": []},
    },
    "examples": 10,
    "simulated": True,
}
OLD_VERSION = {
    "name": "digits",
    "version": 3,
    "task_digest": "sha256:" + "a" * 64,
    "state_digest": "sha256:" + "b" * 64,
    "round": 12,
    "git_commit": "unknown",
    "run": "digits-1",
    "champion": True,
    "accuracy": 0.98,
    "shape": [28, 28, 1],
    "classes": 10,
    "variants": [],
    "devices": {},
}


def population(**changes: Any) -> dict[str, Any]:
    return {"format": "fededge-population-3", **POPULATION, **changes}


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Population.from_content(population())
    written.write(tmp_path / "population.json")
    assert Population.read(tmp_path / "population.json") == written
    assert json.loads((tmp_path / "population.json").read_bytes())["format"] == "fededge-population-3"


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len({kind.KIND for kind in KINDS}) == len(KINDS) >= 12


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_a_newer_format_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(DocumentError, match=f"fededge-{kind.KIND}-99, newer than {kind.format_name()}, "):
        kind.from_content({"format": f"fededge-{kind.KIND}-99"})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_another_kind_of_document_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(DocumentError, match=f"'fededge-other-1' where {kind.format_name()} is expected"):
        kind.from_content({"format": "fededge-other-1"})


def test_a_document_without_a_format_is_refused_with_the_remedy() -> None:
    with pytest.raises(DocumentError, match=r"has no format.*Run prepare_data again"):
        Population.from_content(POPULATION)


def test_documents_that_users_keep_are_read_without_a_format() -> None:
    version = ModelVersion.from_content(OLD_VERSION)
    assert (version.version, version.weights_digest) == (3, None)
    assert ModelVersion.from_content(version.to_content()) == version


def test_records_of_the_first_version_are_read_where_they_are_asked_for() -> None:
    old = {"decision": "pass", "reasons": [], "accuracy": 0.9, "centralised": 0.95, "champion": None}
    decision = GateDecision.from_content(old, unversioned=True)
    assert (decision.score, decision.centralized) == (0.9, 0.95)
    data = {"clients": POPULATION["clients"], "shape": [2, 2, 1], "classes": 2, "examples": 10}
    assert Population.from_content(data, unversioned=True).example.shape == (2, 2, 1)
    evaluation = {
        "accuracy": 0.5,
        "loss": 1.0,
        "examples": 2,
        "per_class": [{"label": 0, "examples": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0}],
    }
    assert Evaluation.from_content(evaluation, unversioned=True).per_class[0].label == "0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"examples": -1}, "examples"),
        ({"examples": "10"}, "examples"),
        ({"examples": 10.5}, "examples"),
        ({"clients": [{"id": "", "train": 1, "test": 1}]}, r"clients\.0\.id"),
        ({"clients": None}, "clients"),
        ({"more": 1}, "more"),
        ({"data_digest": "md5:1"}, "data_digest"),
    ],
)
def test_a_mistake_is_named_by_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        Population.from_content(population(**change))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format": 1}'])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"file\.json"):
        Rounds.from_bytes(data, "file.json")


def test_not_a_number_is_refused() -> None:
    text = json.dumps(population()).replace('"examples": 10', '"examples": NaN')
    with pytest.raises(DocumentError, match="examples"):
        Population.from_bytes(text.encode())


def test_a_document_larger_than_its_limit_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(b" " * (documents.DeviceReport.LIMIT + 1))
    with pytest.raises(StorageError, match="larger than"):
        documents.DeviceReport.read(tmp_path / "report.json")


def test_a_document_cannot_be_changed() -> None:
    document = Population.from_content(population())
    with pytest.raises(ValueError, match="frozen"):
        setattr(document, "examples", 11)  # noqa: B010


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(kind=st.sampled_from(KINDS), data=st.data())
def test_any_content_gives_a_document_or_the_named_error(kind: type[Document], data: st.DataObject) -> None:
    names = sorted(kind.model_fields)
    content = data.draw(st.dictionaries(st.sampled_from(names), JSON))
    version = data.draw(st.sampled_from([{}, {"format": kind.format_name()}]))
    with contextlib.suppress(DocumentError):
        kind.from_content({**content, **version}, unversioned=True)


def test_a_release_of_the_first_format_is_read() -> None:
    variant = {"kind": "int8", "url": "file:///m", "digest": "sha256:" + "0" * 64, "bytes": 9}
    first = {
        "format": "fededge-release-1",
        "task": "tiny",
        "version": 3,
        "issued": 1.5,
        "classes": {"camera": variant},
        "classes_count": 10,
        "shape": [28, 28, 1],
        "state_digest": "sha256:" + "1" * 64,
        "round": 12,
    }
    release = Release.from_content(first)
    assert release.variant_for("camera").bytes == 9
    assert release.classes == 10
