"""Plans are unpacked once, whole, and inside their folder; tests/attacks/test_sites.py tries to get out of it."""

import os
from pathlib import Path

import pytest

from fededge.device import plans as places
from fededge.device.plans import Plans
from fededge.errors import IntegrityError, StorageError
from fededge.storage import digest
from tests.stand_in_gateway import plan_zip

pytestmark = pytest.mark.environment("edge")


def add(plans: Plans, folder: Path, data: bytes) -> Path:
    (folder / "plan.zip").write_bytes(data)
    return plans.add(digest(data), folder / "plan.zip")


def test_a_plan_is_found_under_its_digest(tmp_path: Path) -> None:
    plans = Plans(tmp_path / "plans")
    data = plan_zip(**{"variables/variables.index": "x" * 9000, "assets/": ""})
    assert plans.find(digest(data)) is None
    folder = add(plans, tmp_path, data)
    assert plans.find(digest(data)) == folder
    assert (folder / "variables" / "variables.index").read_text() == "x" * 9000
    assert (folder / "assets").is_dir()


def test_the_plans_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "KEPT", 2)
    plans = Plans(tmp_path / "plans")
    made = [plan_zip(number=str(number)) for number in range(3)]
    for number, data in enumerate(made[:2]):
        os.utime(add(plans, tmp_path, data), (number, number))
    assert plans.find(digest(made[0])) is not None  # used now
    add(plans, tmp_path, made[2])
    assert [plans.find(digest(data)) is not None for data in made] == [True, False, True]


def test_an_interrupted_unpacking_leaves_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, data = Plans(tmp_path / "plans"), plan_zip()

    def failing(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises(StorageError, match="No space left"):
            add(plans, tmp_path, data)
    assert plans.find(digest(data)) is None
    assert list((tmp_path / "plans").iterdir()) == []
    (tmp_path / "plans" / ".new-left").mkdir()
    add(plans, tmp_path, data)
    assert [folder.name for folder in (tmp_path / "plans").iterdir()] == [
        digest(data).removeprefix("sha256:")
    ]


def test_half_a_zip_file_is_refused(tmp_path: Path) -> None:
    data = plan_zip(a="x" * 1000)
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(IntegrityError, match="no zip file"):
            add(Plans(tmp_path / "plans"), tmp_path, data[:cut])
