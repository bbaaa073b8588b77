"""A runner for the tests of clients: speaks as fededge.plan_runner, and does what its plan's folder says.

The file `do` in the plan says what: nothing (an update of the weights and the request), or one word of ACTIONS. It
leaves `began` in its own folder when it begins, with how often it began.
"""

import argparse
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any


def wait(request: dict[str, Any]) -> None:
    """Work until there is a file `go`."""
    while not Path("go").exists():
        time.sleep(0.02)


def eat(request: dict[str, Any]) -> None:
    """Take memory, more and more."""
    taken = []
    while True:
        taken.append(b"x" * (16 << 20))
        time.sleep(0.01)


def spin(request: dict[str, Any]) -> None:
    """Take processor time."""
    while True:
        pass


def crash(request: dict[str, Any]) -> None:
    """End at once."""
    os._exit(3)


def babble(request: dict[str, Any]) -> None:
    """Answer without end."""
    while True:
        sys.stdout.write("x" * 65536)


def nonsense(request: dict[str, Any]) -> None:
    """Answer with something that is no JSON."""
    print("[[[[", flush=True)
    time.sleep(3600)


def complain(request: dict[str, Any]) -> None:
    """Refuse to work, with words about the folder of the data."""
    print(json.dumps({"error": f"{DATA}/train/x.npy has NaN"}), flush=True)
    sys.exit(0)


def look(request: dict[str, Any]) -> None:
    """Tell as the update what can be reached from here."""
    plan = json.loads((PLAN / "look.json").read_text())
    told: dict[str, Any] = {"network": True, "variables": sorted(os.environ), "user": os.getuid()}
    try:
        socket.create_connection(("127.0.0.1", plan["port"]), 5).close()
    except OSError as error:
        told["network"] = str(error)
    for path in plan["files"]:
        told[path] = os.path.exists(path)
    for path in plan["writes"]:
        try:
            Path(path, "written").write_text("")
            told[path] = True
        except OSError:
            told[path] = False
    Path(request["update"]).write_text(json.dumps(told))


def link(request: dict[str, Any]) -> None:
    """Leave a link instead of an update."""
    Path(request["update"]).unlink(missing_ok=True)
    Path(request["update"]).symlink_to("/etc/passwd")


def large(request: dict[str, Any]) -> None:
    """Leave a large update."""
    Path(request["update"]).write_bytes(b"u" * (3 << 20))


ACTIONS = {
    each.__name__: each for each in (wait, eat, spin, crash, babble, nonsense, complain, look, link, large)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--frameworks", action="store_true")
    arguments = parser.parse_args()
    if arguments.frameworks:
        print('["keras"]')
        sys.exit(0)
    PLAN, DATA = arguments.plan, arguments.data
    do = (PLAN / "do").read_text() if (PLAN / "do").exists() else ""
    for began, line in enumerate(sys.stdin, 1):
        request = json.loads(line)
        Path("began").write_text(str(began))
        if do:
            ACTIONS[do](request)
        if request["do"] == "evaluate":
            print(json.dumps({"counts": {"examples": 4.0, "loss_sum": 1.0}}), flush=True)
        elif request["do"] == "ranges":
            print(json.dumps({"ranges": {"examples": 4, "low": [0.0], "high": [1.0]}}), flush=True)
        else:
            if do in ("", "wait"):
                weights = Path(request.pop("weights")).read_bytes().decode()
                update = Path(request.pop("update"))
                update.write_text(json.dumps({"weights": weights, "began": began} | request))
            print("{}", flush=True)
