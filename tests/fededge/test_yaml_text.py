"""The YAML of a task: which values it gives, and what has no place in it."""

import pytest

from fededge.errors import TaskError
from fededge.yaml_text import read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-07", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("1e-5", 1e-5),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1e400", float("inf")),
        ("true", True),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("190:20:30", "190:20:30"),
        ("1:30.5", "1:30.5"),
        ("2026-01-01", "2026-01-01"),
        ("yes", "yes"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("=", "="),
        ("9" * 500, float("inf")),
    ],
)
def test_scalars_are_read_as_in_yaml_1_2(text: str, value: object) -> None:
    assert read(f"a: {text}\n", "t").value == {"a": value}


def test_each_value_has_the_place_where_it_was_written() -> None:
    content = read("name: t\ndata:\n  source: digits\nvariants:\n- kind: a\n- {kind: b}\n", "t")
    assert content.places[("data", "source")] == "t:3"
    assert content.places[("variants", 1, "kind")] == "t:6"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: a\ndata: x\nname: b\n", 3, "name: given twice, first in line 1"),
        ("data:\n  source: a\n  'source': b\n", 3, "data.source: given twice, first in line 2"),
        ("a: !!bool yes\n", 1, "a: the tag !!bool"),
        ("a: 1\nb: !!timestamp 2026-01-01\n", 2, "b: the tag !!timestamp"),
        ("a: !!str 5\n", 1, "the tag !!str"),
        ("a: ! 5\n", 1, "the tag !"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "the tag !!python/object/apply:os.system"),
        ("!own\na: 1\n", 1, "task: the tag !own"),
        ("a: &x 1\nb: *x\n", 2, "b: the alias \\*x"),
        ("a: &x [*x]\n", 1, "the alias"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("? [a]\n: 1\n", 1, "a key must be a word"),
        ("!!str a: 1\n", 1, "a key must be a word"),
        ("[" * 5000, 1, "deep"),
        ("a: 1\nb: [1\n", 3, "not YAML"),
        ("a: 1\nb: \x00\n", 2, r"not YAML: remove the character \\x00"),
        ("a: \x1b[2J\n", 1, r"remove the character \\x1b"),
        ("a: \ud800\n", 1, r"remove the character \\ud800"),
        ('a: "\\uD800"\n', 1, "not YAML"),
    ],
)
def test_what_a_task_does_not_use_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(TaskError, match=words) as caught:
        read(text, "t")
    assert str(caught.value).startswith(f"t:{line}: ")
    assert str(caught.value).isprintable()
