"""A gateway's process whose clock is injected: ahead by as many seconds as a file says, which may change at any time.

python -m tests.shifted_clock FILE SETTINGS
"""

import runpy
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    _, file, *arguments = sys.argv
    real = time.time
    time.time = lambda: real() + float(Path(file).read_text() or 0)  # before anything else takes hold of it
    sys.argv = ["tests.gateway_process", *arguments]
    runpy.run_module("tests.gateway_process", run_name="__main__")
