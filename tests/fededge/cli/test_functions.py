"""`fededge functions serve` in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from fededge import settings
from fededge.cli import main
from fededge.fleet.registry.database import Registry
from tests.events_host import Events
from tests.functions_process import needs_serving
from tests.gateway_process import token

TINY = Path(__file__).resolve().parents[2] / "serving" / "fixtures" / "tiny.tflite"


def test_functions_are_served_until_they_are_told_to_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "fededge", "functions", "serve", "selection", "monitoring"]
    with subprocess.Popen([*command, "--port", "0", "--ready-file", str(ready)]) as process:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.02)
        registry = Registry.open(settings.fleet_database())
        secret = token(registry)
        registry.close()
        with httpx.Client(base_url=json.loads(ready.read_text())["url"], trust_env=False) as client:
            events = Events(client, secret, structured=True)
            assert events("monitoring", "list") == {"items": []}
            assert events.send("/aggregation", "x", None, {}).status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_function_that_there_is_none_of_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["functions", "serve", "elections"]) == 2
    assert "no function elections" in capsys.readouterr().err


@needs_serving
def test_a_model_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--model",
        str(TINY),
        "--kind",
        "float16",
        "--images",
        "1",
        "--images",
        "5",
        "--repeats",
        "1",
    ]
    assert main(["functions", "bench", *arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["images"]
    assert [row["amount"] for row in rows] == [1, 5]
    assert all(row["cold"] > row["warm"] for row in rows)


def test_nothing_to_measure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["functions", "bench", "--plan", "x"]) == 2
    assert "name --model, or --plan and --client" in capsys.readouterr().err
