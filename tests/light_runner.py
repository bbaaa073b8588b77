"""A runner that costs nothing: its update is pseudorandom bytes that follow from client, round and weights.

It speaks as fededge.plan_runner does. The file `seconds` in the plan says how long it works.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path


def update_of(client: str, number: int, weights: bytes) -> bytes:
    """The one update of a client in a round, of as many bytes as the weights."""
    return hashlib.shake_256(f"{client} {number} ".encode() + weights).digest(len(weights))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frameworks", action="store_true")
    arguments = parser.parse_args()
    if arguments.frameworks:
        print('["keras"]')
        sys.exit(0)
    seconds = float((arguments.plan / "seconds").read_text())
    for line in sys.stdin:
        request = json.loads(line)
        time.sleep(seconds)
        weights = Path(request["weights"]).read_bytes()
        Path(request["update"]).write_bytes(update_of(request["client"], request["round"], weights))
        print("{}", flush=True)
