"""A video, frame by frame."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources.base import Source, sensible_fps
from ageinfer.types import Frame, Image

_ONE_THREAD_PIXELS = 1280 * 720

log = logging.getLogger(__name__)


class VideoSource(Source):
    """A video, every frame in order.

    What cannot be decoded in the middle is left out, as FFmpeg does. Ends where nothing more can be decoded.
    ``truncated`` then tells whether frames are missing: at least 10 of the announced ones, and more than 5 %. (Intact
    files often announce a few frames more than they hold.) When the size of the pictures changes in the middle,
    OpenCV scales what follows to the first size.

    Args:
        path: of the file; with a capture, the name of the source.
        capture: where frames are read from instead, as the capture of an address that is open already.

    Raises:
        SourceError: it cannot be opened.
    """

    kind = "video"
    _MISSING_FRAMES, _MISSING_SHARE = 10, 0.05
    _DAMAGED_FRAMES, _DAMAGED_S = 250, 5.0  # in a row

    def __init__(self, path: str | Path, capture: Any = None) -> None:
        self.name = str(path)
        self._file = Path(path) if capture is None else None
        self._reading = threading.Lock()
        self._capture = _open(Path(path)) if capture is None else capture
        # A header may say anything; what makes no sense is not passed on.
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(announced) if 0 < announced < 1e9 else None
        self.fps = sensible_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def close(self) -> None:
        super().close()
        self._release_unless_reading()

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        index, time_s = 0, 0.0
        try:
            while decoded := self._next(index):
                image, stamp_s = decoded
                time_s = max(time_s, stamp_s)
                yield Frame(self.name, index, time_s, image)
                del decoded, image  # 100 MB of an 8k video, while the next one is decoded
                index += 1
            ended = not self._closed
        finally:
            self.close()
        if ended:
            self._check_end(index)

    def _next(self, index: int) -> tuple[Image, float] | None:
        """The next frame that can be decoded, with its time in seconds; None at the end."""
        # OpenCV says of a damaged frame what it says of the end: that there is none. So more is asked for, as long as
        # frames are missing and the answers come fast enough.
        give_up_s = time.monotonic() + self._DAMAGED_S
        for _ in range(max(1, min((self.frame_count or 0) - index, self._DAMAGED_FRAMES))):
            decoded = self._read()
            if decoded or self._closed or time.monotonic() > give_up_s:
                return decoded
        return None

    def _read(self) -> tuple[Image, float] | None:
        with self._reading, suppress(cv2.error):
            if not self._closed:
                decoded, image = self._capture.read()
                if decoded:
                    return image, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return None

    def _release_unless_reading(self) -> None:
        """Releases the capture, or leaves it to the thread that reads it and, when it ends, comes here, too.

        OpenCV crashes when a capture is released while it is read.
        """
        if self._reading.acquire(blocking=False):
            try:
                with suppress(cv2.error):
                    self._capture.release()
            finally:
                self._reading.release()

    def _check_end(self, frames: int) -> None:
        if frames == 0:
            raise SourceError(f"{self.name}: no frame of this video can be decoded; convert it to MP4 (H.264)")
        if self._file and _is_cut_off_gif(self._file):
            self.truncated = True
            log.warning("%s: the animation is cut off after %d frames", self.name, frames)
            return
        missing = (self.frame_count or frames) - frames
        if missing >= self._MISSING_FRAMES and missing > self._MISSING_SHARE * (frames + missing):
            self.truncated = True
            log.warning(
                "%s: the video ends after %d of %d announced frames; it is cut off or damaged",
                self.name, frames, frames + missing,
            )  # fmt: skip


def _open(path: Path) -> Any:
    # With its folder, because FFmpeg takes a name like "tcp:1.mp4" for an address.
    name = str(path.absolute())
    try:
        name.encode()
    except UnicodeEncodeError:  # OpenCV crashes
        raise SourceError(f"{str(path)!a}: OpenCV cannot open this name; rename the video") from None
    try:
        capture = _capture(name)
        opened = capture.isOpened()
    except cv2.error:
        opened = False
    if opened:
        return capture
    if begins(path, 12)[4:8] == b"ftyp":  # MP4 and MOV often have their index at the end
        raise SourceError(f"{path}: the index of this video is missing: it is cut off; copy or record it again")
    raise SourceError(f"{path}: neither a picture nor a video that can be decoded; convert it to JPEG or MP4")


def _capture(name: str) -> Any:
    """Small frames are decoded by one thread, which is fast enough and leaves the other cores to the networks.

    Several threads of FFmpeg take more processor time together, for no gain at that size.
    """
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if capture.isOpened() and pixels <= _ONE_THREAD_PIXELS:
        return capture
    capture.release()
    return cv2.VideoCapture(name)


def _is_cut_off_gif(path: Path) -> bool:
    """Whether an animation lacks its end mark; a GIF announces no number of frames that could be missed."""
    try:
        if not begins(path, 4).startswith(b"GIF8"):
            return False
        with path.open("rb") as file:
            file.seek(-min(path.stat().st_size, 64), 2)
            return file.read().rstrip(b"\0")[-1:] != b"\x3b"
    except OSError:  # deleted while it was read; its frames are all there
        return False


def begins(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)
