"""`fededge inspect` and `fededge data make`, in the environments of this machine."""

import json
from pathlib import Path

import numpy as np
import pytest

from fededge import task as tasks
from fededge.cli import main
from fededge.documents import Inspection
from fededge.report.inspection import render


@pytest.fixture
def people(tmp_path: Path) -> Path:
    rows = [f"{n % 50},{('red', '<b>blue</b>')[n % 2]},{'no' if n % 50 > 20 else 'yes'}" for n in range(300)]
    (tmp_path / "people.csv").write_text("\n".join(["age,color,answer", *rows]))
    return tmp_path / "people.csv"


def test_it_prints_the_schema_and_writes_a_page_and_a_task_that_loads(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, page = tmp_path / "out" / "task.yaml", tmp_path / "out" / "page.html"
    assert main(["inspect", str(people), "--label", "answer", "--write", str(task), "--page", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "people.csv: 300 examples" in printed
    assert "fededge run" in printed
    assert tasks.load(task).data.source == "csv"
    html = page.read_text()
    assert "&lt;b&gt;blue&lt;/b&gt;" in html
    assert "<b>" not in html
    assert "http" not in html.replace("http-equiv", "")
    assert main(["inspect", str(task), "--json"]) == 0
    again = Inspection.from_content(json.loads(capsys.readouterr().out))
    assert again.example.label.names == ["no", "yes"]
    assert render(again) == render(again)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv"], "none.csv"),
        (["people.csv", "--label", "wage"], "no column 'wage'"),
        (["people.xlsx"], "no kind of data that is known by its name"),
        (["sklearn:titanic"], "name: Input should be"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    people: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(people.parent)
    assert main(["inspect", *arguments, "--write", "task.yaml", "--page", "page.html"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert [path.name for path in people.parent.iterdir()] == ["people.csv"]


def test_mock_data_of_an_inspected_schema_can_be_a_client_s_folder(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(people), "--label", "answer", "--json"]) == 0
    found = Inspection.from_content(json.loads(capsys.readouterr().out))
    found.example.write(tmp_path / "schema.json")
    folders = tmp_path / "clients"
    for seed, client in enumerate("abc"):
        command = ["data", "make", str(tmp_path / "schema.json"), "--examples", "60", "--seed", str(seed)]
        assert main([*command, "-o", str(folders / client)]) == 0
    assert np.load(folders / "a" / "x.npy").shape == (60, 2)
    capsys.readouterr()
    assert main(["inspect", str(folders)]) == 0
    assert "3 owners" in capsys.readouterr().out
    assert main(["data", "make", str(tmp_path / "schema.json"), "-o", str(folders / "a")]) == 2
    assert "exists" in capsys.readouterr().err
