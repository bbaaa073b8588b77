"""What CONTRIBUTING.md tells to do is done, in a copy of this repository."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(?:^`([^`\n]+)`:\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What is in the repository, with this checkout's environments."""
    left_out = shutil.ignore_patterns(".git", ".venvs", "__pycache__", ".*_cache", "*.egg-info", ".fededge")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=left_out)
    (tmp_path / "copy" / ".venvs").symlink_to(ROOT / ".venvs")
    return tmp_path / "copy"


def change(root: Path, diff: str) -> None:
    """Make the changes of a diff whose hunks have no line numbers: each must fit in one place."""
    for name, hunks in re.findall(r"^--- a/(\S+)\n\+\+\+ [^\n]+\n(.*?)(?=^--- |\Z)", diff, re.M | re.S):
        text = (root / name).read_text()
        for hunk in filter(None, re.split(r"^@@\n", hunks, flags=re.M)):
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(before) == 1, f"{name} does not hold once:\n{before}"
            text = text.replace(before, after)
        (root / name).write_text(text)


def test_there_is_a_way_to_add_each_thing_that_is_meant_to_be_added() -> None:
    assert list(SECTIONS) == ["A component", "A selection policy", "A variant", "A framework"]


@pytest.mark.parametrize("title", SECTIONS)
def test_what_it_tells_to_do_works(title: str, copy: Path) -> None:
    commands = []
    for name, language, content in BLOCK.findall(SECTIONS[title]):
        if language == "diff":
            change(copy, content)
        elif language == "sh":
            commands += content.splitlines()
        else:
            file = copy / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    assert commands
    own = {key: value for key, value in os.environ.items() if key != "FEDEDGE_TEST_ENVIRONMENT"}
    for command in commands:
        ran = subprocess.run(
            command.split(), cwd=copy, env=own | {"PYTHONPATH": str(copy)}, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
        assert re.search(r"\b[1-9]\d* passed", ran.stdout)
    tools = (["ruff", "check", "."], ["ruff", "format", "--check", "."])
    for tool in tools:
        ran = subprocess.run(
            [copy / ".venvs/platform/bin" / tool[0], *tool[1:]], cwd=copy, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout[-3000:]
