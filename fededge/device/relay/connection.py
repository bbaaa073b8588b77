"""The connection to the broker: MQTT 5, messages at least once, each acknowledged only when somebody says so.

The broker keeps what comes while the relay is away (a session that outlives connections), and sends again what was not
acknowledged. It never has more under way than RECEIVE, which bounds what lies in memory here.
"""

import logging
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fededge import storage
from fededge.device.relay.intake import Message
from fededge.device.relay.settings import PACKET, Broker
from fededge.errors import RelayError, shown

log = logging.getLogger("fededge.relay")
RECEIVE = 1000
"""Messages that may be under way without an acknowledgment; of those that need none as many may wait here."""
SESSION_SECONDS = 7 * 86_400
"""For which the broker keeps messages for a relay that is away."""
WAITS = (1, 15)
"""Seconds between tries to connect: from, doubled up to."""
ANSWERS = 1000
"""That may wait for the broker."""
NEVER = 2
"""Of MQTT 5's retain handling: retained messages are not sent when one subscribes."""
SECRET_BYTES = 4096


@dataclass(frozen=True)
class Arrived:
    """A message with what is needed to acknowledge it."""

    message: Message
    mid: int
    qos: int
    epoch: int


class Connection:
    """One to `broker`, subscribed to `filters`; files that it names are relative to `folder`.

    Attributes:
        arrived: messages, in the order in which they came.

    Raises:
        RelayError: a file that it names cannot be used.
    """

    def __init__(self, broker: Broker, folder: Path, filters: Iterable[str]) -> None:
        self._filters = sorted(filters)
        self.arrived: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
        self._lock, self._epoch, self._dropped = threading.Lock(), 0, 0
        self._connected = self._kept = False
        client = Client(
            CallbackAPIVersion.VERSION2,
            broker.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        client.max_queued_messages_set(ANSWERS)
        client.reconnect_delay_set(*WAITS)
        client.on_connect, client.on_disconnect = self._welcomed, self._lost
        client.on_connect_fail, client.on_subscribe = self._failed, self._subscribed
        client.on_message = self._came
        try:
            if not broker.plain:
                files = (broker.ca_file, broker.certificate_file, broker.key_file)
                authorities, certificate, key = (file and str(folder / file) for file in files)
                client.tls_set(authorities, certificate, key)
            if broker.user is not None:
                client.username_pw_set(broker.user, _secret(folder, broker.password_file))
        except OSError as error:  # ssl.SSLError is one
            raise RelayError(
                f"broker: a file of its certificates cannot be used: {error}. Correct it"
            ) from error
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = RECEIVE
        properties.MaximumPacketSize = PACKET
        client.connect_async(
            broker.host, broker.port, broker.keepalive, clean_start=False, properties=properties
        )
        self._client, self._address = client, f"{broker.host}:{broker.port}"

    def start(self) -> None:
        """Connect, again and again, in a thread of its own."""
        self._client.loop_start()

    def stop(self) -> None:
        """Say good-bye; the broker keeps what comes from now on."""
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledge(self, arrived: Arrived) -> None:
        """Say that a message is here to stay; where its connection is gone, it comes again instead."""
        with self._lock:
            if arrived.qos and arrived.epoch == self._epoch:
                self._client.ack(arrived.mid, arrived.qos)

    def publish(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        """Send an answer; while the broker is away the last ANSWERS wait."""
        properties = Properties(PacketTypes.PUBLISH)
        if correlation is not None:
            properties.CorrelationData = correlation
        self._client.publish(topic, payload, qos=1, properties=properties)

    def dropped(self) -> int:
        """How many messages that ask for no acknowledgment found no room, since this was asked last."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def _welcomed(
        self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.error("the broker %s refuses this relay: %s", self._address, reason)
            return
        self._kept = flags.session_present
        options = SubscribeOptions(qos=1, noLocal=True, retainHandling=NEVER)
        client.subscribe([(each, options) for each in self._filters])

    def _subscribed(
        self, client: Client, _: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        for filter, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                log.error("the broker does not let this relay read %s: %s", filter, reason)
        log.info("connected to %s%s", self._address, ", which kept what came meanwhile" if self._kept else "")
        self._connected = True

    def _lost(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._lock:
            self._epoch += 1
        if self._connected:
            log.warning("the connection to %s ended: %s", self._address, reason)
        self._connected = False

    def _failed(self, client: Client, _: Any) -> None:
        log.warning("the broker %s cannot be reached; trying again", self._address)

    def _came(self, client: Client, _: Any, message: MQTTMessage) -> None:
        if message.qos == 0 and self.arrived.qsize() >= RECEIVE:
            with self._lock:
                self._dropped += 1
            return
        properties = message.properties
        made = Message(
            topic=_topic(message),
            payload=bytes(message.payload),
            retained=message.retain,
            again=message.dup,
            response_topic=getattr(properties, "ResponseTopic", None),
            correlation=getattr(properties, "CorrelationData", None),
        )
        self.arrived.put(Arrived(made, message.mid, message.qos, self._epoch))


def _topic(message: MQTTMessage) -> str:
    """The topic of `message`; none of a sensor's where it is not UTF-8."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""


def _secret(folder: Path, file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return storage.read(str(folder / file), SECRET_BYTES).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RelayError(f"broker.password_file: {shown(file)} is not text in UTF-8: correct it") from error
