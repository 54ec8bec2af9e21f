"""Playback of a recording where people watch it: at its own speed, paused, and again."""

import time
from collections.abc import Callable
from typing import Any

_STEP_S = 0.03
# A picture that is later than this does not make the next ones hurry: after a pause, or on a slow machine.
_LATE_S = 0.25


class Playback:
    """What the people at a page or a window want of a recording, and when its next picture is due.

    Sinks say what people want, from any thread; the run waits for the picture that is due.

    Args:
        fast: no picture waits for its time.
        whole: the recording is also written to files, so that it can be repeated only after its end.

    Attributes:
        paused: whether the next picture has to wait.
        ended: whether the last picture has been shown.
        repeat_wanted: whether somebody wants to see the recording from its beginning.

    Example:
        >>> playback = Playback(fast=True)
        >>> playback.wait(5.0, lambda: True)
        >>> playback.state()
        {'paused': False, 'ended': False, 'repeatable': True}
    """

    def __init__(self, *, fast: bool = False, whole: bool = False) -> None:
        self.paused = False
        self.ended = False
        self.repeat_wanted = False
        self._fast = fast
        self._whole = whole
        self._zero_s: float | None = None  # of the recording, on the monotonic clock

    def toggle(self) -> None:
        """Pauses, or goes on."""
        self.paused = not self.paused

    def repeat(self) -> None:
        """Asks for the recording from its beginning; nothing happens where it cannot be had yet."""
        if self.repeatable:
            self.repeat_wanted, self.paused = True, False

    @property
    def repeatable(self) -> bool:
        """Whether the recording can be shown from its beginning now."""
        return self.ended or not self._whole

    def begin(self) -> None:
        """Notes that the recording begins anew."""
        self.ended = self.repeat_wanted = self._whole = False
        self._zero_s = None

    def wait(self, time_s: float | None, idle: Callable[[], bool]) -> None:
        """Returns when the picture of this time is due.

        Args:
            time_s: of the picture in the recording, in seconds; None: it is due at once.
            idle: is called again and again while the picture has to wait; where it returns false, nobody wants the
                picture any more.
        """
        while idle():
            left_s = _STEP_S if self.paused else self._left_s(time_s)
            if left_s <= 0:
                return
            time.sleep(min(left_s, _STEP_S))

    def state(self) -> dict[str, Any]:
        """Returns what a page shows of it, as JSON values."""
        return {"paused": self.paused, "ended": self.ended, "repeatable": self.repeatable}

    def _left_s(self, time_s: float | None) -> float:
        if self._fast or time_s is None:
            return 0.0
        now = time.monotonic()
        if self._zero_s is None or now - self._zero_s > time_s + _LATE_S:
            self._zero_s = now - time_s
        return self._zero_s + time_s - now
