"""An annotated video file."""

import errno
import logging
import math
import shutil
import time
from contextlib import suppress
from pathlib import Path

import av

from ageinfer.errors import OutputError, UsageError
from ageinfer.images import cv2
from ageinfer.sinks.base import Sink, WholeFile, cannot_write, create_beside, prepare_place
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sinks.encoder import CODECS, CONTAINER_CODECS, Codec, Encoder
from ageinfer.sources.base import Source
from ageinfer.types import DEFAULT_FPS, HIGHEST_FPS, Image

_LEAST_SIDE = 16  # in pixels; encoders refuse or spoil less
# While so much is free, a video can still be completed: the index that is written at its end takes some 10 bytes a
# frame, and is then moved to the beginning.
_LEAST_ROOM, _ROOM_EVERY_S = 16 << 20, 1.0
_LONGEST_GAP_S = 10.0
_SAME_S = 1e-6  # time stamps that differ by less are the same

log = logging.getLogger(__name__)


class VideoSink(Sink):
    """The annotated video: every frame at its own time, and the sound of the source.

    The first frame's size is the video's; later frames are scaled to it. Codecs store colours for squares of two
    pixels: where width or height is odd, the last column or line is repeated once. A frame of less than 16 pixels a
    side is filled up to them in the same way.

    Args:
        path: of the video; its suffix chooses the container (``.mp4``, ``.mov``, ``.mkv``, ``.webm``, ``.avi``).
        fps: frames a second; `DEFAULT_FPS` where it is unknown.
        real_time: for live sources, whose time may stand or begin anew: a gap of more than ten seconds is left out.
        sound_of: the source whose sound is copied as it is, where it is a video file; None: the video has no sound.
        codec: one of `ageinfer.sinks.encoder.CODECS`; None: the best one of the container that is there.

    Raises:
        UsageError: there is no such container or codec, or the one does not hold the other.
        OutputError: the folder is not there, cannot be written to or has hardly any room, or there is no encoder.
    """

    def __init__(
        self, path: Path, fps: float | None, *, real_time: bool = False, sound_of: Source | None = None,
        codec: str | None = None,
    ) -> None:  # fmt: skip
        self._path = path
        self._fps = fps if fps is not None and 0 < fps <= HIGHEST_FPS else DEFAULT_FPS
        self._real_time = real_time
        self._sound_of = sound_of
        self._codec = codec_for(path, codec)
        self._unfinished: WholeFile | None = None
        self._encoder: Encoder | None = None
        self._size = (0, 0)
        self._frames = 0
        self._began_s = self._last_s = 0.0
        self._room_seen_s = -math.inf  # when it last was, by the clock of this machine
        self._place = prepare_place(path)
        try:
            str(self._place.parent).encode()
        except UnicodeEncodeError:
            raise OutputError(
                f"{str(self._place.parent)!a}: FFmpeg cannot write into a folder of this name; rename it"
            ) from None
        self._check_room()

    def write(self, annotated: AnnotatedFrame) -> None:
        image = annotated.image
        time_s = self._time_of(annotated.frame.time_s)
        if self._encoder is None:
            self._open(image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self._size:  # a video has one size, its source may not
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        if time.monotonic() - self._room_seen_s >= _ROOM_EVERY_S:
            self._check_room()
        self._encode(_padded(image), time_s)

    def close(self) -> None:
        if self._encoder is None or self._unfinished is None:
            return
        encoder, self._encoder = self._encoder, None
        unfinished = Path(self._unfinished.name)
        source = self._sound_of
        until_s = None if source is not None and source.finished else self._last_s + 1 / self._fps
        failure: Exception | None = None
        try:
            encoder.close(until_s=until_s)
        except (av.FFmpegError, OSError) as error:
            failure = error
        self._unfinished.close()
        kept = failure is None or can_be_read(unfinished)
        try:
            if kept:
                unfinished.replace(self._place)
            else:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if failure is not None:
            left = "its frames so far are kept" if kept else "nothing of it is left"
            raise self._failed(failure, f"the video could not be completed, {left}") from failure

    def _time_of(self, stamp_s: float | None) -> float:
        """The time of a frame in the video, in seconds from 0."""
        if stamp_s is None or not math.isfinite(stamp_s):
            time_s = self._last_s + 1 / self._fps if self._frames else 0.0
            stamp_s = time_s + self._began_s
        if self._frames == 0:
            self._began_s = stamp_s
        time_s = stamp_s - self._began_s
        gap_s = time_s - self._last_s
        if self._frames and (gap_s < _SAME_S or (self._real_time and gap_s > _LONGEST_GAP_S)):
            if gap_s > 0:
                log.warning("%s: no frame came for %.0f s; the video leaves this gap out", self._path, gap_s)
            time_s = self._last_s + 1 / self._fps
            self._began_s = stamp_s - time_s
        self._last_s = time_s
        self._frames += 1
        return time_s

    def _open(self, width: int, height: int) -> None:
        if max(width, height) > self._codec.largest_side:
            raise OutputError(
                f"{self._path}: {self._codec.name} holds at most {self._codec.largest_side} pixels a side, the frames "
                f"have {width} x {height}; reduce them"
            )
        self._size = (width, height)
        try:
            self._unfinished = create_beside(self._place, self._path.suffix)
            self._encoder = self._begun(self._unfinished, (_padded_side(width), _padded_side(height)))
        except (av.FFmpegError, ValueError, OSError) as error:
            self._discard()
            raise self._failed(error) from error
        if self._encoder.left_out:
            log.warning("%s: without sound: %s; use .mkv", self._path, self._encoder.left_out)

    def _begun(self, file: WholeFile, size: tuple[int, int]) -> Encoder:
        source = self._sound_of
        if source is not None and source.file is not None:
            with suppress(av.FFmpegError, ValueError):
                return Encoder(file, self._codec, size, self._fps, sound=source.file, sound_from_s=source.begins_s)
            file.seek(0)
            file.truncate()
        encoder = Encoder(file, self._codec, size, self._fps, live=self._real_time)
        if source is not None and source.file is not None:
            encoder.left_out = f"{self._path.suffix} cannot hold the sound of the source as it is"
        return encoder

    def _discard(self) -> None:
        if self._unfinished is not None:
            with suppress(OSError):
                self._unfinished.close()
                Path(self._unfinished.name).unlink()

    def _encode(self, image: Image, time_s: float) -> None:
        if self._encoder is None:
            raise RuntimeError("the video is not open")
        try:
            self._encoder.write(image, time_s)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception, what: str = "cannot be written") -> OutputError:
        if self._unfinished is not None and self._unfinished.failure is not None:
            error = self._unfinished.failure
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            return OutputError(f"{self._path}: {what}: there is no room; make some or choose another place")
        return OutputError(f"{self._path}: {what}: {getattr(error, 'strerror', None) or error}")

    def _check_room(self) -> None:
        """Makes sure that the video can be completed.

        Raises:
            OutputError: the disk is almost full.
        """
        self._room_seen_s = time.monotonic()
        try:
            free = shutil.disk_usage(self._place.parent).free
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if free < _LEAST_ROOM:
            raise OutputError(
                f"{self._path}: the disk is almost full ({free >> 20} MB free, {_LEAST_ROOM >> 20} MB needed); make "
                "room or choose another place, the video so far is kept"
            )


