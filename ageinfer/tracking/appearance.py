"""Tells whether the face at one place is still the face that was there a moment ago."""

from dataclasses import dataclass

import numpy as np

from ageinfer.images import cv2, reduced
from ageinfer.types import Box, Image

# So much of the box's longer side is looked at beyond it. It is not the crop of the age model, which differs from model
# to model and may turn with landmarks that jump.
_MARGIN = 0.2
# Of a face so many grey pixels are kept, and its middle, without this border, is looked for in the next sight of it:
# a detector that moves or widens its box must not look like another face.
_PIXELS, _BORDER = 28, 5
_INNER = (slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
# Measured on the clips and portraits of benchmarks/video.py: one face from frame to frame correlates with 0.97 in the
# median and 99 times in 100 with more than 0.79; two portraits with 0.49 in the median and 9 times in 10 with less
# than 0.69.
SAME_LOOK = 0.65
# A face is still where it is expected if that much of it is found again there, to the pixel.
_LEAST_STILL = 0.9
# Over a longer gap a face turns.
_LONGEST_GAP_S = 0.2


@dataclass(slots=True)
class Look:
    """How one face looked when it was last seen, as a few grey pixels.

    Tracking goes by place alone; without this, a cut that puts one person where another was would keep the track.
    """

    _last: tuple[float, Image] | None = None

    @property
    def seen_s(self) -> float | None:
        """When that was, in seconds; None where there was none."""
        return None if self._last is None else self._last[0]

    def likeness(self, pixels: Image) -> float:
        """How much a sight, of whatever time, looks like the last one, -1 to 1; from `SAME_LOOK` on it may be the same.

        Args:
            pixels: of `small_grey`, uint8 ``[28, 28]``.
        """
        return -1.0 if self._last is None else correlation(self._last[1], pixels)

    def take(self, pixels: Image, time_s: float) -> None:
        """Remembers a sight of the face.

        Args:
            pixels: of `small_grey`, uint8 ``[28, 28]``.
            time_s: of the frame, in seconds.
        """
        self._last = (time_s, pixels)

    def changed(self, pixels: Image, time_s: float) -> bool:
        """Tells whether a sight looks like another face: whether it differs from one of less than 0.2 s before.

        Args:
            pixels: of `small_grey`, uint8 ``[28, 28]``.
            time_s: of the frame, in seconds.
        """
        before = self._last
        if before is None or time_s - before[0] > _LONGEST_GAP_S:
            return False
        if _alike_in_place(before[1], pixels) >= SAME_LOOK:
            return False
        return correlation(before[1], pixels) < SAME_LOOK

    def still(self, pixels: Image, time_s: float) -> bool:
        """Tells whether the face looks as it did; takes this sight if so.

        Args:
            pixels: of `small_grey`, uint8 ``[28, 28]``, from where the face is expected.
            time_s: of the frame, in seconds.
        """
        if self._last is None or _alike_in_place(self._last[1], pixels) < _LEAST_STILL:
            return False
        self._last = (time_s, pixels)
        return True


def small_grey(image: Image, box: Box) -> Image:
    """What is remembered of a face of a uint8 BGR picture: uint8 ``[28, 28]``; black if it lies wholly outside."""
    x, y, w, h = box
    half = max(w, h) * (0.5 + _MARGIN)
    left, top = max(round(x + w / 2 - half), 0), max(round(y + h / 2 - half), 0)
    part = image[top : max(round(y + h / 2 + half), 0), left : max(round(x + w / 2 + half), 0)]
    if part.size == 0:
        return np.zeros((_PIXELS, _PIXELS), np.uint8)
    return cv2.cvtColor(reduced(part, (_PIXELS, _PIXELS)), cv2.COLOR_BGR2GRAY)


def correlation(before: Image, now: Image) -> float:
    """How much the middle of one sight is found again in another one, -1 to 1; both of `small_grey`."""
    return float(cv2.matchTemplate(now, before[_INNER], cv2.TM_CCOEFF_NORMED).max())


def _alike_in_place(before: Image, now: Image) -> float:
    """How much the middle of one sight is the middle of another one, to the pixel: at most their `correlation`."""
    return cv2.matchTemplate(now[_INNER], before[_INNER], cv2.TM_CCOEFF_NORMED).item()
