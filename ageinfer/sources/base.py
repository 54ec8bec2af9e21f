"""The base class of all sources of frames."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from ageinfer.errors import SourceError
from ageinfer.types import HIGHEST_FPS, Frame


class Source(ABC):
    """A source gives frames in order and can be read once.

    Attributes:
        kind: what the source is. "folder" means any list of pictures, "camera" means any live source.
        name: the name of the source in messages and records. It never holds a password.
        frame_count: the number of frames that the source announces, or None if it is unknown, as with a camera.
        fps: frames a second, or None for pictures and if it is unknown.
        failed: the number of pictures that could not be read so far.
        truncated: whether a video is cut off before its end. It is known after the last frame.
        damaged: the number of frames and pictures so far whose file lacks data of them.
        finished: whether all frames were read, to the end of the source.
        file: the file of a video, from which its sound can be copied; None for everything else.
        begins_s: the time of the first picture in that file, in seconds. It is known after the first frame.
        lost: whether a live source is lost at the moment, and is tried again.

    Example:
        >>> with open_source("clip.mp4") as source:  # doctest: +SKIP
        ...     for frame in source:
        ...         print(frame.time_s, frame.image.shape)
    """

    kind: Literal["picture", "folder", "video", "camera"]
    name: str
    frame_count: int | None = None
    fps: float | None = None
    failed: int = 0
    truncated: bool = False
    damaged: int = 0
    finished: bool = False
    file: Path | None = None
    begins_s: float = 0.0
    lost: bool = False
    _begun = False
    _closed = False

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames, uint8 BGR ``[height, width, 3]``.

        Raises:
            SourceError: the source has no frame, breaks off, or was read or closed before.
        """

    def close(self) -> None:
        """Releases the file or the camera and ends a loop over the frames.

        It may be called from any thread and more than once. It raises nothing and returns within about a second.
        """
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Notes that reading begins; a source is read once.

        Raises:
            SourceError: the source was read or closed before.
        """
        if self._begun or self._closed:
            raise SourceError(f"{self.name}: it was read or closed before; open it again to read it again")
        self._begun = True


def sensible_fps(fps: float) -> float | None:
    """Returns an announced frame rate if it is above 0 and at most 1000 frames a second, else None."""
    return fps if math.isfinite(fps) and 0 < fps <= HIGHEST_FPS else None
