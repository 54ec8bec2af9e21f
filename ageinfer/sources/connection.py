"""One connection to a live source: a capture, and the thread that reads it."""

import threading
import time
from collections.abc import Callable
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.images import as_bgr, cv2
from ageinfer.sources.address import without_secrets
from ageinfer.sources.base import sensible_fps
from ageinfer.types import Image

# A camera whose driver drops a damaged frame and a stream that has lost a packet fail to read once, or a few times.
_FAILED_READS, _FAILED_READS_S, _READ_AGAIN_S = 20, 0.5, 0.02


class Connection:
    """One capture and the thread that reads it. Holds no reference to its source, so that this can be collected.

    Attributes:
        opened: whether the capture could be opened.
        fps: what the capture says of its frame rate.
        newest: the newest frame that nobody has taken, with its time of capture in seconds of `time.monotonic`.
        replaced: how many frames were replaced by newer ones.
        began_s: when it was made.
        last_s: when the last frame came, or the beginning.
        ended: the thread has released its capture and ends.
        error: what the opening failed with.
        given_up: set from outside; nobody wants its frames any more.
    """

    def __init__(self, name: str, open_capture: Callable[[], Any], news: threading.Condition) -> None:
        self.name = name
        self.opened = self.ended = self.given_up = False
        self.fps: float | None = None
        self.newest: tuple[float, Image] | None = None
        self.replaced = 0
        self.began_s = self.last_s = time.monotonic()
        self.error: SourceError | None = None
        self._why: str | None = None
        self._open_capture, self._news = open_capture, news
        self.thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)
        self.thread.start()

    def complaint(self) -> str | None:
        """Why there is no frame, as far as it is known."""
        return self._why

    def _run(self) -> None:
        capture = None
        try:
            capture = self._open_capture()
            self.opened = capture.isOpened()
            if self.opened:
                self.fps = sensible_fps(capture.get(cv2.CAP_PROP_FPS))
                self._read(capture)
            else:
                self._why = "OpenCV cannot open it"
        except SourceError as error:
            self.error = error
        except Exception as error:  # drivers and libraries raise what they like
            self._fail(error)
        try:
            if capture is not None:
                capture.release()
        except Exception as error:
            self._fail(error)
        with self._news:
            self.ended = True
            self._news.notify_all()

    def _fail(self, error: Exception) -> None:
        self._why = f"{type(error).__name__}: {without_secrets(' '.join(str(error).split()))}"

    def _read(self, capture: Any) -> None:
        """Reads until nobody wants more, or there is no more."""
        failed, failed_s = 0, 0.0
        while not self.given_up:
            grabbed, image = capture.read()
            now_s = time.monotonic()
            if self.given_up:
                return
            if not grabbed:
                failed, failed_s = failed + 1, failed_s if failed else now_s
                self._why = "reading fails"
                if not capture.isOpened() or (failed >= _FAILED_READS and now_s - failed_s >= _FAILED_READS_S):
                    return
                time.sleep(_READ_AGAIN_S)
                continue
            failed = 0
            try:
                image = as_bgr(image)
            except ValueError as error:
                self._why = str(error)
                time.sleep(_READ_AGAIN_S)  # it may come at once, again and again
                continue
            with self._news:
                self.replaced += self.newest is not None
                self.newest, self.last_s, self._why = (now_s, image), now_s, None
                self._news.notify_all()
            del image  # or a frame that was handed out would live until the next one comes
