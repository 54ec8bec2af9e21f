"""One connection to a broker, from its beginning to its end.

Each connection has a client of its own, so nothing of an earlier one is left in it. What is sent again after a loss is
decided here alone: a message stays known until the broker has acknowledged it (QoS 1).

MQTT 5, because a broker then says why it refuses a connection or a message; with 3.1.1, a message that is not
authorised is lost without a word. A broker that knows 3.1.1 alone gets that.
"""

import socket
import ssl
import time
from dataclasses import dataclass
from threading import Event
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ageinfer.mqtt.address import Address
from ageinfer.mqtt.outbox import Message, Outbox
from ageinfer.mqtt.reports import Reports

MOST_UNACKNOWLEDGED = 20
ANSWER_S = 10.0
LAST_S = 2.0
_CONNECT_S = 5.0
_KEEPALIVE_S = 30
_TICK_S = 0.1
_GOODBYE_S = 0.3


@dataclass(frozen=True, slots=True)
class About:
    """What every connection of a run has in common.

    Attributes:
        address: of the broker.
        tls: how its certificate is verified; None: the connection is not encrypted.
        client_id: by which the broker knows this run.
        will: topic, what is sent to it at the end, and by the broker where the connection is lost.
        renewed_by: topic and payload of a message after which all states are sent again; None: there is none.
    """

    address: Address
    tls: ssl.SSLContext | None
    client_id: str
    will: tuple[str, bytes]
    renewed_by: tuple[str, bytes] | None


@dataclass(frozen=True, slots=True)
class End:
    """Why a connection has ended.

    Attributes:
        reason: in words.
        refused: whether the broker does not want it; then it will not want the next one either.
        too_new: whether the broker does not know this version of MQTT.
    """

    reason: str
    refused: bool = False
    too_new: bool = False


class Connection:
    """Sends what is in the outbox, until the connection ends.

    Args:
        about: what connections have in common.
        protocol: version of MQTT.
        outbox: from where messages come.
        reports: is told what happens.
    """

    def __init__(self, about: About, protocol: MQTTProtocolVersion, outbox: Outbox, reports: Reports) -> None:
        self._about, self._outbox, self._reports = about, outbox, reports
        self._unacknowledged: dict[int, Message] = {}  # by number
        self._most = MOST_UNACKNOWLEDGED
        self._there = False
        self._end: End | None = None
        self._client = self._make_client(protocol)

    def run(self, closing: Event) -> End:
        """Connects, and sends until the connection is lost or, when ``closing`` is set, everything has been sent.

        It takes up to `LAST_S` after that. What the broker has not acknowledged goes back into the outbox.
        """
        try:
            return self._run(closing)
        except (OSError, ValueError) as error:
            return End(_in_words(error))
        except Exception as error:  # whatever a broker sends, the next connection must be tried
            return End(f"it has sent something that is not MQTT ({type(error).__name__})")
        finally:
            self._outbox.give_back(self._unacknowledged.values())
            del self._client  # which closes its sockets

    def attempt(self) -> End | None:
        """Connects, sends nothing, and disconnects; returns why that fails, or None."""
        address, client = self._about.address, self._client
        try:
            client.connect_timeout = _CONNECT_S
            client.connect(address.host, address.port, _KEEPALIVE_S)
            answer_s = time.monotonic() + _CONNECT_S
            while time.monotonic() < answer_s and self._end is None and not self._there:
                if client.loop(_TICK_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return self._end or End("the connection was lost")
            if self._there:
                client.disconnect()
                return None
            return self._end or End("it does not answer")
        except (OSError, ValueError) as error:
            return End(_in_words(error))

    def _run(self, closing: Event) -> End:
        address, client = self._about.address, self._client
        client.connect_timeout = LAST_S if closing.is_set() else _CONNECT_S
        client.connect(address.host, address.port, _KEEPALIVE_S)
        answer_s = time.monotonic() + ANSWER_S
        last_s: float | None = None  # until when the rest may be sent
        while True:
            result = client.loop(_TICK_S)
            if self._end is not None:
                return self._end
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return End("the connection was lost")
            now_s = time.monotonic()
            if closing.is_set():
                last_s = now_s + LAST_S if last_s is None else last_s
            self._reports.note_dropped()
            if self._there:
                self._send()
                if last_s is not None and (now_s >= last_s or not self._unacknowledged):
                    return self._say_goodbye()
            elif now_s >= (answer_s if last_s is None else last_s):
                return End("it does not answer")

    def _make_client(self, protocol: MQTTProtocolVersion) -> Client:
        address, about = self._about.address, self._about
        client = Client(CallbackAPIVersion.VERSION2, about.client_id, protocol=protocol, reconnect_on_failure=False)
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        if about.tls is not None:
            client.tls_set_context(about.tls)
        client.will_set(*about.will, qos=1, retain=True)
        client.on_connect = self._take_answer
        client.on_disconnect = self._take_end
        client.on_publish = self._take_acknowledgement
        client.on_message = self._take_message
        return client

    def _send(self) -> None:
        while len(self._unacknowledged) < self._most:
            message = self._outbox.take()
            if message is None:
                return
            sent = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            self._unacknowledged[sent.mid] = message
            if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:  # the loop will see why
                return

    def _say_goodbye(self) -> End:
        """Says that this run is over; nobody waits long for the broker to hear it, who else sends the will."""
        self._client.publish(*self._about.will, qos=1, retain=True)
        self._client.disconnect()
        last_s = time.monotonic() + _GOODBYE_S
        while self._client.loop(_TICK_S) == MQTTErrorCode.MQTT_ERR_SUCCESS and time.monotonic() < last_s:
            pass
        return End("this run is over")

    def _take_answer(
        self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            too_new = reason.getName() == "Unsupported protocol version"
            self._end = End(reason.getName().lower(), refused=True, too_new=too_new)
            return
        self._there = True
        self._most = min(MOST_UNACKNOWLEDGED, getattr(properties, "ReceiveMaximum", MOST_UNACKNOWLEDGED))
        if self._about.renewed_by is not None:
            client.subscribe(self._about.renewed_by[0], qos=1)
        self._outbox.renew()
        self._reports.note_there()

    def _take_end(
        self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if self._end is None:
            name = reason.getName().lower()
            self._end = End("the connection was lost" if name == "unspecified error" else name)

    def _take_acknowledgement(
        self, _client: Client, _data: Any, number: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        message = self._unacknowledged.pop(number, None)
        if message is None:
            return
        if reason.is_failure:
            self._outbox.note_refused(message)
            self._reports.note_refused_message(message.topic, reason.getName().lower())
        else:
            self._outbox.note_sent(message)

    def _take_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if (message.topic, message.payload) == self._about.renewed_by:
            self._outbox.renew()


def _in_words(error: OSError | ValueError) -> str:
    """Why no connection could be made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; name its authority with --mqtt-ca"
    if isinstance(error, ssl.SSLError):
        return f"no encrypted connection: {error.reason or 'the other side broke it off'}"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, socket.gaierror):
        return "no host of this name is known"
    return str(getattr(error, "strerror", None) or error).lower()
