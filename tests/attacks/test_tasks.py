"""Task files of an enemy: read, or refused by name in one line."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fededge import task
from fededge.errors import TaskError
from fededge.task import FederatedTask
from tests.attacks.hostile import PIECES, cases, changed, mutants, read_or_refused

EXAMPLES = [file.read_bytes() for file in Path(__file__).parents[2].glob("examples/*/task.yaml")]
CONTENTS = [yaml.safe_load(text) for text in EXAMPLES]
WORDS = [
    "learning",
    "rounds",
    "data",
    "variants",
    "0",
    "path",
    "cohort",
    "=",
    ".",
    "[",
    "{a: ",
    "!!int ",
    "-1",
]


def refused_or_read(text: str, changes: tuple[str, ...] = ()) -> None:
    found = read_or_refused(lambda: task.parse(text, "task.yaml", changes), TaskError)
    if found is not None:
        assert FederatedTask.from_json(found.to_json()) == found


@given(st.text() | st.text("ab:-[]{}&*!?|>'\"%@`#, \n\t01.~<", max_size=60))
def test_any_text_is_refused_by_name(text: str) -> None:
    refused_or_read(text)


@settings(max_examples=300)
@given(mutants(EXAMPLES))
def test_changed_bytes_are_read_or_refused_by_name(data: bytes) -> None:
    refused_or_read(data.decode("utf-8", "surrogateescape"))


@settings(max_examples=300)
@given(st.sampled_from(CONTENTS).flatmap(changed))
def test_changed_values_are_read_or_refused_by_name(content: object) -> None:
    refused_or_read(json.dumps(content))
    refused_or_read(yaml.safe_dump(content, allow_unicode=True))


@settings(max_examples=300)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=8).map("".join))
def test_changes_are_made_or_refused_by_name(change: str) -> None:
    refused_or_read(EXAMPLES[0].decode(), (change,))


@given(st.sampled_from(CONTENTS).flatmap(changed), st.data())
def test_canonical_json_is_read_or_refused_by_name(content: object, data: st.DataObject) -> None:
    text = data.draw(mutants([json.dumps(content).encode()])).decode("utf-8", "replace")
    read_or_refused(lambda: FederatedTask.from_json(text), TaskError)


@pytest.mark.parametrize("piece", PIECES)
def test_pieces_that_break_parsers_are_refused_by_name(piece: bytes) -> None:
    text = piece.decode("utf-8", "surrogateescape")
    for whole in (text, f"name: {text}\n", f"{text}: 1\n", f"name: t\ndata: {{source: {text}}}\n"):
        refused_or_read(whole)
    read_or_refused(lambda: FederatedTask.from_json(text), TaskError)


@pytest.mark.parametrize(
    "text",
    [
        "&a " * 50_000 + "x",
        "a: " * 50_000,
        "- " * 50_000,
        "? " * 50_000,
        "a: &a [x]\nb: [" + "*a, " * 50_000 + "]",
        "name: " + "9" * 500_000,
        "name: '" + "x" * 900_000 + "'",
        "x" * 900_000 + ": 1",
        "k: {" + "a, " * 200_000 + "}",
        "# " * 500_000,
        "\n" * 1_000_000,
    ],
    ids=range(11),
)
def test_large_texts_are_answered_in_bounded_time_and_memory(text: str) -> None:
    refused_or_read(text)


@cases("tasks")
def test_what_once_did_harm_is_refused_by_name(case: bytes) -> None:
    refused_or_read(case.decode("utf-8", "surrogateescape"))
