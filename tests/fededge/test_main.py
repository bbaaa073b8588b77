"""The installed command, in the platform environment and on a device."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fededge import settings

pytestmark = pytest.mark.environment("platform", "edge")

ROOT = Path(__file__).resolve().parents[2]


def fededge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fededge", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_device_runs_the_agent_and_says_what_other_verbs_need() -> None:
    if importlib.util.find_spec("typer"):
        assert fededge("schema").returncode == 0
        return
    assert "fededge agent enroll https://" in fededge("agent", "--help").stdout
    refused = fededge("run", "task.yaml")
    assert refused.returncode == 2
    assert "platform environment" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "example.org"}, "example.org,127.0.0.1,localhost"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, "a,127.0.0.1,localhost"),
        ({"no_proxy": "127.0.0.1,localhost"}, "127.0.0.1,localhost"),
    ],
)
def test_no_proxy_stands_before_this_machine(before: dict[str, str], after: str) -> None:
    assert settings.without_proxy(before) == {"no_proxy": after, "NO_PROXY": after}


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_any_locale_will_do(locale: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "josé"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    arguments = ["runs"] if importlib.util.find_spec("typer") else ["run", "josé.yaml"]
    ended = subprocess.run(
        [sys.executable, "-m", "fededge", *arguments],
        cwd=ROOT,
        env={**environment, **locale, "FEDEDGE_HOME": str(home)},
        capture_output=True,
    )
    assert b"Traceback" not in ended.stderr
    assert ended.returncode in (0, 2)
    if arguments == ["runs"]:
        report = subprocess.run(
            [sys.executable, "-m", "fededge", "report"],
            cwd=ROOT,
            env={**environment, **locale, "FEDEDGE_HOME": str(home)},
            capture_output=True,
        )
        assert report.returncode == 2
        assert report.stderr.startswith(b"error: no runs in ")
        assert "josé".encode() in report.stderr or b"jos\\xe9" in report.stderr
