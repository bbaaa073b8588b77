"""The sensors of three rooms, played from the measurements beside this folder: run in the edge environment.

    python sensors.py [--broker 127.0.0.1:1883] [--per-second 60]

Each room has days of its own. Its climate sensor tells temperature, humidity, light and CO2 of each minute, and its
presence sensor, one second later, whether somebody is there. `python sensors.py --hold-out` writes held-out.csv
instead: every fourth minute of the days that no room has.
"""

import argparse
import csv
import datetime
import json
import queue
import threading
import time
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

HERE = Path(__file__).parent
HELD_OUT = ("2015-02-14", "2015-02-16", "2015-02-17")
ROOMS = 3
MEASURED = ("temperature", "humidity", "light", "co2")


def minutes() -> list[dict[str, Any]]:
    """All rows, in the order of time."""
    with (HERE.parent / "occupancy.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def room_of(day: str, days: list[str]) -> str:
    """The room that has `day`."""
    return f"room-{days.index(day) % ROOMS + 1}"


def play(host: str, port: int, per_second: float) -> None:
    """Publish all that the rooms measured, so many minutes of it in a second."""
    rows = [row for row in minutes() if row["day"] not in HELD_OUT]
    days = sorted({row["day"] for row in rows})
    client = Client(CallbackAPIVersion.VERSION2, "sensors", protocol=MQTTProtocolVersion.MQTTv5)
    client.connect(host, port)
    client.loop_start()
    began, told = time.monotonic(), []
    for number, row in enumerate(rows):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        at = int(datetime.datetime.fromisoformat(f"{row['date']}+00:00").timestamp())
        topic = f"building/{room_of(row['day'], days)}"
        climate = {"number": number, "at": at} | {name: float(row[name]) for name in MEASURED}
        presence = {"number": number, "at": at + 1, "occupied": row["occupancy"] == "occupied"}
        for what, said in (("climate", climate), ("presence", presence)):
            told.append(client.publish(f"{topic}/{what}", json.dumps(said), qos=1))
    for each in told:
        each.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    print(f"{len(told):,} messages of {len(days)} days")


def ask(host: str, port: int, room: str, measured: str) -> None:
    """Publish a request of `room`, and print the answer."""
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    listening = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, "asking", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message = lambda client, data, message: answers.put(message.payload)
    client.on_subscribe = lambda *_: listening.set()
    client.connect(host, port)
    client.loop_start()
    client.subscribe(f"building/{room}/answer", qos=1)
    listening.wait(10)
    client.publish(f"building/{room}/ask", measured, qos=1)
    print(answers.get(timeout=10).decode())
    client.disconnect()
    client.loop_stop()


def hold_out() -> None:
    """Write held-out.csv."""
    rows = [row for row in minutes() if row["day"] in HELD_OUT][::4]
    with (HERE / "held-out.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*MEASURED, "occupancy"], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", default="127.0.0.1:1883", help="HOST:PORT (default: 127.0.0.1:1883)")
    parser.add_argument("--per-second", type=float, default=60.0, help="minutes in a second (default: 60)")
    parser.add_argument("--hold-out", action="store_true", help="write held-out.csv")
    parser.add_argument(
        "--ask", nargs=2, metavar=("ROOM", "JSON"), help="ask what a measurement of a room means"
    )
    options = parser.parse_args()
    if options.hold_out:
        return hold_out()
    host, _, port = options.broker.rpartition(":")
    if options.ask:
        return ask(host, int(port), *options.ask)
    return play(host, int(port), options.per_second)


if __name__ == "__main__":
    main()
