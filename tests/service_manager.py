"""Listens as the service manager does (``sd_notify``)."""

import socket


class Listener:
    """What a program tells its service manager."""

    def __init__(self, place: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{place[1:]}" if place[0] == "@" else place)
        self.place = place

    def next(self, within_s: float = 10.0) -> str:
        self._socket.settimeout(within_s)
        return self._socket.recv(4096).decode()

    def is_silent(self, for_s: float) -> bool:
        self._socket.settimeout(0.001)
        try:
            while self._socket.recv(4096):  # what was said before
                pass
        except TimeoutError:
            pass
        self._socket.settimeout(for_s)
        try:
            self._socket.recv(4096)
        except TimeoutError:
            return True
        return False
