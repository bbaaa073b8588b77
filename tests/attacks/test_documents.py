"""Documents of an enemy: read, or refused by name in one line."""

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fededge import documents
from fededge.documents import Document
from fededge.errors import DocumentError
from tests.attacks.hostile import PIECES, cases, changed, mutants, read_or_refused, valid

KINDS = [
    value
    for name in documents.__all__
    if isinstance(value := getattr(documents, name), type)
    and issubclass(value, Document)
    and value is not Document
]


def contents(kind: type[Document]) -> st.SearchStrategy[tuple[type[Document], Any]]:
    """A kind of document, and what its schema allows."""
    schema = kind.model_json_schema(by_alias=True)
    fields = valid(schema, schema)
    return fields.map(lambda found: (kind, {"format": kind.format_name(), **found}))


written = st.one_of([contents(kind) for kind in KINDS])


def refused_or_read(kind: type[Document], data: bytes) -> None:
    document = read_or_refused(lambda: kind.from_bytes(data, "here"), DocumentError)
    if document is not None:
        assert kind.from_bytes(document.to_bytes()).to_bytes() == document.to_bytes()


@settings(max_examples=300)
@given(written)
def test_what_the_schema_allows_is_read_as_it_is_written(document: tuple[type[Document], Any]) -> None:
    kind, content = document
    try:
        read = kind.from_bytes(json.dumps(content).encode())
    except DocumentError as refused:
        assume("Value error" not in str(refused))  # a rule between fields, of which JSON Schema knows nothing
        raise
    assert kind.from_bytes(read.to_bytes()) == read


@settings(max_examples=300)
@given(written, st.data())
def test_changed_values_are_refused_by_name(
    document: tuple[type[Document], Any], data: st.DataObject
) -> None:
    kind, content = document
    refused_or_read(kind, json.dumps(data.draw(changed(content))).encode())


@settings(max_examples=300)
@given(written, st.data())
def test_changed_bytes_are_refused_by_name(document: tuple[type[Document], Any], data: st.DataObject) -> None:
    kind, content = document
    refused_or_read(kind, data.draw(mutants([json.dumps(content).encode()])))


@settings(max_examples=300)
@given(written, st.data())
def test_documents_without_a_format_are_refused_by_name(
    document: tuple[type[Document], Any], data: st.DataObject
) -> None:
    kind, content = document
    del content["format"]
    changes = data.draw(changed(content))
    read_or_refused(lambda: kind.from_content(changes, "here", unversioned=True), DocumentError)


@pytest.mark.parametrize("piece", PIECES)
def test_bytes_that_break_parsers_are_refused_by_name(piece: bytes) -> None:
    for kind in KINDS:
        refused_or_read(kind, piece)
        refused_or_read(kind, b'{"format": ' + piece + b"}")


@cases("documents")
def test_what_once_did_harm_is_refused_by_name(case: bytes) -> None:
    for kind in KINDS:
        refused_or_read(kind, case)
