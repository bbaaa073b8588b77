"""The jobs of a checkout: run the main job, test in two tiers, and measure."""

import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fededge.host.environments import add_notebook, set_up
from fededge.host.layout import NAMES, VENVS, become, call, interpreter, say

AT_ONCE = 3
"""Suites that run side by side: tests often wait, so three are done sooner than two, on two cores as well."""
# What pytest runs where, the longest first.
SUITES = (
    ("worker", ["tests"]),
    ("platform", ["tests", "--ignore=tests/fededge"]),
    ("platform", ["tests/fededge"]),
    ("edge", ["tests"]),
    ("serving", ["tests"]),
)
WITH_FLEETS = [f"tests/e2e/{name}.py" for name in ("test_fleet", "test_gateway_faults", "test_notebook")]
SLOW_SUITES = (
    ("platform", WITH_FLEETS),
    ("platform", ["tests/e2e", *(f"--ignore={name}" for name in WITH_FLEETS)]),
    ("worker", ["tests/fededge", "tests/components"]),
    ("platform", ["tests/fededge", "tests/pipelines", "tests/components"]),
    ("platform", ["tests/examples"]),
    ("serving", ["tests/serving"]),
    ("edge", ["tests/fededge", "tests/attacks"]),
)
FLEET_JOB = (
    "fleet",
    "examples/smart-building/fleet.yaml",
    "--devices",
    "20",
    "--relay",
    "--churn",
    "--slow",
    "1",
)
MAIN_JOB = ("run", "examples/digits/task.yaml", "--devices", "6")


@dataclass
class TestCounts:
    """How many tests passed, failed (errors included) and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "TestCounts") -> "TestCounts":
        return TestCounts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run() -> NoReturn:
    """Set up, then become `fededge run` of the digits task with six simulated devices."""
    set_up()
    say("running " + " ".join(("fededge", *MAIN_JOB)))
    become([VENVS / "platform" / "bin" / "fededge", *MAIN_JOB])


def fleet() -> NoReturn:
    """Set up, then become `fededge fleet` of examples/smart-building/fleet.yaml: two sites, a relay and 20 devices."""
    set_up()
    say("running " + " ".join(("fededge", *FLEET_JOB)))
    become([VENVS / "platform" / "bin" / "fededge", *FLEET_JOB])


def test_slow() -> int:
    """Set up, then run what takes long: kills and whole pipelines; the exit status."""
    set_up(tests=True)
    total = _pytest_in(SLOW_SUITES, "slow")
    print(total, flush=True)
    return 1 if total.failed else 0


def notebook() -> NoReturn:
    """Set up, add Jupyter, then become JupyterLab on the notebooks."""
    set_up()
    add_notebook()
    become([VENVS / "platform" / "bin" / "jupyter", "lab", "--notebook-dir", "notebooks"])


def bench() -> NoReturn:
    """Set up, then become the benchmarks, which print ratios and write benchmarks/results."""
    set_up()
    become([sys.executable, "-m", "benchmarks"])


def test() -> int:
    """Set up, then lint, check types and run what any change can break; the exit status."""
    set_up(tests=True)
    tools = VENVS / "platform" / "bin"
    types = [
        ["mypy", "--python-executable", str(interpreter(name)), "--cache-dir", f".mypy_cache/{name}"]
        for name in NAMES
    ]
    checks = [["ruff", "check", "."], ["ruff", "format", "--check", "."], *types]

    def passes(command: list[str]) -> bool:
        say(" ".join(command))
        return call([tools / command[0], *command[1:]]) == 0

    with ThreadPoolExecutor(2) as side_by_side:
        passed = side_by_side.map(passes, checks)
        broken = [" ".join(check) for check, good in zip(checks, passed, strict=True) if not good]
    total = _pytest_in(SUITES, "not slow")
    if broken:
        print("checks that failed: " + ", ".join(broken))
    print(total, flush=True)
    return 1 if broken or total.failed else 0


def counts_of(report: Path, status: int) -> TestCounts:
    """Read pytest's JUnit XML; a run that ended badly without a failed test counts as one failure."""
    counts = TestCounts()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
            failed = count["failures"] + count["errors"]
            counts += TestCounts(count["tests"] - failed - count["skipped"], failed, count["skipped"])
    if status != 0 and not counts.failed:
        counts.failed = 1
    return counts


def _pytest_in(suites: Sequence[tuple[str, list[str]]], tier: str) -> TestCounts:
    """Run the tests of a tier in each environment."""
    with ThreadPoolExecutor(AT_ONCE) as side_by_side:
        ran = side_by_side.map(lambda suite: _pytest(suite[0], ["-m", tier, *suite[1]]), suites)
        return sum(ran, TestCounts())


def _pytest(name: str, arguments: list[str]) -> TestCounts:
    suite = f"{name}: pytest {' '.join(arguments)}"
    say(f"{suite} (its output follows when it ends)")
    with tempfile.TemporaryDirectory(prefix="fededge-tests-") as folder:
        report = Path(folder) / "report.xml"
        log = Path(folder) / "log"
        with log.open("w") as output:
            status = call(
                [
                    interpreter(name),
                    "-m",
                    "pytest",
                    "-q",
                    "--durations=5",
                    f"--junitxml={report}",
                    *arguments,
                ],
                {
                    "FEDEDGE_TEST_ENVIRONMENT": name,
                    "PATH": f"{VENVS / name / 'bin'}{os.pathsep}{os.environ['PATH']}",
                },
                output,
            )
        print(log.read_text(encoding="utf-8", errors="replace"), flush=True)
        counts = counts_of(report, status)
        say(f"{suite}: {counts}")
        return counts
