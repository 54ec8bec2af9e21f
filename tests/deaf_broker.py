"""An MQTT broker on 127.0.0.1 that takes messages and acknowledges them only when it is told to."""

import socket
import struct
import threading
from contextlib import contextmanager, suppress

_CONNECT, _PUBLISH, _SUBSCRIBE, _PING, _DISCONNECT = 1, 3, 8, 12, 14


class DeafBroker:
    """Speaks as much MQTT as one client needs.

    Attributes:
        port: at which it listens.
        published: payloads that have come, in their order.
        acknowledges: whether it says so.
    """

    def __init__(self, version: int, receive_maximum: int | None) -> None:
        self.published: list[bytes] = []
        self.acknowledges = False
        self._version, self._receive_maximum = version, receive_maximum
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._other: socket.socket | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def hang_up(self) -> None:
        self._other.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._other is not None:
            self._other.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._other, _ = self._listener.accept()
                with self._other as other, suppress(OSError, EOFError):
                    while self._answer(other):
                        pass

    def _answer(self, other: socket.socket) -> bool:
        """Takes one packet; tells whether there is another."""
        first = _read(other, 1)[0]
        length = shift = 0
        while True:
            byte = _read(other, 1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        body, kind = _read(other, length), first >> 4
        if kind == _CONNECT:
            if body[6] != self._version:
                other.sendall(b"\x20\x02\x00\x01")
                return False
            properties = b"" if self._receive_maximum is None else b"\x21" + struct.pack("!H", self._receive_maximum)
            rest = bytes([len(properties)]) + properties if self._version == 5 else b""
            other.sendall(b"\x20" + bytes([2 + len(rest)]) + b"\x00\x00" + rest)
        elif kind == _PUBLISH:
            topic = struct.unpack("!H", body[:2])[0]
            number = body[2 + topic : 4 + topic]
            self.published.append(body[4 + topic + (self._version == 5) :])  # version 5: no properties
            if self.acknowledges:
                other.sendall(b"\x40\x02" + number)
        elif kind == _SUBSCRIBE:
            other.sendall(
                b"\x90\x04" + body[:2] + b"\x00\x01" if self._version == 5 else b"\x90\x03" + body[:2] + b"\x01"
            )
        elif kind == _PING:
            other.sendall(b"\xd0\x00")
        return kind != _DISCONNECT


def _read(other: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = other.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


@contextmanager
def deaf_broker(*, version: int = 5, receive_maximum: int | None = None):
    """A running broker.

    Args:
        version: the only one that it knows, 4 (that is 3.1.1) or 5.
        receive_maximum: messages that it takes without having acknowledged them.
    """
    deaf = DeafBroker(version, receive_maximum)
    try:
        yield deaf
    finally:
        deaf.close()
