"""Each environment collects its own test modules, without importing the others'."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")


def collect(folder: Path, environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "--rootdir", folder, folder],
        cwd=folder,
        env=os.environ | {"FEDEDGE_TEST_ENVIRONMENT": environment},
        capture_output=True,
        text=True,
    )


def test_modules_and_folders_of_other_environments_are_left_out_before_they_are_imported(
    tmp_path: Path,
) -> None:
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "conftest.py").write_text("import no_such_package\n")
    mark = "import pytest\npytestmark = pytest.mark.environment({})\n"
    body = "import no_such_package\ndef test_it(): pass\n"
    (tmp_path / "heavy" / "test_far.py").write_text(mark.format('"worker"') + body)
    (tmp_path / "test_unmarked.py").write_text(body)
    (tmp_path / "test_here.py").write_text(mark.format('"serving", "edge"') + "def test_it(): pass\n")
    done = collect(tmp_path, "edge")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^\S+::\S+", done.stdout, re.MULTILINE) == ["test_here.py::test_it"]


def test_a_mark_of_an_unknown_environment_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "test_typo.py").write_text('import pytest\npytestmark = pytest.mark.environment("wroker")\n')
    done = collect(tmp_path, "platform")
    assert done.returncode != 0
    assert "wroker" in done.stdout + done.stderr
