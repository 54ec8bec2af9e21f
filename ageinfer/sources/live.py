"""Live sources: the newest frame of a camera or a stream, through stalls and lost connections."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.sources.base import Source
from ageinfer.sources.connection import Connection
from ageinfer.types import Frame, Image

_TICK_S = 0.5  # on Windows, Ctrl-C only comes through between two waits
_HANGING_THREADS = 4

log = logging.getLogger(__name__)


class LiveSource(Source):
    """The newest frame of a camera or a stream, until somebody stops.

    A thread reads whatever comes and keeps the newest frame alone, so that what is handed out is never older than one
    period of the camera, however slow the consumer is. Each frame is handed out at most once, with the time of its
    capture in ``captured_s``; ``time_s`` counts from the first one and always increases.

    When no frame comes for `stall_s` seconds, or the capture ends or fails, a new one is opened: after 0.5 s, and then
    after twice the time, up to 10 s; a source that comes and goes is not tried more often than that. One warning says
    that the source is lost, another that it is back. A capture that hangs in a read is left to its thread, which
    releases it if it ever comes back.

    Args:
        name: as messages and records call the source; must hold no password.
        open_capture: gives a new capture, with ``isOpened``, ``read``, ``get`` and ``release`` as `cv2.VideoCapture`
            has them, or raises `SourceError`. It is called in the thread that reads.
        stall_s: seconds without a frame after which the source counts as lost.
        reconnect_for_s: seconds of trying before giving up; 0 not to try, None to try for ever.
        open_s: seconds that opening may take, the first frame included.
        check: what a person should do when no frames come.

    Attributes:
        dropped: frames so far that were replaced by newer ones.
        reconnects: how often the source was lost and came back.

    Raises:
        SourceError: it cannot be opened, or gives no frame. Raised while iterating: it was lost and did not come back.
    """

    kind = "camera"
    _FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Any],
        *,
        stall_s: float = 5.0,
        reconnect_for_s: float | None = 60.0,
        open_s: float = 15.0,
        check: str = "check that it is plugged in",
    ) -> None:
        self.name = name
        self.dropped = self.reconnects = 0
        self._open_capture = open_capture
        self._stall_s, self._reconnect_for_s, self._open_s, self._check = stall_s, reconnect_for_s, open_s, check
        self._news = threading.Condition()
        self._hanging: list[Connection] = []
        self._pause_s = self._FIRST_PAUSE_S
        self._connection = Connection(name, open_capture, self._news)
        try:
            self._await_first_frame(open_s)
        except BaseException:  # Ctrl-C among them
            self.close()
            raise
        self.fps = self._connection.fps

    def close(self) -> None:
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._connection.given_up = True
            self._news.notify_all()
        if self._connection.thread is not threading.current_thread():
            self._connection.thread.join(timeout=_TICK_S)  # longer only when it hangs in a read

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.given_up = True  # or its thread would hold the camera for as long as Python runs

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        first_s: float | None = None
        last_s, index = 0.0, 0
        with self._news:
            self._connection.replaced = 0  # while nobody asked for frames, none was dropped
        try:
            while not self._closed:
                if (newest := self._take()) is None:
                    self._reconnect(index)
                    continue
                captured_s, image = newest
                del newest  # the picture is the consumer's alone
                first_s = captured_s if first_s is None else first_s
                # The clock of some systems ticks 64 times a second; time increases all the same.
                last_s = captured_s if index == 0 else max(captured_s, last_s + 1e-6)
                frame = Frame(self.name, index, last_s - first_s, image, last_s)
                del image
                yield frame
                del frame
                index += 1
        finally:
            self.close()

    def _take(self) -> tuple[float, Image] | None:
        """Waits for the newest frame; None when the connection is lost or the source closed."""
        connection = self._connection
        # Whoever was busy or suspended for long may find no new frame although the camera works; so it gets time.
        lost_s = time.monotonic() + min(self._stall_s, 1.0)
        with self._news:
            while not self._closed:
                self.dropped += connection.replaced
                connection.replaced = 0
                if connection.newest is not None:
                    newest, connection.newest = connection.newest, None
                    if time.monotonic() - newest[0] < self._stall_s:
                        return newest
                    self.dropped += 1  # the camera has been silent since, and this is no picture of the present
                    del newest
                left_s = max(connection.last_s + self._stall_s, lost_s) - time.monotonic()
                if connection.ended or left_s <= 0:
                    break
                self._news.wait(min(left_s, _TICK_S))
        return None

    def _reconnect(self, frames: int) -> None:
        """Opens captures until one gives a frame, or somebody closes.

        Raises:
            SourceError: none did in time.
        """
        if self._closed:
            return
        began_s, tries = time.monotonic(), 0
        if began_s - self._connection.began_s > self._LONGEST_PAUSE_S:  # else it comes and goes: no need to hurry
            self._pause_s = self._FIRST_PAUSE_S
        why = self._connection.complaint() or f"no frame for {self._stall_s:g} s"
        last = f"{why}; {self._check}, and start again"
        if self._reconnect_for_s == 0:
            raise SourceError(f"{self.name}: no more frames after {frames}: {last}")
        self._give_up_connection()
        log.warning("%s: lost after %d frames (%s); trying to reconnect", self.name, frames, why)
        while not self._closed:
            left_s = float("inf")
            if self._reconnect_for_s is not None:
                left_s = self._reconnect_for_s - (time.monotonic() - began_s)
            if left_s <= 0:
                raise SourceError(
                    f"{self.name}: lost after {frames} frames, and {tries} tries in {self._reconnect_for_s:g} s "
                    f"did not bring it back: {last}"
                )
            self._pause(min(self._pause_s, left_s))
            self._pause_s = min(2 * self._pause_s, self._LONGEST_PAUSE_S)
            # Where opening hangs, each try would leave one more thread behind, for days.
            self._hanging = [connection for connection in self._hanging if connection.thread.is_alive()]
            if len(self._hanging) >= _HANGING_THREADS:
                continue
            tries += 1
            with self._news:
                if self._closed:  # and nobody would ever give the new connection up
                    return
                self._connection = Connection(self.name, self._open_capture, self._news)
            try:
                self._await_first_frame(min(self._open_s, max(left_s, self._FIRST_PAUSE_S)))
            except SourceError as error:
                last = str(error).removeprefix(f"{self.name}: ")
                self._give_up_connection()
                continue
            if not self._closed:
                self.reconnects += 1
                log.warning("%s: back after %.1f s", self.name, time.monotonic() - began_s)
            return

    def _give_up_connection(self) -> None:
        self._connection.given_up = True
        self._hanging.append(self._connection)

    def _await_first_frame(self, seconds: float) -> None:
        """Waits until the new connection has a frame, or somebody closes.

        Raises:
            SourceError: it has none in time.
        """
        connection = self._connection
        give_up_s = time.monotonic() + seconds
        with self._news:
            while not (connection.newest or connection.ended or self._closed):
                left_s = give_up_s - time.monotonic()
                if left_s <= 0:
                    break
                self._news.wait(min(left_s, _TICK_S))
            if connection.newest or self._closed:
                return
        if connection.error:
            raise connection.error
        what = "it opens, but no frame comes" if connection.opened else "it does not open"
        why = connection.complaint() or f"within {seconds:.3g} s"
        raise SourceError(f"{self.name}: {what} ({why}); {self._check}")

    def _pause(self, seconds: float) -> None:
        """Waits, unless somebody closes."""
        end_s = time.monotonic() + seconds
        with self._news:
            while not self._closed and (left_s := end_s - time.monotonic()) > 0:
                self._news.wait(min(left_s, _TICK_S))
