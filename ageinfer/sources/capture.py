"""What captures give, made uniform."""

from typing import Any

import numpy as np

from ageinfer._opencv import cv2
from ageinfer.types import Image

_TO_BGR = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}


def as_bgr(image: Any) -> Image:
    """A picture as uint8 BGR ``[height, width, 3]``.

    Args:
        image: uint8 or uint16, grey ``[height, width]`` or ``[height, width, 1]``, BGR ``[..., 3]`` or BGRA
            ``[..., 4]``. Of 16 bits, the upper 8 are kept, as OpenCV does with picture files.

    Raises:
        ValueError: it is nothing of this.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the capture gives a {type(image).__name__} for a picture")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or image.size == 0:
        raise ValueError(f"the capture gives pictures of {image.dtype} {list(image.shape)}, which are not understood")
    if channels == 3:
        return np.ascontiguousarray(image)
    converted: Image = cv2.cvtColor(np.ascontiguousarray(image), _TO_BGR[channels])
    return converted
