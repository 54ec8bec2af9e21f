"""What every source of frames is, whatever it reads."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from ageinfer.errors import SourceError
from ageinfer.types import Frame


class Source(ABC):
    """Frames, in order, once.

        with open_source("clip.mp4") as source:
            for frame in source:
                ...

    Attributes:
        kind: decides what an annotated output is. "folder" is any list of pictures, "camera" any live source.
        name: as messages and records call it; holds no password.
        frame_count: how many frames are announced; None where that is unknown, as with a camera.
        fps: frames a second; None for pictures and where it is unknown.
        failed: how many pictures could not be read so far.
        truncated: a video ends before its end (known after the last frame).
        damaged: how many frames so far lacked data.
        finished: all frames were read, to the end of the source.
        file: of a video; its sound can be copied from there. None for all else.
        begins_s: time in that file of the first picture, in seconds (known after the first frame).
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
    _begun = False
    _closed = False

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames.

        Raises:
            SourceError: there are none, no more can be had, or the source was read or closed before.
        """

    def close(self) -> None:
        """Lets go of file or camera; a loop over the frames ends. From any thread, as often as one likes.

        Neither raises nor waits for longer than about a second.
        """
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """Notes that the only reading begins.

        Raises:
            SourceError: it was read or closed before.
        """
        if self._begun or self._closed:
            raise SourceError(f"{self.name}: it was read or closed before; open it again to read it again")
        self._begun = True


def sensible_fps(fps: float) -> float | None:
    """The frame rate that a header or driver announces, or None where it makes no sense: it may say anything."""
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else None
