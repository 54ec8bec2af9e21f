"""One connection to a live source: a capture and the thread that reads it."""

import threading
import time
from collections.abc import Callable
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.images import as_bgr, cv2
from ageinfer.sources.address import without_secrets
from ageinfer.sources.base import sensible_fps
from ageinfer.types import Image

# Reading fails once or a few times where a driver drops a damaged frame or a stream has lost a packet.
_FAILED_READS, _FAILED_READS_S, _READ_AGAIN_S = 20, 0.5, 0.02


class Connection:
    """One capture and the thread that reads it.

    It holds no reference to its source, so that Python can collect a source that is no longer used. All times are
    seconds of `time.monotonic`.

    Attributes:
        opened: whether the capture could be opened.
        fps: the frame rate that the capture announces, or None if it makes no sense.
        newest: the newest frame that was not taken yet, uint8 BGR, with the time of its capture.
        replaced: the number of frames that newer ones have replaced.
        began_s: when the connection was made.
        last_s: when the last frame came; before the first frame, `began_s`.
        ended: whether the thread has released its capture.
        error: the error with which opening failed.
        given_up: set by the source when it needs no more frames; the thread then ends.
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
        """Returns why there is no frame, or None if it is unknown."""
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
        except Exception as error:  # drivers and libraries raise errors of any class
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
        """Reads frames until the source gives the connection up or reading fails for good."""
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
                time.sleep(_READ_AGAIN_S)  # such frames may come without any pause between them
                continue
            with self._news:
                self.replaced += self.newest is not None
                self.newest, self.last_s, self._why = (now_s, image), now_s, None
                self._news.notify_all()
            del image  # else this reference would keep a frame alive until the next one comes
