"""A task file: how it is read, and how a mistake is named."""

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from fededge import task
from fededge.errors import TaskError
from fededge.task import reading

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MINIMAL = {"name": "t", "data": {"source": "digits"}}


def written(folder: Path, content: object) -> Path:
    path = folder / "task.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_examples_load_and_fit_the_exported_schema(name: str) -> None:
    path = EXAMPLES / name / "task.yaml"
    assert task.load(path).name == name
    jsonschema.validate(yaml.safe_load(path.read_text()), task.json_schema())


def test_a_relative_data_path_is_taken_from_the_task_files_folder(tmp_path: Path) -> None:
    loaded = task.load(written(tmp_path, MINIMAL | {"data": {"source": "npz", "path": "x.npz"}}))
    assert loaded.data.path == str(tmp_path / "x.npz")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: t\ndata:\n  source: digits\n  holdot: 0.1\n", 4, "data.holdot: unknown key; did you mean holdout"),
        ("name: t\ndata: {source: digits}\nlearning:\n  zzz: 1\n", 4, "learning.zzz: unknown key; learning has"),
        ("name: t\ndata: {source: digits, path: x}\n", 2, "data.path: this key goes with data.source csv"),
        ("name: t\ndata: {source: digits}\nlearning:\n  rounds: many\n", 4, "learning.rounds"),
        ("name: t\ndata: {source: digits}\nlearning:\n  rounds: 1.5\n", 4, "learning.rounds"),
        ("name: t\ndata: {source: digits}\nlearning:\n  rounds: 190:20:30\n", 4, "learning.rounds"),
        ("name: t\ndata: {source: digits}\nlearning:\n  rounds: true\n", 4, "learning.rounds"),
        ("name: t\ndata: {source: digits}\nseed: '7'\n", 3, "seed"),
        ("name: t\ndata: {source: digits}\nseed: 2026-01-01\n", 3, "seed"),
        ("name: t\ndata: {source: digits}\npartition:\n  clients: 0\n", 4, "partition.clients"),
        ("name: t\ndata: {source: digits}\npartition: {alpha: .nan}\n", 3, "partition.alpha"),
        ("name: t\ndata: {source: nowhere}\n", 2, "data"),
        ("name: t\ndata: {source: [digits]}\n", 2, "data"),
        ("name: T!\ndata: {source: digits}\n", 1, "name"),
        ("data: {source: digits}\n", 1, "name: Field required"),
        ("name: t\ndata: {source: digits}\nvariants:\n- kind: float32\n- kind: int4\n", 5, "variants.1.kind"),
        ("name: t\ndata: {source: npz, path: \"a\\0b\"}\n", 2, "data.path"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_path(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TaskError) as caught:
        task.load(path)
    assert f"{path}:{line}: {words}" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("learning: {rounds: %s}", 999999999999, "less than or equal to 1000000"),
        ("learning: {rounds: %s}", 10**90, "less than or equal to 1000000"),
        ("operation: {quorum: %s}", 10**12, "less than or equal to"),
        ("operation: {round_deadline_seconds: %s}", 10**12, "less than or equal to"),
        ("operation: {round_deadline_seconds: %s}", "1e400", "finite"),
        ("partition: {min_examples: %s}", 10**12, "less than or equal to"),
        ("partition: {alpha: %s}", 10**90, "less than or equal to"),
        ("learning: {workers: {replicas: %s}}", 1001, "less than or equal to 1000"),
        ("learning: {workers: {replicas: %s}}", 0, "greater than or equal to 1"),
    ],
)
def test_a_number_beyond_its_bound_is_told_the_bound(key: str, value: object, bound: str) -> None:
    with pytest.raises(TaskError, match=bound):
        task.parse(f"name: t\ndata: {{source: digits}}\n{key % value}\n")


@pytest.mark.parametrize(
    "text", ['name: "a\\x1b[2J\\0"\ndata: {source: "d\\x07"}\n', 'name: t\ndata: {}\n"\\x1b[2J": 1\n']
)
def test_control_characters_are_shown_escaped(text: str) -> None:
    with pytest.raises(TaskError) as caught:
        task.parse(text)
    assert str(caught.value).isprintable()
    assert "\\x1b" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("learning: {cohort: {quorum: 2}}", "operation.quorum"),
        ("learning: {cohort: {deadline_seconds: 2.0}}", "operation.round_deadline_seconds"),
        ("learning: {rounds_per_step: 2}", "operation.rounds_per_step"),
        ("endpoint: {name: e, replicas: 2}", "operation.replicas"),
        ("gate: {max_gap_to_centralised: 0.1}", "gate.max_gap_to_centralized"),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(TaskError, match=f"task:3: .*this key is now {new}"):
        task.parse(f"name: t\ndata: {{source: digits}}\n{old}\n")


def test_many_mistakes_are_told_by_the_first_ten_and_a_count() -> None:
    text = "name: t\ndata: {source: digits}\n" + "".join(f"k{n}: 1\n" for n in range(60_000))
    with pytest.raises(TaskError, match="and 59,990 more mistakes") as caught:
        task.parse(text)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a", "a: [1\n", "\x00", "[" * 5000])
def test_what_is_no_mapping_is_no_task(tmp_path: Path, text: str) -> None:
    with pytest.raises(TaskError):
        task.load(written(tmp_path, text))


def test_a_missing_file_is_named_and_a_large_one_not_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.yaml"):
        task.load(tmp_path / "none.yaml")
    with pytest.raises(TaskError, match="larger than"):
        task.load(written(tmp_path, "#" * (reading.LIMIT + 1)))


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", tmp_path):
        with pytest.raises(TaskError, match="regular file"):
            task.load(path)


@pytest.mark.parametrize("name", ["a\0b", "a\x1b[2J", "x" * 5000, "\udcff"])
def test_a_strange_file_name_is_shown_escaped(name: str) -> None:
    with pytest.raises(TaskError) as caught:
        task.load(name)
    assert str(caught.value).isprintable()


def test_bytes_that_are_no_utf_8_are_named(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(TaskError, match="UTF-8"):
        task.load(tmp_path / "task.yaml")


def test_a_task_that_knew_accuracy_alone_is_read() -> None:
    old = "gate: {min_accuracy: 0.8}\nvariants: [{kind: int8, max_accuracy_loss: 0.1}]\n"
    found = task.parse("name: t\ndata: {source: digits}\n" + old)
    assert (found.gate.metric, found.gate.min, found.variants[0].max_score_loss) == (None, 0.8, 0.1)


@pytest.mark.parametrize(
    ("gate", "least"),
    [("{}", 0.9), ("{metric: accuracy}", 0.9), ("{min: null}", None), ("{metric: mae, max: 2.0}", None)],
)
def test_the_usual_gate_is_for_metrics_of_which_the_most_is_1(gate: str, least: float | None) -> None:
    found = task.parse(f"name: t\ndata: {{source: digits}}\ngate: {gate}\n")
    assert found.gate.min == least
    assert task.parse(found.to_json()) == found
