"""Changes to a task on the command line, as `--set` gives them."""

from pathlib import Path

import pytest

from fededge import task
from fededge.errors import TaskError

TEXT = "name: t\ndata: {source: npz, path: x.npz}\nlearning: {rounds: 3}\nvariants: [{kind: float32}]\n"


def changed(*changes: str) -> task.FederatedTask:
    return task.parse(TEXT, changes=changes)


def test_changes_are_made_in_their_order_and_typed_by_the_schema() -> None:
    found = changed(
        "learning.rounds=4",
        "learning.rounds=5",
        "learning.client={optimizer: adam, epochs: 2}",
        "learning.max_update_norm=null",
        "operation.quorum=2",
        "variants.0.max_bytes=1",
        "name=2026",
        "data.key=true",
        "data.path=other.npz",
        "devices=[{name: gateway}]",
    )
    assert found.learning.rounds == 5
    assert (found.learning.client.optimizer, found.learning.client.epochs) == ("adam", 2)
    assert found.operation.quorum == 2
    assert found.variants[0].max_bytes == 1
    assert found.name == "2026"
    assert found.data.key == "true"  # type: ignore[union-attr]
    assert found.devices[0].name == "gateway"


def test_a_list_that_the_file_leaves_out_is_the_default_one() -> None:
    found = task.parse("name: t\ndata: {source: digits}\n", changes=["variants.3.max_score_loss=0.5"])
    assert [variant.kind for variant in found.variants] == ["float32", "float16", "dynamic-int8", "int8"]
    assert found.variants[3].max_score_loss == 0.5


def test_a_changed_data_path_is_relative_to_the_task_file_too(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TEXT)
    found = task.load(tmp_path / "task.yaml", ["data.path=other.npz"])
    assert found.data.path == str(tmp_path / "other.npz")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("learning.rounds=x", "learning.rounds: Input should be a valid integer"),
        ("learning.rounds=0", "learning.rounds: Input should be greater"),
        ("learning.client={epochs: 0}", "learning.client.epochs: Input should be greater"),
        ("learning.ruonds=5", "learning.ruonds: unknown key; did you mean rounds?"),
        ("lerning.rounds=5", "unknown key; did you mean learning"),
        ("learning.rounds.x=5", "learning.rounds.x: unknown key"),
        ("learning.cohort.quorum=2", "this key is now operation.quorum"),
        ("data.holdout=0.5", "data.holdout: this key goes with data.source digits or data.source synthetic"),
        ("variants.1.max_bytes=1", "variants has 1 entries, counted from 0: there is no 1"),
        ("variants.kind=int8", "variants is a list"),
        ("learning.0=1", "learning is no list"),
        ("devices.0.name=x", "devices has 0 entries"),
        ("learning.rounds", "give KEY=VALUE"),
        ("=5", "give KEY=VALUE"),
        ("learning.client={epochs: [", "not YAML"),
        ("learning.rounds=!!int 5", "the tag !!int"),
        ("data.path=\x1b", r"remove the character \x1b"),
        ("\x1b=5", r"\x1b: unknown key"),
    ],
)
def test_a_change_that_cannot_be_made_is_told_as_the_place(change: str, words: str) -> None:
    with pytest.raises(TaskError) as caught:
        changed(change)
    shown = change.replace("\x1b", "\\x1b")
    assert f"--set {shown}" in str(caught.value)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_parts_that_a_change_makes_contradict_each_other_are_refused() -> None:
    with pytest.raises(TaskError, match=r"cohort\.size is 9"):
        changed("learning.cohort.size=9")


def test_a_change_below_what_is_no_mapping_in_the_file_is_refused() -> None:
    with pytest.raises(TaskError, match="learning is no mapping"):
        task.parse("name: t\ndata: {source: digits}\nlearning: 5\n", changes=["learning.rounds=5"])
