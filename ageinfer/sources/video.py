"""Reads a video frame by frame."""

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
    """Gives every frame of a video in order, uint8 BGR.

    Frames that cannot be decoded are skipped, as FFmpeg does. The source ends where nothing more can be decoded.
    ``truncated`` is then true if frames are missing: at least 10 of the announced frames and more than 5 %. (Intact
    files often announce a few frames more than they hold.) If the frames change their size, OpenCV scales the later
    ones to the first size.

    Args:
        path: the path of the file. With a capture, it is only the name of the source.
        capture: an open `cv2.VideoCapture` to read instead of the file, or None.

    Raises:
        SourceError: the video cannot be opened. While iterating: no frame can be decoded.

    Example:
        >>> with VideoSource("clip.mp4") as source:  # doctest: +SKIP
        ...     times = [frame.time_s for frame in source]
    """

    kind = "video"
    _MISSING_FRAMES, _MISSING_SHARE = 10, 0.05
    _DAMAGED_FRAMES, _DAMAGED_S = 250, 5.0  # in a row

    def __init__(self, path: str | Path, capture: Any = None) -> None:
        self.name = str(path)
        self._file = Path(path) if capture is None else None
        self._reading = threading.Lock()
        self._capture = _open(Path(path)) if capture is None else capture
        # The header of a file may announce any number; one that makes no sense is dropped.
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
                del decoded, image  # a frame of an 8k video takes 100 MB while the next one is decoded
                index += 1
            ended = not self._closed
        finally:
            self.close()
        if ended:
            self._check_end(index)

    def _next(self, index: int) -> tuple[Image, float] | None:
        """Returns the next frame that can be decoded and its time in seconds, or None at the end."""
        # OpenCV gives the same answer for a damaged frame as for the end. So reading goes on while announced frames
        # are missing, for at most _DAMAGED_FRAMES reads and _DAMAGED_S seconds.
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
        """Releases the capture, unless another thread reads it; that thread then releases it at its end.

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
    # An absolute path, because FFmpeg takes a name like "tcp:1.mp4" for an address.
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
        raise SourceError(f"{path}: the video is cut off, its index is missing; copy or record it again")
    raise SourceError(f"{path}: neither a picture nor a video that can be decoded; convert it to JPEG or MP4")


def _capture(name: str) -> Any:
    """Opens a video so that one thread decodes frames of up to 1280 x 720 pixels, and several threads larger ones.

    One thread is fast enough for small frames and leaves the other cores to the networks.
    """
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if capture.isOpened() and pixels <= _ONE_THREAD_PIXELS:
        return capture
    capture.release()
    return cv2.VideoCapture(name)


def _is_cut_off_gif(path: Path) -> bool:
    """Tells whether a GIF lacks its end mark; it announces no number of frames to compare with."""
    try:
        if not begins(path, 4).startswith(b"GIF8"):
            return False
        with path.open("rb") as file:
            file.seek(-min(path.stat().st_size, 64), 2)
            return file.read().rstrip(b"\0")[-1:] != b"\x3b"
    except OSError:  # the file was deleted after its frames were read
        return False


def begins(path: Path, count: int) -> bytes:
    """Reads the first bytes of a file, `count` of them or fewer."""
    with path.open("rb") as file:
        return file.read(count)
