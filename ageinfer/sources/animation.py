"""Animated WebP and AVIF, frame by frame. FFmpeg decodes neither as it should, but OpenCV does."""

import logging
from collections.abc import Iterator

import numpy as np

from ageinfer.errors import SourceError
from ageinfer.images import as_bgr, cv2
from ageinfer.sources import formats
from ageinfer.sources.base import Source
from ageinfer.sources.decoding import refuse_large, upright
from ageinfer.types import Frame, Image

_MOST_PIXELS = 4_000_000_000  # of all frames together
# OpenCV decodes a piece from the first frame on, so pieces are large; with alpha, a pixel has 4 bytes.
_PIECE_BYTES = 256 << 20
# Frames that last so short, or no time at all, are shown for a tenth of a second, as browsers do.
_NO_TIME_MS, _SHOWN_MS = 10, 100

log = logging.getLogger(__name__)


class AnimationSource(Source):
    """Gives the frames of an animated WebP or AVIF, uint8 BGR, each at its time.

    Args:
        name: the path of the file, or what it is called where it has none.
        data: the bytes of the file.
        frame_count: how many frames it announces.

    Raises:
        SourceError: a frame has more pixels than a picture may have, or all frames together more than 4000 million.
    """

    kind = "video"

    def __init__(self, name: str, data: bytes, frame_count: int) -> None:
        self.name, self.frame_count = name, frame_count
        self._data = np.frombuffer(data, np.uint8)[np.newaxis]  # OpenCV asks for one row
        self._orientation = formats.orientation(data)
        width, height = formats.picture_size(data) or (0, 0)
        refuse_large(name, width, height)
        if width * height * frame_count > _MOST_PIXELS:
            raise SourceError(
                f"{name}: {frame_count} frames of {width} x {height} pixels are more than the "
                f"{_MOST_PIXELS // 10**6} million pixels that are read; convert it to a video"
            )
        self._piece = max(1, _PIECE_BYTES // max(4 * width * height, 1))

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        index, time_ms = 0, 0
        for image, shown_ms in self._decoded():
            if self._closed:
                return
            yield Frame(self.name, index, time_ms / 1000, upright(as_bgr(image), self._orientation))
            del image
            index += 1
            time_ms += shown_ms if shown_ms > _NO_TIME_MS else _SHOWN_MS
        if index == 0:
            raise SourceError(f"{self.name}: no frame of this animation can be decoded; copy it again")
        self.finished = True
        if self.frame_count is not None and index < self.frame_count:
            self.truncated = True
            log.warning("%s: the animation breaks off after %d frames; copy it again", self.name, index)

    def _decoded(self) -> Iterator[tuple[Image, int]]:
        """The frames and the milliseconds of each, as far as they can be decoded."""
        start, piece = 0, self._piece
        while piece and start < (self.frame_count or 0):
            frames = self._read(start, piece)
            if frames:
                start += len(frames)
                frames.reverse()
                while frames:
                    yield frames.pop()
            else:
                piece //= 2  # one of them is damaged: those before it are not

    def _read(self, start: int, count: int) -> list[tuple[Image, int]]:
        try:
            _, found = cv2.imdecodeanimation(self._data, start, count)
        except cv2.error:
            return []
        return list(zip(found.frames, map(int, found.durations), strict=False))
