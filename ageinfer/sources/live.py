"""Live sources give the newest frame of a camera or a stream and reconnect after a loss."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.sources.base import Source
from ageinfer.sources.connection import Connection
from ageinfer.types import Frame, Image

_TICK_S = 0.5  # on Windows, Ctrl-C is only noticed between two waits
_HANGING_THREADS = 4

log = logging.getLogger(__name__)


class LiveSource(Source):
    """Gives the newest frame of a camera or a stream until it is closed.

    A thread reads all frames and keeps only the newest one. So a frame is never older than one period of the camera,
    however slow its consumer is. Each frame is given at most once. ``captured_s`` is the time of its capture;
    ``time_s`` counts from the first frame and always increases.

    The source is lost when no frame comes for `stall_s` seconds, or when the capture ends or fails. It is then opened
    again after 0.5 s, 1 s, 2 s and so on, up to every 10 s. One warning says that the source is lost and another one
    that it is back. A capture that hangs in a read keeps its thread, which releases it when the read returns.

    Args:
        name: the name of the source in messages and records; it must hold no password.
        open_capture: returns a new capture with the methods ``isOpened``, ``read``, ``get`` and ``release`` of
            `cv2.VideoCapture`, or raises `SourceError`. The reading thread calls it.
        stall_s: the source counts as lost after this many seconds without a frame.
        reconnect_for_s: a lost source is opened again and again for this many seconds. 0: never; None: for ever.
        open_s: opening may take this many seconds; the first frame is part of it.
        check: the end of an error message: what a person should check when no frames come.

    Attributes:
        dropped: the number of frames so far that newer ones have replaced.
        reconnects: how often the source was lost and came back.

    Raises:
        SourceError: the source cannot be opened or gives no frame. While iterating: it was lost and did not come back.
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
            self._connection.given_up = True  # else its thread would keep the camera until Python ends

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        first_s: float | None = None
        last_s, index = 0.0, 0
        with self._news:
            self._connection.replaced = 0  # frames count as dropped only after iterating began
        try:
            while not self._closed:
                if (newest := self._take()) is None:
                    self._reconnect(index)
                    continue
                captured_s, image = newest
                del newest  # only the consumer keeps the picture alive
                first_s = captured_s if first_s is None else first_s
                # The clock of some systems has steps of 1/64 s; two frames must still differ in time.
                last_s = captured_s if index == 0 else max(captured_s, last_s + 1e-6)
                frame = Frame(self.name, index, last_s - first_s, image, last_s)
                del image
                yield frame
                del frame
                index += 1
        finally:
            self.close()

    def _take(self) -> tuple[float, Image] | None:
        """Waits for the newest frame; returns None if the connection is lost or the source is closed."""
        connection = self._connection
        # After a long pause of the consumer there may be no new frame although the camera works, so wait for one.
        lost_s = time.monotonic() + min(self._stall_s, 1.0)
        with self._news:
            while not self._closed:
                self.dropped += connection.replaced
                connection.replaced = 0
                if connection.newest is not None:
                    newest, connection.newest = connection.newest, None
                    if time.monotonic() - newest[0] < self._stall_s:
                        return newest
                    self.dropped += 1  # too old: no frame has come since
                    del newest
                left_s = max(connection.last_s + self._stall_s, lost_s) - time.monotonic()
                if connection.ended or left_s <= 0:
                    break
                self._news.wait(min(left_s, _TICK_S))
        return None

    def _reconnect(self, frames: int) -> None:
        """Opens captures until one gives a frame or the source is closed.

        Raises:
            SourceError: no capture gave a frame in time.
        """
        if self._closed:
            return
        began_s, tries = time.monotonic(), 0
        if began_s - self._connection.began_s > self._LONGEST_PAUSE_S:  # else the pauses go on growing
            self._pause_s = self._FIRST_PAUSE_S
        why = self._connection.complaint() or f"no frame for {self._stall_s:g} s"
        last = f"{why}; {self._check}, and start again"
        if self._reconnect_for_s == 0:
            raise SourceError(f"{self.name}: no more frames after {frames}: {last}")
        self._give_up_connection()
        self.lost = True
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
            # Where opening hangs, each try would leave one more thread behind.
            self._hanging = [connection for connection in self._hanging if connection.thread.is_alive()]
            if len(self._hanging) >= _HANGING_THREADS:
                continue
            tries += 1
            with self._news:
                if self._closed:  # nothing would ever give the new connection up
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
                self.lost = False
                log.warning("%s: back after %.1f s", self.name, time.monotonic() - began_s)
            return

    def _give_up_connection(self) -> None:
        self._connection.given_up = True
        self._hanging.append(self._connection)

    def _await_first_frame(self, seconds: float) -> None:
        """Waits until the new connection has a frame or the source is closed.

        Raises:
            SourceError: no frame came in time.
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
        """Waits some seconds, or until the source is closed."""
        end_s = time.monotonic() + seconds
        with self._news:
            while not self._closed and (left_s := end_s - time.monotonic()) > 0:
                self._news.wait(min(left_s, _TICK_S))
