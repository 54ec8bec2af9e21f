"""Draws and compresses pictures in one thread for all viewers."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ageinfer.images import cv2
from ageinfer.types import Image
from ageinfer.web.feed import Feed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """A compressed picture.

    Attributes:
        number: the number of its frame in the `Feed`.
        jpeg: the bytes of the JPEG file.
        made_s: when it was made, in seconds of `time.monotonic`.
    """

    number: int
    jpeg: bytes
    made_s: float


class Encoder(threading.Thread):
    """A thread that draws and compresses the newest frame when a viewer waits for one.

    Args:
        feed: holds the frames.
        publish: gets every picture; this thread calls it.
        interval_s: the shortest time from one picture to the next, in seconds.
        quality: the quality of the JPEG, 1 to 100.
        max_side: the largest width and height of a picture, in pixels.
    """

    def __init__(
        self, feed: Feed, publish: Callable[[Picture], None], *, interval_s: float, quality: int, max_side: int
    ) -> None:
        super().__init__(name="ageinfer-web-encoder", daemon=True)
        self._feed = feed
        self._publish = publish
        self._interval_s = interval_s
        self._quality = quality
        self._max_side = max_side

    def run(self) -> None:
        number = 0
        while (taken := self._feed.take(number)) is not None:
            began_s = time.monotonic()
            number, annotated = taken
            try:
                # `image` is drawn here, because it is drawn at its first use.
                jpeg = encode(annotated.image, self._quality, self._max_side)
            except cv2.error as error:
                log.warning("frame %d cannot be shown: %s", number, " ".join(str(error).split()))
            else:
                self._publish(Picture(number, jpeg, time.monotonic()))
            del taken, annotated  # else the frame would stay in memory while this thread waits
            self._feed.closed.wait(began_s + self._interval_s - time.monotonic())


def encode(image: Image, quality: int, max_side: int) -> bytes:
    """Compresses a picture as JPEG.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        quality: 1 to 100.
        max_side: a larger picture is scaled down until its width and height are at most this many pixels.

    Returns:
        The bytes of a JPEG file.

    Raises:
        cv2.error: OpenCV cannot compress the array.
    """
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
