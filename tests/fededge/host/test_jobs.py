"""The jobs start on a bare Python, and their outcomes add up."""

import re
import subprocess
import sys
from pathlib import Path

from fededge.host import jobs
from fededge.host.layout import ROOT


def test_set_up_starts_without_any_installed_package() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "fededge.host", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\brun\b.*\btest\b.*\bsetup\b.*\block\b", done.stdout, re.DOTALL)


REPORT = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'


def test_outcomes_are_read_from_the_report_and_added_up(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    counts = jobs.counts_of(report, status=1)
    assert str(counts) == "3 passed, 3 failed, 3 skipped"
    assert str(counts + jobs.TestCounts(1, 0, 0)) == "4 passed, 3 failed, 3 skipped"


def test_a_run_that_ends_badly_counts_as_failed_without_a_report_or_a_failed_test(tmp_path: Path) -> None:
    assert jobs.counts_of(tmp_path / "missing.xml", status=139).failed == 1
    (tmp_path / "report.xml").write_text(REPORT.replace("1", "0").replace('"2"', '"0"'))
    assert jobs.counts_of(tmp_path / "report.xml", status=5).failed == 1
    assert jobs.counts_of(tmp_path / "report.xml", status=0).failed == 0
