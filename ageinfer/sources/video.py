"""A video file, frame by frame."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from ageinfer.errors import SourceError
from ageinfer.sources.base import Source
from ageinfer.sources.decoder import Decoded, Decoder
from ageinfer.types import Frame

log = logging.getLogger(__name__)


class VideoSource(Source):
    """A video file, every frame in order, upright and with square pixels.

    A frame of which data are missing has ``damaged`` set, so that nobody estimates an age from it; such frames
    are counted and named. ``truncated`` tells after the last frame whether the file ends before its end: where its
    container or its last frame says so, not where a header announces more frames than there are.

    Args:
        path: of the file; with a decoder, the name of the source.
        decoder: where frames are read from instead, as the decoder of an address that is open already.

    Raises:
        SourceError: it cannot be opened, or holds no pictures.
    """

    kind = "video"
    kept: object = None  # lives as long as the source, as the folder of a file that was fetched

    def __init__(self, path: str | Path, decoder: Decoder | None = None) -> None:
        self.name = str(path)
        self._reading = threading.Lock()
        self._decoder = decoder or Decoder.open_file(Path(path))
        self.file = self._decoder.file
        self.frame_count = self._decoder.frame_count
        self.fps = self._decoder.fps

    def close(self) -> None:
        super().close()
        self._release_unless_reading()

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        decoded = iter(self._decoder)
        index, bad_since_s, bad_in_a_row = 0, None, 0
        try:
            while (picture := self._next(decoded)) is not None:
                if picture.damaged and bad_since_s is None:
                    bad_since_s = picture.time_s
                elif not picture.damaged and bad_since_s is not None:
                    log.warning("%s: damaged from %.2f s to %.2f s", self.name, bad_since_s, picture.time_s)
                    bad_since_s = None
                self.damaged += picture.damaged
                bad_in_a_row = bad_in_a_row + 1 if picture.damaged else 0
                self.begins_s = self._decoder.begins_s
                frame = Frame(self.name, index, picture.time_s, picture.image, damaged=picture.damaged)
                del picture  # 100 MB of an 8k video, while the next one is decoded
                yield frame
                del frame
                index += 1
            ended = not self._closed
        finally:
            self.close()
        if ended:
            self.finished = True
            self._check_end(index, bad_since_s, bad_in_a_row)

    def _next(self, decoded: Iterator[Decoded]) -> Decoded | None:
        with self._reading:
            return None if self._closed else next(decoded, None)

    def _release_unless_reading(self) -> None:
        """Lets go of the file, or leaves that to the thread that reads it and, when it ends, comes here, too."""
        if self._reading.acquire(blocking=False):
            try:
                self._decoder.close()
            finally:
                self._reading.release()

    def _check_end(self, frames: int, bad_since_s: float | None, bad_at_end: int) -> None:
        if frames == 0:
            raise SourceError(f"{self.name}: no frame of this video can be decoded; convert it to MP4 (H.264)")
        self.damaged += self._decoder.lost
        if self._decoder.cut_off:
            self.truncated = True
            log.warning("%s: the video is cut off after %d frames; copy or record it again", self.name, frames)
            if self.damaged == bad_at_end + self._decoder.lost:
                return  # the frames at the cut itself
        elif bad_since_s is not None:
            log.warning("%s: damaged from %.2f s to its end", self.name, bad_since_s)
        if self.damaged:
            log.warning(
                "%s: %d of %d frames are damaged; no age is estimated from them",
                self.name, self.damaged, frames + self._decoder.lost,
            )  # fmt: skip
