"""Sources other than tables and images: functions of the user's own, .npy files, and sets that come with packages."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fededge.errors import DataError, FedEdgeError
from fededge.learning.data.sources import MODULES, open_source
from fededge.task import parse

pytestmark = pytest.mark.environment("worker")

IID = {"kind": "iid", "clients": 2, "min_examples": 2}


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Path]:
    """A folder of modules, which no other test sees."""
    folder = tmp_path / "code"
    folder.mkdir()
    before = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = before[0]
    for name in set(sys.modules) - before[1]:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
            del sys.modules[name]


def function(code: Path, body: str, **said: Any) -> dict[str, Any]:
    (code / "mine.py").write_text(f"import numpy as np\n\ndef load(**given):\n    {body}\n")
    return {"source": "function", "function": "mine:load", "code": str(code)} | said


@pytest.mark.parametrize(
    ("body", "shape", "kind"),
    [
        ("return np.zeros((90, 4)), np.arange(90) % 3", (4,), "class"),
        ("return np.zeros((90, 4, 5)), np.linspace(0, 1, 90)", (4, 5), "number"),
        ("return np.zeros((90, 4)), None", (4,), "none"),
        ("return ((np.zeros((9, 4)), np.arange(9) % 3) for _ in range(10))", (4,), "class"),
    ],
)
def test_a_function_gives_arrays_or_batches(
    prepare: Any, code: Path, body: str, shape: tuple[int, ...], kind: str
) -> None:
    example = prepare(function(code, body), partition=IID).population.example
    assert (example.shape, example.label.kind) == (shape, kind)


def test_a_function_is_given_its_arguments_and_may_name_owners(prepare: Any, code: Path) -> None:
    body = "return np.zeros((given['n'], 4)), np.arange(given['n']) % 3, np.arange(given['n']) // 30"
    data = function(code, body, arguments={"n": 90})
    found = survey_names(data)
    assert found == {"0", "1", "2"}
    assert prepare(data, partition=IID).population.examples < 90


def survey_names(data: dict[str, Any]) -> set[str]:
    task = parse("name: t\ndata: {source: digits}\n")
    section = type(task).model_validate({"name": "t", "data": data}).local_data
    owners = [batch.owners for batch in open_source(section, 0).batches()]
    return {name for part in owners if part is not None for name in part.tolist()}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no disk')", "failed: RuntimeError: no disk"),
        ("return 5", "failed: TypeError"),
        ("return [1, 2, 3, 4, 5]", "gave list where"),
        ("return None, np.zeros(3)", "gave no x"),
        ("return np.zeros((9, 4)), np.zeros(8, int)", "one label each"),
        ("return np.full((9, 4), np.inf), np.arange(9) % 3", "infinite"),
        ("return ((np.zeros((9, n + 1)), np.arange(9)) for n in range(3))", "change from"),
        ("return iter(())", "no examples"),
        ("return np.zeros((9, 4)), np.array([[{}]] * 9)", "labels are object"),
    ],
)
def test_a_function_that_gives_something_else_is_named(
    prepare: Any, code: Path, body: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        prepare(function(code, body), partition=IID)


def test_a_function_that_is_none_is_named(prepare: Any, code: Path) -> None:
    with pytest.raises(FedEdgeError, match=r"data\.function mine:save cannot be imported"):
        prepare(function(code, "pass", function="mine:save"), partition=IID)
    with pytest.raises(FedEdgeError, match=r"none:load cannot be imported"):
        prepare(function(code, "pass", function="none:load"), partition=IID)


def test_a_function_that_gives_fewer_the_second_time_is_named(prepare: Any, code: Path) -> None:
    body = "load.n = getattr(load, 'n', 93) - 1; return np.zeros((load.n, 4)), np.arange(load.n) % 3"
    with pytest.raises(DataError, match="examples at first and"):
        prepare(function(code, body), partition=IID)


def test_npy_files_are_mapped_with_owners_and_times(prepare: Any, tmp_path: Path) -> None:
    arrays = {
        "x": np.zeros((90, 6, 2)),
        "y": np.arange(90) % 3,
        "owner": np.arange(90) // 30,
        "time": np.arange(90),
    }
    for name, values in arrays.items():
        np.save(tmp_path / f"{name}.npy", values)
    data = {"source": "npy"} | {name: str(tmp_path / f"{name}.npy") for name in arrays}
    found = prepare(data, partition={"kind": "natural"}).population
    assert [client.id for client in found.clients] == ["0", "1", "2"]
    np.save(tmp_path / "y.npy", np.zeros(80, int))
    with pytest.raises(DataError, match="80 entries for 90 examples"):
        prepare(data, partition=IID)
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"is not an \.npy file"):
        prepare(data, partition=IID)


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("breast_cancer", (30,), "class"),
        ("diabetes", (10,), "number"),
        ("digits", (8, 8, 1), "class"),
        ("iris", (4,), "class"),
        ("wine", (13,), "class"),
    ],
)
def test_sets_of_scikit_learn_have_names(prepare: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    example = prepare({"source": "sklearn", "name": name}, partition=IID).population.example
    assert (example.shape, example.label.kind) == (shape, kind)
    assert len(example.label.names) == example.label.classes


def test_hugging_face_asks_for_its_package(prepare: Any) -> None:
    pytest.importorskip("pyarrow")
    try:
        import datasets  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="needs the package datasets"):
            prepare({"source": "huggingface", "name": "a", "feature": "image"}, partition=IID)
    else:
        pytest.skip("datasets is installed")


def test_a_set_that_cannot_be_downloaded_is_named(
    prepare: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot download cifar10"):
        prepare({"source": "keras", "name": "cifar10"}, partition=IID)


def test_every_source_of_a_task_has_a_module() -> None:
    from typing import get_args

    from fededge.task import LocalData

    named = {get_args(each.model_fields["source"].annotation)[0] for each in get_args(get_args(LocalData)[0])}
    assert named == set(MODULES)
