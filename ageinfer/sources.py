"""Where frames come from: a picture, a folder of pictures, a video file, a camera."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ageinfer._opencv import cv2
from ageinfer.errors import SourceError
from ageinfer.types import Frame, Image

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# JPEG, PNG, BMP, TIFF, PNM. (A GIF is a video.)
_PICTURE_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6",
)  # fmt: skip

log = logging.getLogger(__name__)


class Source(ABC):
    """Frames, in order, once.

    Attributes:
        kind: decides what an annotated output is.
        name: as messages call it.
        frame_count: how many frames are announced; None where that is unknown, as with a camera.
        fps: frames a second; None for pictures and where it is unknown.
        failed: how many pictures could not be read so far.
        truncated: a video ended well before its announced end (known after the last frame).
    """

    kind: Literal["picture", "folder", "video", "camera"]
    name: str
    frame_count: int | None = None
    fps: float | None = None
    failed: int = 0
    truncated: bool = False

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; raises `SourceError` when there are none."""


def open_source(path: str | Path) -> Source:
    """Opens a file or a folder. What a file is, its content decides, not its name.

    Raises:
        SourceError: it is not there, empty, or neither a picture nor a video; or the folder holds no picture.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return FolderSource(path)
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty; copy or record it again")
        head = _begins(path, 4096)
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file or folder; check the path") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    if any(head.startswith(signature) for signature in _PICTURE_SIGNATURES) or head[8:12] == b"WEBP":
        return PictureSource(path)
    # FFmpeg would draw a text file, letter by letter, and follow a playlist to other files.
    if b"\0" not in head and not head.startswith(b"YUV4MPEG2"):
        raise SourceError(f"{path}: neither a picture nor a video; give a picture, a video or a folder of pictures")
    return VideoSource(path)


def open_camera(index: int) -> Source:
    """Opens a camera by its number, 0 for the first.

    Raises:
        SourceError: it is not there, or another program has it.
    """
    return CameraSource(index)


def read_picture(path: str | Path) -> Image:
    """Reads a picture as uint8 BGR ``[height, width, 3]``, turned as its EXIF orientation says.

    Grey, 16-bit and transparent pictures are converted.

    Raises:
        SourceError: it is not there, not a picture, or cut off.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if _is_cut_off(data):
        raise SourceError(f"{path}: the picture is cut off before its end; copy it again")
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:  # larger than OpenCV accepts
            raise SourceError(f"{path}: OpenCV refuses the picture ({error.err}); make it smaller") from error
    if image is None:
        raise SourceError(f"{path}: not a picture that can be decoded; copy it again or convert it to JPEG or PNG")
    return image


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; the decoders would fill the rest with grey and say nothing."""
    if data.startswith(b"\xff\xd8"):
        return _is_cut_off_jpeg(data)
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _is_cut_off_jpeg(data: bytes) -> bool:
    """Follows the segments to the first scan; behind that, only the end mark can be 0xFFD9.

    Neither a thumbnail in a segment nor what some telephones append to a picture is mistaken for it.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan
            return b"\xff\xd9" not in data[position:]
        if marker == 0xFF:  # padding
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True


def _is_cut_off_gif(path: Path) -> bool:
    """Whether an animation lacks its end mark; a GIF announces no number of frames that could be missed."""
    if not _begins(path, 4).startswith(b"GIF8"):
        return False
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 64), 2)
        return file.read().rstrip(b"\0")[-1:] != b"\x3b"


def _begins(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


class PictureSource(Source):
    """One picture file."""

    kind = "picture"
    frame_count = 1

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self.name, 0, None, read_picture(self.name))


class FolderSource(Source):
    """The pictures that lie in one folder, by name; those in its subfolders are not touched.

    A picture that cannot be read is named in a warning and counted in ``failed``.
    """

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.files = sorted(f for f in path.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and f.is_file())
        self.frame_count = len(self.files)
        if not self.files:
            raise SourceError(f"{path}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")

    def __iter__(self) -> Iterator[Frame]:
        for file in self.files:
            try:
                image = read_picture(file)
            except SourceError as error:
                self.failed += 1
                log.warning("%s", error)
                continue
            yield Frame(str(file), 0, None, image)
        if self.failed == len(self.files):
            raise SourceError(f"{self.name}: none of its {self.failed} pictures can be read; copy them again")


class VideoSource(Source):
    """A video file, every frame in order.

    Ends where nothing more can be decoded. ``truncated`` then tells whether that is well before the announced end: at
    least 10 frames and more than 5 % missing. (Intact files often announce a few frames more than they hold.)
    """

    kind = "video"
    _MISSING_FRAMES, _MISSING_SHARE = 10, 0.05

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self.name.encode()
        except UnicodeEncodeError:  # OpenCV crashes
            raise SourceError(f"{self.name!a}: OpenCV cannot open this name; rename the video") from None
        self._capture = cv2.VideoCapture(self.name)
        if not self._capture.isOpened():
            if _begins(path, 12)[4:8] == b"ftyp":  # MP4 and MOV often have their index at the end
                raise SourceError(f"{path}: the index of this video is missing: it is cut off; copy or record it again")
            raise SourceError(f"{path}: neither a picture nor a video that can be decoded; convert it to JPEG or MP4")
        # A header may say anything; what makes no sense is not passed on.
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(announced) if 0 < announced < 1e9 else None
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else None

    def __iter__(self) -> Iterator[Frame]:
        index, time_s = 0, 0.0
        try:
            while True:
                decoded, image = self._capture.read()
                if not decoded:
                    break
                time_s = max(time_s, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                yield Frame(self.name, index, time_s, image)
                index += 1
        finally:
            self._capture.release()
        if index == 0:
            raise SourceError(f"{self.name}: no frame of this video can be decoded; convert it to MP4 (H.264)")
        if _is_cut_off_gif(Path(self.name)):
            self.truncated = True
            log.warning("%s: the animation is cut off after %d frames", self.name, index)
            return
        missing = (self.frame_count or index) - index
        if missing >= self._MISSING_FRAMES and missing > self._MISSING_SHARE * (index + missing):
            self.truncated = True
            log.warning(
                "%s: the video ends after %d of %d announced frames; it is cut off or damaged",
                self.name, index, index + missing,
            )  # fmt: skip


class CameraSource(Source):
    """A camera, until somebody stops.

    Args:
        index: of the camera, 0 for the first.
        open_capture: makes the capture; replaced in tests.
    """

    kind = "camera"

    def __init__(self, index: int, open_capture: Callable[[int], Any] = cv2.VideoCapture) -> None:
        if index < 0:  # OpenCV crashes
            raise SourceError(f"camera {index}: cameras are numbered from 0")
        self.name = f"camera:{index}"
        self._capture = open_capture(index)
        if not self._capture.isOpened():
            there = ", ".join(str(p)[10:] for p in sorted(Path("/dev").glob("video*"))) or "none"
            raise SourceError(
                f"camera {index} cannot be opened (cameras seen here: {there}); check that it is plugged in, that no "
                "other program uses it and that you may read /dev/video*"
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no queue of old frames where the driver allows it
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else None

    def __iter__(self) -> Iterator[Frame]:
        began = None
        index = 0
        try:
            while True:
                grabbed, image = self._capture.read()
                now = time.monotonic()
                if not grabbed:
                    break
                began = now if began is None else began
                yield Frame(self.name, index, now - began, image)
                index += 1
        finally:
            self._capture.release()
        raise SourceError(f"{self.name}: no more frames after {index}; check the cable and start again")
