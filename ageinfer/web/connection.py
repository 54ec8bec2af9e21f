"""What one connection to the web server may take: places, time for a request, and lines of the log.

All of this holds before anybody has shown a token.
"""

import asyncio
import logging
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# Both streams of all viewers have room, and pages that are being loaded.
MOST_CONNECTIONS = 64
REQUEST_S = 10.0
QUIET_S = 60.0

log = logging.getLogger(__name__)


class Seldom(logging.Filter):
    """Lets one message of each level pass in a minute, because whoever can connect can cause any number of them.

    Args:
        quiet_s: how long it is quiet after a message, in seconds.
    """

    def __init__(self, quiet_s: float = QUIET_S) -> None:
        super().__init__()
        self._quiet_s = quiet_s
        self._last_s: dict[int, float] = {}
        self._left_out: dict[int, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now_s, level = time.monotonic(), record.levelno
        if now_s - self._last_s.get(level, -self._quiet_s) < self._quiet_s:
            self._left_out[level] = self._left_out.get(level, 0) + 1
            return False
        self._last_s[level] = now_s
        left_out = self._left_out.pop(level, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} messages before it were left out)", None
        return True


class Connection(H11Protocol):
    """A connection that has limited time to ask, and sends nothing more to a viewer that is slow to read.

    The head of each request must be complete within `REQUEST_S` after the connection was made or the answer before was
    sent, and so must a body that nobody reads. Beyond `most_connections`, the one that has asked for nothing for the
    longest time is broken.
    """

    most_connections = MOST_CONNECTIONS
    _asking_since_s: float | None = None
    _time_is_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Else 64 KiB, which are several small pictures, would wait for the viewer and be old when it reads them.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self._wait_for_request()
        open_ones = [c for c in self.connections if isinstance(c, Connection) and not c.transport.is_closing()]
        if len(open_ones) > self.most_connections:
            log.warning("more than %d connections to the web server; idle ones are broken", self.most_connections)
            idle = [(c._asking_since_s, c) for c in open_ones if c._asking_since_s is not None]
            min(idle, key=lambda pair: pair[0])[1].transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._wait_for_request()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state is h11.IDLE:
            super().send_400_response(msg)
            return
        # The rest of a request is broken that is being answered, or was: there is no place for another answer.
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.abort()

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._asking_since_s = self.loop.time()
        self._time_is_up = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        self._asking_since_s = None
        if self._time_is_up is not None:
            self._time_is_up.cancel()
            self._time_is_up = None


def explain_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs what went wrong on the event loop; of an error of the system in one line."""
    error = context.get("exception")
    expected = error is None or isinstance(error, OSError)
    log.error("web server: %s: %s", context["message"], error, exc_info=None if expected else error)
