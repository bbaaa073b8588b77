"""A task file: what it may say, and how a mistake is named."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from fededge import task
from fededge.errors import TaskError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
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


def test_a_task_survives_its_canonical_json() -> None:
    loaded = task.load(EXAMPLES / "digits" / "task.yaml")
    again = task.FederatedTask.from_json(loaded.to_json())
    assert again == loaded
    assert again.digest == loaded.digest


def test_tasks_that_say_the_same_have_one_digest(tmp_path: Path) -> None:
    spelt_out = MINIMAL | {"seed": 0, "partition": {"kind": "dirichlet"}}
    assert task.load(written(tmp_path, MINIMAL)).digest == task.load(written(tmp_path, spelt_out)).digest


def test_a_relative_data_path_is_taken_from_the_task_files_folder(tmp_path: Path) -> None:
    loaded = task.load(written(tmp_path, MINIMAL | {"data": {"source": "npz", "path": "x.npz"}}))
    assert loaded.data.path == str(tmp_path / "x.npz")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: t\ndata:\n  source: digits\n  holdot: 0.1\n", 4, "data.holdot: unknown key"),
        ("name: t\ndata: {source: digits}\nlearning:\n  rounds: many\n", 4, "learning.rounds"),
        ("name: t\ndata: {source: digits}\nlearning:\n  rounds: 1.5\n", 4, "learning.rounds"),
        ("name: t\ndata: {source: digits}\nseed: '7'\n", 3, "seed"),
        ("name: t\ndata: {source: digits}\npartition:\n  clients: 0\n", 4, "partition.clients"),
        ("name: t\ndata: {source: nowhere}\n", 2, "data"),
        ("name: T!\ndata: {source: digits}\n", 1, "name"),
        ("name: t\ndata: {source: digits}\nvariants:\n- kind: float32\n- kind: int4\n", 5, "variants.1.kind"),
        ("name: t\ndata: {source: digits}\npartition: {alpha: .nan}\n", 3, "partition.alpha"),
        ("name: t\ndata: {source: digits}\nseed: 2026-01-01\n", 3, "seed"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_path(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TaskError) as caught:
        task.load(path)
    assert f"{path}:{line}: {words}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning": {"cohort": {"size": 4}}}, "cohort.size is 4"),
        ({"learning": {"cohort": {"size": 2, "quorum": 3}}}, "quorum 3"),
        ({"partition": {"kind": "natural"}}, "natural needs"),
        ({"learning": {"engine": "simulation", "cohort": {"quorum": 2}}}, "quorum goes with .* federated"),
        ({"learning": {"engine": "simulation", "max_update_norm": 1.0}}, "max_update_norm goes with"),
        ({"variants": []}, "variants is empty"),
        ({"variants": [{"kind": "int8"}, {"kind": "int8"}]}, "twice"),
        (
            {"endpoint": {"name": "e", "variant": "int8"}, "variants": [{"kind": "float32"}]},
            "endpoint.variant",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        task.load(written(tmp_path, MINIMAL | change))


@pytest.mark.parametrize(
    "text",
    ["", "- a\n- b\n", "a: [1\n", "\x00", "[" * 5000, "a: &a [1]\nb: *a\n", "a: !!timestamp 2026-99-01\n"],
)
def test_what_is_no_mapping_is_no_task(tmp_path: Path, text: str) -> None:
    with pytest.raises(TaskError):
        task.load(written(tmp_path, text))


def test_a_missing_or_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.yaml"):
        task.load(tmp_path / "none.yaml")
    with pytest.raises(TaskError, match="1 MiB"):
        task.load(written(tmp_path, "#" * (task.LIMIT + 1)))


def test_the_quorum_is_the_cohort_unless_said_otherwise() -> None:
    loaded = task.FederatedTask.from_json(yaml.safe_dump(MINIMAL))
    assert loaded.quorum == loaded.learning.cohort.size
