"""The keys of a task: the guide names each of them, and each that was renamed."""

import re
from collections.abc import Iterator
from pathlib import Path

from fededge.task.keys import RENAMED, keys_at, schema_at
from fededge.yaml_text import Place

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "tasks.md").read_text()

HELD_OUT: Place = ("data", "held_out")
"""Has the keys of data."""


def keys(place: Place = ()) -> Iterator[str]:
    """Every key that holds a value, not a section, as the guide writes it."""
    if any("items" in node and "$ref" in node["items"] for node in schema_at(place)):
        place = (*place, 0)
    inner = keys_at(place) if place != HELD_OUT else []
    for name in inner:
        yield from keys((*place, name))
    if not inner:
        yield ".".join(map(str, place)).replace(".0.", "[].")


def named(section: str) -> set[str]:
    """The keys in the first column of the guide's table in `section`."""
    table = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", GUIDE, re.DOTALL | re.MULTILINE)
    assert table
    found = set()
    for row in re.findall(r"^\| (`[^|]*) \|", table[1], re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        found |= {first, *(f"{first.rpartition('.')[0]}.{other}" for other in others)}
    return found


def test_the_guide_names_every_key_and_no_other() -> None:
    assert named("Keys") == set(keys())


def test_the_guide_names_every_renamed_key() -> None:
    assert named("Renamed keys") == set(RENAMED)


def test_renamed_keys_are_gone_and_their_new_names_are_keys() -> None:
    assert set(RENAMED.values()) <= set(keys())
    assert not set(RENAMED) & set(keys())
