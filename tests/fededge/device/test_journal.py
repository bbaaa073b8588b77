"""The journal: a chain of lines that shows what was changed, and no half line after a power failure."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from fededge.device import journal
from fededge.device.clock import Clock
from fededge.device.journal import Journal, verify
from fededge.errors import IntegrityError, StorageError
from fededge.storage import digest

pytestmark = pytest.mark.environment("edge")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    for number in range(5):
        Journal(path, Clock()).write("hello", f"message {number} é".encode(), round=f"r-{number}")
    return path


def test_a_line_says_what_was_sent(path: Path) -> None:
    line = json.loads(path.read_text().splitlines()[2])
    assert (line["number"], line["purpose"], line["round"]) == (3, "hello", "r-2")
    assert (line["content"], line["bytes"]) == ("message 2 é", len("message 2 é".encode()))
    assert line["digest"] == digest("message 2 é".encode())
    assert verify(path).lines == 5
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:1] + lines[2:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines[:2], lines[2].replace("message 2", "message 9"), *lines[3:]],
        lambda lines: [*lines[:2], lines[2].replace('"bytes": 12', '"bytes": 11'), *lines[3:]],
        lambda lines: [*lines[:2], "{}", *lines[2:]],
        lambda lines: [*lines[:2], "x" * journal.LARGEST_LINE, *lines[2:]],
        lambda lines: lines[1:],
    ],
)
def test_a_journal_that_was_changed_is_told_by_its_line(
    path: Path, change: Callable[[list[str]], list[str]]
) -> None:
    lines = path.read_text().splitlines()
    changed = change(lines)
    assert changed != lines
    path.write_text("\n".join(changed) + "\n")
    with pytest.raises(IntegrityError, match="line"):
        verify(path)


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_half_a_line_is_removed_and_the_chain_goes_on(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert verify(path).lines == 4
    Journal(path, Clock()).write("report", b"{}")
    assert verify(path).lines == 5
    assert path.read_bytes().startswith(whole[: whole.rstrip(b"\n").rfind(b"\n") + 1])


def test_a_full_disk_leaves_no_half_line(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.stat().st_size
    opened = Journal(path, Clock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, before[1]))
    try:
        with pytest.raises(StorageError, match="Nothing is sent"):
            opened.write("report", b"{}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.path.getsize(path) == size
    opened.write("report", b"{}")
    assert verify(path).lines == 6


def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text("hello\n")
    with pytest.raises(IntegrityError, match="none of a journal"):
        Journal(path, Clock())
    with pytest.raises(StorageError, match="cannot read"):
        verify(tmp_path / "missing")
