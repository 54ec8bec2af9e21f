"""A broker, as the rest of the program sees it: it takes messages at once, whether it is there or not."""

import secrets
import ssl
import threading
import time

from paho.mqtt.enums import MQTTProtocolVersion

from ageinfer.mqtt.address import Address
from ageinfer.mqtt.connection import LAST_S, About, Connection, End
from ageinfer.mqtt.messages import OFFLINE, ONLINE
from ageinfer.mqtt.outbox import MOST_WAITING, Outbox
from ageinfer.mqtt.reports import Reports

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


class Broker:
    """Sends states and records to a broker, in a thread of its own.

    Whoever hands over a message never waits. While the broker is away, the newest state of each topic and a bounded
    number of records are kept; the thread connects again and again, with longer and longer pauses. `close` waits at
    most about two seconds.

    Args:
        address: of the broker.
        tls: how its certificate is verified, see `ageinfer.mqtt.address.tls_context`.
        status_topic: gets ``online``; ``offline`` at the end, and from the broker where the connection is lost.
        renewed_by: topic and payload of a message after which all states are sent again; None: there is none.
        most_waiting: records that are kept; the oldest are dropped and counted.

    Example:
        >>> broker = Broker(Address.parse("mqtt://127.0.0.1"), status_topic="door/status")  # doctest: +SKIP
        >>> broker.put_state("door/view", b"{}")  # doctest: +SKIP
        >>> broker.close()  # doctest: +SKIP
    """

    def __init__(
        self, address: Address, tls: ssl.SSLContext | None = None, *, status_topic: str,
        renewed_by: tuple[str, bytes] | None = None, most_waiting: int = MOST_WAITING,
    ) -> None:  # fmt: skip
        self._about = About(address, tls, _client_id(), (status_topic, OFFLINE), renewed_by)
        self._outbox = Outbox(most_waiting)
        self._outbox.put_state(status_topic, ONLINE)
        self._reports = Reports(str(address), self._outbox)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        """Records that the broker has taken."""
        return self._outbox.sent

    @property
    def dropped(self) -> int:
        """Records that it has not, and never will."""
        return self._outbox.dropped

    def put_state(self, topic: str, payload: bytes) -> None:
        """Hands over the newest state of a topic, which the broker keeps for those who ask later."""
        self._outbox.put_state(topic, payload)

    def put_record(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hands over a record, which arrives at least once if there is room for it until the broker is there."""
        self._outbox.put_record(topic, payload, retain=retain)

    def close(self) -> None:
        """Sends what waits, and that this run is over; says how many records were sent and dropped."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(LAST_S + 0.5)  # it ends in time, unless the system does not let go of it
        self._outbox.give_up()
        self._reports.note_closed()

    def _run(self) -> None:
        protocol, pause_s = MQTTProtocolVersion.MQTTv5, FIRST_PAUSE_S
        while True:
            began_s = time.monotonic()
            end = Connection(self._about, protocol, self._outbox, self._reports).run(self._closing)
            if self._closing.is_set():
                return
            if end.too_new and protocol != MQTTProtocolVersion.MQTTv311:
                protocol = MQTTProtocolVersion.MQTTv311
                continue
            if time.monotonic() - began_s >= LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            if end.refused:
                self._reports.note_refused(end.reason)
                self._pause(LONGEST_PAUSE_S)
            else:
                self._reports.note_lost(end.reason)
                self._pause(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            if self._closing.is_set() and not self._outbox.waiting:
                return

    def _pause(self, pause_s: float) -> None:
        end_s = time.monotonic() + pause_s
        while (left_s := end_s - time.monotonic()) > 0 and not self._closing.wait(min(left_s, 1.0)):
            self._reports.note_dropped()


def problem_with(address: Address, tls: ssl.SSLContext | None = None) -> str | None:
    """Why no connection to a broker can be made; None if it can. Nothing is sent.

    Args:
        address: of the broker.
        tls: how its certificate is verified, see `ageinfer.mqtt.address.tls_context`.
    """
    outbox = Outbox()
    reports = Reports(str(address), outbox)
    about = About(address, tls, _client_id(), (f"{address.topic}/trial", OFFLINE), None)
    end: End | None = None
    for protocol in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
        end = Connection(about, protocol, outbox, reports).attempt()
        if end is None or not end.too_new:
            break
    return None if end is None else end.reason


def _client_id() -> str:
    # Of the letters and digits that every broker takes, and no longer than that.
    return f"ageinfer{secrets.token_hex(6)}"
