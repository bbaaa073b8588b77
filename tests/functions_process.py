"""Functions that train and answer, as processes of their own: `with function("train", ...) as url: ...`."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fededge.host.layout import ROOT, VENVS

PYTHON = VENVS / "serving" / "bin" / "python"
needs_serving = pytest.mark.skipif(not PYTHON.exists(), reason="no serving environment")


@contextmanager
def function(name: str, *arguments: object) -> Iterator[str]:
    """The URL of a function that is told to end after the block."""
    command = [str(PYTHON), "-m", f"serving.functions.{name}", "--port", "0", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            url: str = json.loads(process.stdout.readline())["url"]
            yield url
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
