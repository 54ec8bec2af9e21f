"""Holds the newest results for the viewers; the inference thread never waits for a viewer."""

import math
import threading
import time
from collections import deque
from typing import Any

from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import FrameResult

HISTORY_S = 60.0
_SAMPLE_S = 0.2
_RATE_WINDOW_S = 2.0
_FACES_SAMPLED = 32
# A track that was not seen for longer never comes back.
_FORGET_S = 10.0


class Feed:
    """Holds the newest frame, the frame rate, and the ages of the last minute as small records without pixels.

    One thread puts frames, one takes pictures to encode, one reads the state. The lock is held only while a few
    references are copied.

    Attributes:
        number: the number of frames put so far.
        closed: set by `close`.
    """

    def __init__(self) -> None:
        self.number = 0
        self.closed = threading.Event()
        self._began_s = time.monotonic()
        self._changed = threading.Condition(threading.Lock())
        self._wanted = False
        self._latest: AnnotatedFrame | None = None
        self._latency_ms: float | None = None
        self._put_s: deque[float] = deque(maxlen=1000)
        self._sampled_s = -math.inf
        self._samples: deque[tuple[float, tuple[tuple[int, float], ...]]] = deque(maxlen=round(HISTORY_S / _SAMPLE_S))
        self._part = 1
        self._tracks = _TracksInView()
        self._in_view_s: dict[int, float] = {}

    def put(self, annotated: AnnotatedFrame) -> None:
        """Stores the next frame as the newest one and counts it."""
        now = time.monotonic()
        captured_s = annotated.frame.captured_s
        with self._changed:
            if self._latest is not None and _begins_anew(self._latest.result, annotated.result):
                self._part += 1
                self._tracks = _TracksInView()
                self._samples.clear()
            self.number += 1
            self._latest = annotated
            self._in_view_s = self._tracks.update(annotated.result, now)
            self._latency_ms = None if captured_s is None else max(0.0, (now - captured_s) * 1000)
            self._put_s.append(now)
            self._forget_old_puts(now)
            if now - self._sampled_s >= _SAMPLE_S:
                self._sampled_s = now
                ages = _ages_of_tracks(annotated.result)
                if ages:
                    self._samples.append((now, ages))
            if self._wanted:
                self._changed.notify()

    def want(self) -> None:
        """Notes that a viewer waits for a picture."""
        with self._changed:
            self._wanted = True
            self._changed.notify()

    def take(self, after: int) -> tuple[int, AnnotatedFrame] | None:
        """Waits until a viewer wants a picture and there is a newer frame.

        Args:
            after: the number of the frame that was taken last; 0 before the first.

        Returns:
            The number of the newest frame and the frame, or None after the feed was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.closed.is_set() or (self._wanted and self.number > after))
            if self.closed.is_set() or self._latest is None:
                return None
            self._wanted = False
            return self.number, self._latest

    def close(self) -> None:
        """Closes the feed; every `take` returns None."""
        with self._changed:
            self.closed.set()
            self._changed.notify_all()

    def state(self) -> dict[str, Any]:
        """Returns the newest result and the progress of the run as JSON values.

        Returns:
            The values of `FrameResult.to_record` (None before the first frame), and these: ``frames``, the number put
            so far; ``part``, which grows when another source begins, whose tracks are others; ``fps``, frames a second
            over the last 2 s; ``latency_ms``, milliseconds from capture to result, None for files; ``since_s``, seconds
            since the newest frame, None before the first; ``clock_s``, the time in seconds on the clock of `history`.
            Each face has ``in_view_s``, seconds of the source since its track was first seen, None without a track.
        """
        now = time.monotonic()
        with self._changed:
            self._forget_old_puts(now)
            latest, number, latency_ms, put_s = self._latest, self.number, self._latency_ms, list(self._put_s)
            part, in_view_s = self._part, self._in_view_s
        nothing: dict[str, Any] = {"source": None, "frame": None, "time_s": None, "size": None, "faces": []}
        record = nothing if latest is None else latest.result.to_record()
        return record | {
            "faces": [_finite(face) | {"in_view_s": in_view_s.get(face["track"])} for face in record["faces"]],
            "frames": number,
            "part": part,
            "fps": round(_rate(put_s, now), 2),
            "latency_ms": None if latency_ms is None else round(latency_ms, 1),
            "since_s": round(now - put_s[-1], 2) if put_s else None,
            "clock_s": round(now - self._began_s, 2),
        }

    def history(self) -> list[list[Any]]:
        """Returns the ages of the last 60 s of this part, oldest first: ``[clock_s, [[track, years], ...]]``.

        They are at most 5 a second.
        """
        with self._changed:
            samples = list(self._samples)
        start = time.monotonic() - HISTORY_S
        return [
            [round(at - self._began_s, 2), [list(age) for age in ages]] for at, ages in samples if at >= start
        ]  # fmt: skip

    def _forget_old_puts(self, now: float) -> None:
        # Two times are kept, so that a device with less than one frame in 2 s has a rate too.
        while len(self._put_s) > 2 and self._put_s[0] < now - _RATE_WINDOW_S:
            self._put_s.popleft()


class _TracksInView:
    """Measures how long tracks have been in view, in seconds of their source."""

    def __init__(self) -> None:
        self._seen_s: dict[int, tuple[float, float]] = {}  # first and last

    def update(self, result: FrameResult, now: float) -> dict[int, float]:
        """Takes the next frame and returns the time in view of each track in it; `now` is for sources without times."""
        at_s = now if result.time_s is None else result.time_s
        self._seen_s = {track: seen for track, seen in self._seen_s.items() if at_s - seen[1] <= _FORGET_S}
        tracks = [face.track for face in result.faces if face.track is not None]
        for track in tracks:
            self._seen_s[track] = (self._seen_s.get(track, (at_s,))[0], at_s)
        return {track: round(at_s - self._seen_s[track][0], 2) for track in tracks}


def _begins_anew(before: FrameResult, after: FrameResult) -> bool:
    """Tells whether a frame is of another source than the frame before, or of the same source from its start."""
    return before.source != after.source or (before.time_s or 0.0) > (after.time_s or 0.0)


def _rate(put_s: list[float], now: float) -> float:
    """Returns frames a second; the rate falls towards 0 when no more frames come."""
    if len(put_s) < 2:
        return 0.0
    return (len(put_s) - 1) / max(max(put_s[-1], now - _RATE_WINDOW_S) - put_s[0], 1e-6)


def _ages_of_tracks(result: FrameResult) -> tuple[tuple[int, float], ...]:
    ages = ((face.track, face.shown_years) for face in result.faces[:_FACES_SAMPLED])
    return tuple((track, round(years, 1)) for track, years in ages if track is not None and math.isfinite(years))


def _finite(face: dict[str, Any]) -> dict[str, Any]:
    """Replaces the numbers of a face that JSON cannot hold (NaN, infinity) by None."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in face.items()}
