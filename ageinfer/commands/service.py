"""Tells the service manager (systemd) when a run is ready, that it lives, and that it ends.

The messages are those of ``sd_notify(3)``: datagrams to the socket that the environment names. Without that socket,
nothing is sent.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from ageinfer.sources.base import Source

_SHARE = 0.3  # of the time that the service manager allows: two messages may be lost


class ServiceManager:
    """The service manager that has started this process, if there is one.

    With a watchdog, a thread says again and again that the process lives, as long as ``is_alive`` says so. When it
    no longer does, the service manager ends the process and starts it again.

    Args:
        is_alive: whether the work has gone on within so many seconds; it is called from another thread.
        environment: says where the service manager listens.

    Example:
        >>> with ServiceManager(lambda seconds: True, {}) as manager:
        ...     manager.say_ready("watching 2 cameras")
    """

    def __init__(self, is_alive: Callable[[float], bool], environment: Mapping[str, str] = os.environ) -> None:
        self._is_alive = is_alive
        self._place = environment.get("NOTIFY_SOCKET", "")
        self._ended = threading.Event()
        limit_s = _seconds(environment.get("WATCHDOG_USEC", "")) if self._place else 0.0
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):  # it watches another process
            limit_s = 0.0
        if limit_s:
            threading.Thread(target=self._watch, args=(limit_s,), name="watchdog", daemon=True).start()

    def say_ready(self, text: str) -> None:
        """The run has begun; ``text`` is shown by ``systemctl status``."""
        self._send(f"READY=1\nSTATUS={text}")

    def close(self) -> None:
        """The run ends, which may take a while."""
        self._ended.set()
        self._send("STOPPING=1")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self, limit_s: float) -> None:
        while not self._ended.wait(_SHARE * limit_s):
            if self._is_alive(limit_s):
                self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._place or not hasattr(socket, "AF_UNIX"):
            return
        place = f"\0{self._place[1:]}" if self._place[0] == "@" else self._place
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(text.encode(), place)


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0


class Pulse:
    """Knows whether results still come of every source.

    A source that is lost, and is tried again, is alive: a new start would not help it.

    Args:
        sources: that are read.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.name: source for source in sources}
        self._last_s = dict.fromkeys(self._sources, time.monotonic())

    def beat(self, source: str | None = None) -> None:
        """There is a result of a source, or of all of them."""
        names = [source] if source in self._sources else self._sources
        self._last_s |= dict.fromkeys(names, time.monotonic())

    def goes_on(self, limit_s: float) -> bool:
        """Whether each source has given a result within so many seconds, or is lost."""
        for name, source in self._sources.items():
            if source.lost:
                self.beat(name)
        return time.monotonic() - min(self._last_s.values()) <= limit_s
