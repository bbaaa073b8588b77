"""A mosquitto for tests: `with Broker.start(tmp_path) as broker: ...`.

Each sensor has a password, and topics of its own.
"""

import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fededge.ports import free_port

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
RELAY, PASSWORD = "relay", "correct horse"
CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_inflight_messages 0
max_queued_messages 100000
log_type error
log_type warning
log_dest stderr
{tls}
"""
TLS = """
cafile {certificates}/ca.pem
certfile {certificates}/ca.pem
keyfile {certificates}/ca-key.pem
require_certificate {required}
"""
ACL = """
user relay
topic readwrite building/#
pattern readwrite building/%u/#
"""


class Broker:
    """A broker's process; `port`: where it listens."""

    def __init__(self, folder: Path, users: Iterable[str], tls: str) -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)  # where it runs as root, it gives its rights away
        (folder / "acl").write_text(ACL)
        (folder / "passwords").touch()
        text = CONFIGURATION.format(port=self.port, folder=folder, tls=tls)
        (folder / "mosquitto.conf").write_text(text + "user root\n")
        for user in (RELAY, *users):
            command = ["mosquitto_passwd", "-b", str(folder / "passwords"), user, PASSWORD]
            subprocess.run(command, check=True, capture_output=True)
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def start(
        cls,
        folder: Path,
        sensors: Iterable[str] = (),
        certificates: Path | None = None,
        required: bool = False,
    ) -> "Iterator[Broker]":
        """A broker for `sensors` whose files lie in `folder`.

        With `certificates` (ca.pem, ca-key.pem) it speaks TLS; clients may be `required` to have one, too.
        """
        if PROGRAM is None:
            pytest.skip("mosquitto is not installed")
        tls = TLS.format(certificates=certificates, required=str(required).lower()) if certificates else ""
        broker = cls(folder / "broker", sensors, tls)
        broker.run()
        try:
            yield broker
        finally:
            broker.end(signal.SIGKILL)

    def run(self) -> None:
        """Start it, (again) at its port, and wait until it listens."""
        assert PROGRAM
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "-c", str(self.folder / "mosquitto.conf")], stderr=log)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal, and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None


class Sensor:
    """A client of the broker, by its name, with a certificate in the folder `tls`.

    Attributes:
        heard: payload and correlation data of what came on topics that it listens to.
    """

    def __init__(self, broker: Broker, name: str, tls: Path | None = None) -> None:
        self.name = name
        self.heard: list[tuple[str, bytes, bytes | None]] = []
        self._came = threading.Condition()
        self._sent = self._published = 0
        version = CallbackAPIVersion.VERSION2
        self.client = Client(version, f"sensor-{name}", protocol=MQTTProtocolVersion.MQTTv5)
        self.client.username_pw_set(name, PASSWORD)
        self.client.max_inflight_messages_set(1000)
        self.client.reconnect_delay_set(1, 1)
        if tls:
            self.client.tls_set(str(tls / "ca.pem"), str(tls / "ca.pem"), str(tls / "ca-key.pem"))
        self.client.on_message, self.client.on_publish = self._hear, self._publish
        ready = threading.Event()
        self.client.on_connect = lambda *_: ready.set()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("localhost", broker.port)
        self.client.loop_start()
        assert ready.wait(30)
        self._ready = ready

    def __enter__(self) -> "Sensor":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def listen(self, topic: str) -> None:
        """Hear what is published on `topic` from now on."""
        self._ready.clear()
        self.client.subscribe(topic, qos=1)
        assert self._ready.wait(30)

    def send(
        self,
        topic: str,
        payload: bytes | str,
        *,
        qos: int = 1,
        retain: bool = False,
        answer: str | None = None,
        correlation: bytes | None = None,
        wait: bool = True,
    ) -> None:
        """Publish `payload`, and wait until the broker has it."""
        properties = Properties(PacketTypes.PUBLISH)
        if answer is not None:
            properties.ResponseTopic = answer
        if correlation is not None:
            properties.CorrelationData = correlation
        self._sent += 1
        sent = self.client.publish(topic, payload, qos, retain, properties)
        if wait:
            sent.wait_for_publish(60)

    def settled(self) -> None:
        """Wait until the broker has all that was sent, also while it was away."""
        with self._came:
            assert self._came.wait_for(lambda: self._published == self._sent, 60)

    def hears(self, count: int = 1) -> list[tuple[str, bytes, bytes | None]]:
        """The messages heard, once there are `count`."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.heard) >= count, 60), self.heard
        return self.heard

    def _publish(self, *_: object) -> None:
        with self._came:
            self._published += 1
            self._came.notify_all()

    def _hear(self, _: Client, __: Any, message: Any) -> None:
        with self._came:
            correlation = getattr(message.properties, "CorrelationData", None)
            self.heard.append((message.topic, message.payload, correlation))
            self._came.notify_all()