def can_be_read(path: Path) -> bool:
    """Whether a film can be opened and its first picture decoded."""
    try:
        with av.open(f"file:{path.absolute()}") as film:
            return next(film.decode(film.streams.video[0]), None) is not None
    except (av.FFmpegError, IndexError):
        return False


def codec_for(path: Path, named: str | None = None) -> Codec:
    """The codec of a video: the one that is named, or the best one that its container holds and this FFmpeg has.

    Raises:
        UsageError: there is no such container or codec, or the one does not hold the other.
        OutputError: there is no encoder.
    """
    held = CONTAINER_CODECS.get(path.suffix.lower())
    if held is None:
        raise UsageError(f"{path}: for a video, --output takes {', '.join(CONTAINER_CODECS)}")
    if named is not None and named not in held:
        raise UsageError(f"--codec {named}: {path.suffix} holds {', '.join(held)}")
    for name in [named] if named else held:
        if CODECS[name].works:
            return CODECS[name]
    raise OutputError(f"{path}: this FFmpeg has no encoder for {CODECS[named or held[0]].name}; use another --codec")


def _padded_side(side: int) -> int:
    return max(side + side % 2, _LEAST_SIDE)


def _padded(image: Image) -> Image:
    """The picture in a size that the encoders take, its last column and line repeated where they need more."""
    height, width = image.shape[:2]
    bottom, right = _padded_side(height) - height, _padded_side(width) - width
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
    return image
