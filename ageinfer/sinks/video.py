"""Writes annotated videos."""

import logging
import math
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ageinfer.errors import OutputError, UsageError
from ageinfer.images import cv2
from ageinfer.sinks.base import Sink, cannot_write, prepare_place, unfinished_beside
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import DEFAULT_FPS, Image

# MPEG-4 and Motion JPEG are in every build of OpenCV; H.264 is not.
VIDEO_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}

_CODEC_NAMES = {"mp4v": "MPEG-4", "MJPG": "Motion JPEG"}
_LARGEST_SIDE = {"mp4v": 8190, "MJPG": 65534}  # in pixels
_LEAST_SIDE = 16  # in pixels; with less, OpenCV 5.0 writes Motion JPEG beyond its buffers
_HIGHEST_FPS = 1000.0
# The encoder does not report a full disk. A video can be completed while this many bytes are free: the index at its
# end takes some 10 bytes for each frame.
_LEAST_ROOM, _ROOM_EVERY_S = 16 << 20, 1.0
_LONGEST_GAP_S = 10.0

log = logging.getLogger(__name__)

_proved: set[str] = set()  # suffixes whose codec is known to work in this process


class VideoSink(Sink):
    """Writes annotated frames into a video of the size of the first frame; later frames are scaled to it.

    Both codecs store colours for squares of 2 x 2 pixels. If width or height is odd, the last column or line is
    repeated once; OpenCV would drop it. A side of less than 16 pixels is filled up to 16 in the same way, because
    OpenCV refuses or crashes with some of these sizes.

    Args:
        path: the path of the video; its suffix chooses container and codec, see `VIDEO_CODECS`.
        fps: frames a second; None or a value that makes no sense becomes `DEFAULT_FPS`.
        real_time: for live sources, whose frames come irregularly. Frames are repeated or skipped by their ``time_s``,
            so that the video lasts as long as the scene. After a gap, each new frame brings at most one second of
            repeated frames. A gap of more than 10 s is left out.

    Raises:
        UsageError: there is no codec for the suffix.
        OutputError: the folder cannot be made or written to, the disk is almost full, or OpenCV has no encoder.

    Example:
        >>> with VideoSink(Path("annotated.mp4"), fps=25) as sink:  # doctest: +SKIP
        ...     sink.write(annotated)
    """

    def __init__(self, path: Path, fps: float | None, *, real_time: bool = False) -> None:
        self._path = path
        self._fps = fps if fps is not None and 0 < fps <= _HIGHEST_FPS else DEFAULT_FPS
        self._real_time = real_time
        self._unfinished = unfinished_beside(path)
        self._writer: Any = None
        self._size = (0, 0)
        self._frames = 0
        self._last: Image | None = None
        self._slot = 0  # of the last frame in real time
        self._began_s = self._last_s = 0.0
        self._room_seen_s = -math.inf  # when free space was last checked, in seconds of `time.monotonic`
        if path.suffix.lower() not in VIDEO_CODECS:
            raise UsageError(f"{path}: no codec for this suffix; for a video, --output takes {', '.join(VIDEO_CODECS)}")
        prepare_place(path)
        try:
            str(path.parent).encode()
        except UnicodeEncodeError:  # OpenCV crashes
            raise OutputError(
                f"{str(path.parent)!a}: OpenCV cannot write into a folder of this name; rename it"
            ) from None
        suffix = path.suffix.lower()
        if suffix not in _proved:
            problem = codec_problem(suffix, path.parent)
            if problem is not None:
                raise OutputError(f"{path}: {problem}")
            _proved.add(suffix)
        self._check_room()

    def write(self, annotated: AnnotatedFrame) -> None:
        image = annotated.image
        if self._writer is None:
            self._open(image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size:  # a video has one size; a source may change it
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        image = _padded(image)
        time_s = annotated.frame.time_s
        if not self._real_time or time_s is None or not math.isfinite(time_s):
            self._put(image)
            return
        if self._last is None:
            self._began_s = time_s
        elif time_s < self._last_s:  # the source was opened again and starts its time at 0
            self._began_s += time_s - self._last_s
        elif time_s - self._last_s > _LONGEST_GAP_S:
            self._began_s += time_s - self._last_s - 1 / self._fps
            log.warning(
                "%s: no frame came for %.0f s; the video leaves this gap out", self._path, time_s - self._last_s
            )
        self._last_s = time_s
        self._slot = round((time_s - self._began_s) * self._fps)
        self._repeat_until(self._slot, at_most=max(1, round(self._fps)))
        if self._frames <= self._slot:
            self._put(image)
        self._last = image

    def close(self) -> None:
        if self._writer is None:
            return
        try:
            if self._last is not None:
                self._repeat_until(self._slot + 1)
        finally:
            self._complete()

    def _open(self, width: int, height: int) -> None:
        codec = VIDEO_CODECS[self._path.suffix.lower()]
        limit = _LARGEST_SIDE[codec]
        if max(width, height) > limit:
            raise OutputError(
                f"{self._path}: {_CODEC_NAMES[codec]} holds at most {limit} pixels a side, the frames have "
                f"{width} x {height}; " + ("use .avi" if codec != "MJPG" else "reduce them")
            )
        self._size = (width, height)
        padded = (_padded_side(width), _padded_side(height))
        self._writer = cv2.VideoWriter(str(self._unfinished), cv2.VideoWriter.fourcc(*codec), self._fps, padded)
        if not self._writer.isOpened():
            self._writer = None
            with suppress(OSError):
                self._unfinished.unlink(missing_ok=True)
            raise OutputError(
                f"{self._path}: OpenCV cannot write {width} x {height} pixels at {self._fps:g} frames a second as "
                f"{self._path.suffix}; try .avi"
            )

    def _put(self, image: Image) -> None:
        if time.monotonic() - self._room_seen_s >= _ROOM_EVERY_S:
            self._check_room()
        self._writer.write(image)
        self._frames += 1

    def _repeat_until(self, frames: int, at_most: int | None = None) -> None:
        missing = frames - self._frames
        for _ in range(missing if at_most is None else min(missing, at_most)):
            self._put(self._last)  # type: ignore[arg-type]

    def _check_room(self) -> None:
        """Checks that there is enough free space to complete the video.

        Raises:
            OutputError: the disk is almost full.
        """
        self._room_seen_s = time.monotonic()
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if free < _LEAST_ROOM:
            raise OutputError(
                f"{self._path}: the disk is almost full ({free >> 20} MB free, {_LEAST_ROOM >> 20} MB needed); make "
                "room or choose another place (the video so far is kept)"
            )

    def _complete(self) -> None:
        self._writer.release()
        frames = self._readable_frames()
        try:
            if frames:
                self._unfinished.replace(self._path)
            else:
                self._unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if frames < self._frames:
            kept = f"its first {frames} frames are kept" if frames else "nothing of it is left"
            raise OutputError(f"{self._path}: the video could not be completed, {kept}; is the disk full?")

    def _readable_frames(self) -> int:
        """Returns how many frames can be read back: all if the last one can, else they are counted."""
        written = cv2.VideoCapture(str(self._unfinished))
        try:
            if not written.isOpened():
                return 0
            # Some containers announce one frame less than they hold.
            if written.get(cv2.CAP_PROP_FRAME_COUNT) >= self._frames - 1:
                written.set(cv2.CAP_PROP_POS_FRAMES, max(0, self._frames - 2))
                if written.read()[0]:
                    return self._frames
        finally:
            written.release()
        written = cv2.VideoCapture(str(self._unfinished))
        try:
            frames = 0
            while written.grab():
                frames += 1
            return frames
        finally:
            written.release()


def codec_problem(suffix: str, folder: Path) -> str | None:
    """Writes a tiny video, reads it back, and returns what is wrong with the codec, if anything.

    Args:
        suffix: one of `VIDEO_CODECS`, such as ``.mp4``.
        folder: an existing folder; the file is removed again.

    Returns:
        None if the codec works, else the problem and its remedy.
    """
    codec = VIDEO_CODECS[suffix]
    name = f"{_CODEC_NAMES[codec]} ({codec})"
    path = unfinished_beside(folder / f"trial{suffix}")
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 32:] = (40, 90, 200)
    try:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), DEFAULT_FPS, (64, 48))
        if not writer.isOpened():
            return f"this OpenCV cannot encode {name}; pip install opencv-python, or use another suffix"
        for _ in range(3):
            writer.write(picture)
        writer.release()
        if not _shows(path, picture, 3):
            return f"a trial in {name} cannot be read back; is the disk full? If not, use another suffix"
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return None


def _shows(path: Path, picture: Image, frames: int) -> bool:
    """Tells whether the first frames of a video look like a picture."""
    capture = cv2.VideoCapture(str(path))
    try:
        for _ in range(frames):
            decoded, image = capture.read()
            if not decoded or image.shape != picture.shape:
                return False
            if np.abs(image.astype(np.int16) - picture).mean() > 16:
                return False
        return True
    finally:
        capture.release()


def _padded_side(side: int) -> int:
    return max(side + side % 2, _LEAST_SIDE)


def _padded(image: Image) -> Image:
    """Repeats the last column and line of a picture until the encoders accept its size."""
    height, width = image.shape[:2]
    bottom, right = _padded_side(height) - height, _padded_side(width) - width
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return image
