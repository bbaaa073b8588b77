"""A relay with 1,000 sensors at a message a second, against a bare subscriber of the same messages in the same run.

    .venvs/edge/bin/python -m benchmarks.relay [--sensors 1000] [--seconds 60]

Both are processes beside one mosquitto; one more process plays the sensors (QoS 1). The bare subscriber (paho) counts the
messages and acknowledges each as it comes; the relay reads, checks, labels and stores them, synced, first. The CPU
share is processor seconds over the seconds of traffic. Memory is the resident set after a third of it, and at its end.
Prints a table and writes benchmarks/results/relay.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.results import save, table
from fededge.device.relay.reader import Reader
from fededge.host.layout import ROOT
from fededge.processes import ended_with_parent

PORT = 18_883
MEASURED = {"temperature": 21.5, "humidity": 40.1, "light": 120, "co2": 801}
BROKER = """listener {port} 127.0.0.1
allow_anonymous true
max_inflight_messages 0
max_queued_messages 100000
"""
RELAY = """broker: {{host: 127.0.0.1, port: {port}, plain: true, client_id: relay}}
groups:
  - name: rooms
    sensors: ["room-*"]
    topic: building/{{sensor}}/climate
    payload:
      kind: json
      fields:
        - {{name: at, type: int64}}
        - {{name: temperature, unit: C, low: -40, high: 85}}
        - {{name: humidity, unit: "%", low: 0, high: 100}}
        - {{name: light, unit: lx, low: 0}}
        - {{name: co2, unit: ppm, low: 0}}
        - {{name: occupied, type: bool}}
    reading: {{id: at, time: at}}
    label: {{field: occupied, classes: [empty, occupied]}}
    dataset: {{name: occupancy, features: [temperature, humidity, light, co2], every_seconds: 20}}
"""


def play(port: int, sensors: int, seconds: int) -> None:
    """Be all sensors: each sends once a second, one after another; print how many messages the broker took."""
    client = _client("player")
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", port)
    client.loop_start()
    began, sent = time.monotonic(), []
    for number in range(sensors * seconds):
        if (ahead := began + number / sensors - time.monotonic()) > 0:
            time.sleep(ahead)
        second, sensor = divmod(number, sensors)
        said = MEASURED | {"at": second, "occupied": second % 2 == 0}
        sent.append(client.publish(f"building/room-{sensor}/climate", json.dumps(said), qos=1))
    for each in sent:
        each.wait_for_publish(60)
    print(sum(each.is_published() for each in sent), flush=True)


def subscribe(port: int) -> None:
    """Be the bare subscriber: print that it is there, and how many messages came once standard input ends."""
    counted = [0]

    def count(*_: Any) -> None:
        counted[0] += 1

    client = _client("bare")
    client.on_message = count
    client.on_connect = lambda client, *_: client.subscribe("building/+/climate", qos=1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sys.stdin.read()
    print(counted[0], flush=True)


def measure(sensors: int, seconds: int) -> list[dict[str, Any]]:
    """One run; a row for each of the two.

    Raises:
        SystemExit: there is no mosquitto, or one of them ended.
    """
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fededge-relay-")))
        (folder / "broker.conf").write_text(BROKER.format(port=PORT))
        (folder / "relay.yaml").write_text(RELAY.format(port=PORT))
        _start(stack, [program, "-c", str(folder / "broker.conf")])
        time.sleep(0.5)
        bare = _start(stack, _own("subscribe"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        _said(bare.stdout, "ready")
        run = [
            "-m",
            "fededge",
            "relay",
            "run",
            "--relay",
            str(folder / "relay.yaml"),
            "--folder",
            str(folder / "relay"),
        ]
        relay = _start(stack, [sys.executable, *run], stderr=subprocess.PIPE, text=True)
        _said(relay.stderr, "connected to")
        assert relay.stderr
        threading.Thread(target=relay.stderr.read, daemon=True).start()  # its log
        time.sleep(1)
        watched = {"bare subscriber": psutil.Process(bare.pid), "relay": psutil.Process(relay.pid)}
        before = {name: _processor(process) for name, process in watched.items()}
        began = time.monotonic()
        player = _start(stack, _own("play", str(sensors), str(seconds)), stdout=subprocess.PIPE, text=True)
        time.sleep(seconds / 3)
        early = {name: process.memory_info().rss for name, process in watched.items()}
        sent = int(player.communicate()[0])
        took = time.monotonic() - began
        spent = {name: _processor(process) - before[name] for name, process in watched.items()}
        late = {name: process.memory_info().rss for name, process in watched.items()}
        time.sleep(2)
        taken = {
            "bare subscriber": int(bare.communicate()[0]),
            "relay": _stored(folder / "relay" / "relay.db"),
        }
        return [
            {
                "what": name,
                "sensors": sensors,
                "messages": sent,
                "lost": sent - taken[name],
                "CPU share": round(spent[name] / took, 3),
                "ratio": round(spent[name] / spent["bare subscriber"], 2),
                "MB early": round(early[name] / 1e6, 1),
                "MB late": round(late[name] / 1e6, 1),
            }
            for name in watched
        ]


def main() -> None:
    """Measure, print and save."""
    if sys.argv[1:2] == ["play"]:
        return play(PORT, int(sys.argv[2]), int(sys.argv[3]))
    if sys.argv[1:2] == ["subscribe"]:
        return subscribe(PORT)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sensors", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60, help="of traffic")
    options = parser.parse_args()
    rows = measure(options.sensors, options.seconds)
    print(table(rows))
    print(save("relay", rows))
    return None


def _client(name: str) -> Client:
    return Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5)


def _own(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.relay", *arguments]


def _start(stack: ExitStack, command: list[str], **pipes: Any) -> "subprocess.Popen[Any]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(ended_with_parent(command), cwd=ROOT, env=environment, **pipes)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _said(lines: Any, text: str) -> None:
    """Wait for a line with `text`."""
    for line in lines:
        if text in line:
            return
    raise SystemExit(f"a process ended before it said {text!r}")


def _processor(process: psutil.Process) -> float:
    """Seconds of the processor that it took so far."""
    times = process.cpu_times()
    return times.user + times.system


def _stored(store: Path) -> int:
    with closing(Reader(store)) as reader:
        return sum(each.readings for each in reader.sensors())


if __name__ == "__main__":
    main()
