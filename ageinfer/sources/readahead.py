"""Decoding ahead: the next frames are made ready in a thread while the present one is worked on."""

import threading
from collections import deque
from collections.abc import Iterator

from ageinfer.sources.base import Source
from ageinfer.types import Frame

_TICK_S = 0.5  # on Windows, Ctrl-C only comes through between two waits


class ReadAhead(Source):
    """Another source, read in a thread of its own.

    Frames come in their order, and an error of the source at its place among them. The attributes are those of the
    source, ``failed`` and ``truncated`` as far as frames were handed out. Nothing is read before the first frame is
    asked for. Closing it closes the source.

    Args:
        source: a picture, a list of pictures or a video; a live source would only grow old in a queue.
        frames: how many may wait, decoded; 1 or more.
        max_bytes: how much their pixels may take together; one frame may always wait. (Beside them there are the
            frame that is worked on and the one that is being decoded.)

    Raises:
        ValueError: the source is live, or a number is less than 1.
    """

    def __init__(self, source: Source, frames: int = 8, max_bytes: int = 256 << 20) -> None:
        if source.kind == "camera":
            raise ValueError(f"{source.name}: a live source keeps its newest frame and cannot be read ahead")
        if frames < 1 or max_bytes < 1:
            raise ValueError(f"frames and max_bytes must be 1 or more, not {frames} and {max_bytes}")
        self.kind, self.name = source.kind, source.name
        self.frame_count, self.fps = source.frame_count, source.fps
        self.failed, self.truncated = source.failed, source.truncated
        self._source = source
        self._frames, self._max_bytes = frames, max_bytes
        self._changed = threading.Condition()
        # What waits: frames with the number of failures before them, and then the error that ended them, or None.
        self._waiting: deque[tuple[Frame | Exception | None, int]] = deque()
        self._bytes = 0
        self._thread = threading.Thread(target=self._decode, name=f"decoding {self.name}", daemon=True)

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        self._thread.start()
        try:
            while frame := self._take():
                yield frame
                del frame  # while the next one is waited for, only the consumer keeps this one
        finally:
            self.close()

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
        self._source.close()
        # Nothing that it waits for is left, so it ends; unless it hangs in a read, and then it is left to itself.
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=_TICK_S)

    def _take(self) -> Frame | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait(_TICK_S)
            item, self.failed = self._waiting.popleft()
            if isinstance(item, Frame):
                self._bytes -= item.image.nbytes
                self._changed.notify_all()
                return item
        self.truncated = self._source.truncated
        if item is not None:
            raise item
        return None

    def _decode(self) -> None:
        end: Exception | None = None
        try:
            for frame in self._source:
                if not self._put(frame):
                    break
                del frame
        except Exception as error:  # of whatever kind, it belongs to who asks for the frames
            end = error
        with self._changed:
            self._waiting.append((end, self._source.failed))
            self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        """Lets a frame wait as soon as there is room; False when nobody wants it any more."""
        size = frame.image.nbytes
        with self._changed:
            while self._waiting and (len(self._waiting) >= self._frames or self._bytes + size > self._max_bytes):
                if self._closed:
                    break
                self._changed.wait()
            if self._closed:
                return False
            self._waiting.append((frame, self._source.failed))
            self._bytes += size
            self._changed.notify_all()
            return True
