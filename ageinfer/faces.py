"""The face crop: one implementation of the specification, used to prepare training data and at run time.

Nothing else in the project cuts faces out of pictures.
"""

import math
from collections.abc import Sequence

import numpy as np

from ageinfer._opencv import cv2
from ageinfer.cropspec import CropSpec
from ageinfer.types import Box, Image

__all__ = ["CropSpec", "central_face", "crop_face", "crop_faces"]

_QUANTUM_PX = 0.25
# A detector's box may reach beyond the picture, but one this many times larger than it is a mistake.
_LARGEST_SIDE = 3


def crop_face(image: Image, box: Box, spec: CropSpec) -> Image:
    """Cuts one face out of a picture.

    Args:
        image: uint8 ``[height, width, 3]``, BGR.
        box: ``(x, y, w, h)`` in pixels, as the detector gave it; may reach beyond the picture.
        spec: the crop specification.

    Returns:
        uint8 ``[size, size, 3]``, RGB.

    Raises:
        ValueError: the box is not finite, has no extent or is absurdly large, or the image is not uint8 with 3
            channels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    x, y, w, h = box
    if not all(map(math.isfinite, box)) or w <= 0 or h <= 0:
        raise ValueError(f"box {box} has no extent")
    if not max(w, h) * (1 + 2 * spec.margin) <= max(_LARGEST_SIDE * max(image.shape), 4096):
        raise ValueError(f"box {box} is far larger than the picture, {image.shape[1]} x {image.shape[0]} px")
    side = max(_quantised(max(w, h) * (1 + 2 * spec.margin)), _QUANTUM_PX)
    left = _quantised(x + w / 2) - side / 2
    top = _quantised(y + h / 2) - side / 2
    scale = side / spec.size  # picture pixels for one pixel of the crop
    reduction = max(1, round(scale))

    source, x0, y0 = _region(image, left, top, side, reduction, spec.fill)
    if reduction > 1:
        smaller = (source.shape[1] // reduction, source.shape[0] // reduction)
        source = cv2.resize(source, smaller, interpolation=cv2.INTER_AREA)
    # Pixel u of the crop has its centre at (u + 0.5) * scale from the left edge; in an array, centres are integers.
    step = scale / reduction
    to_source = np.array(
        [
            [step, 0, (left - x0) / reduction + 0.5 * step - 0.5],
            [0, step, (top - y0) / reduction + 0.5 * step - 0.5],
        ]
    )
    crop = cv2.warpAffine(
        source,
        to_source,
        (spec.size, spec.size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=spec.fill[::-1],
    )
    return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)


def crop_faces(image: Image, boxes: Sequence[Box], spec: CropSpec) -> Image:
    """Cuts several faces out of one picture (see `crop_face`): uint8 ``[len(boxes), size, size, 3]``, RGB."""
    crops = np.empty((len(boxes), spec.size, spec.size, 3), np.uint8)
    for crop, box in zip(crops, boxes, strict=True):
        crop[...] = crop_face(image, box, spec)
    return crops


def central_face(boxes: Sequence[Box], size: tuple[int, int]) -> int | None:
    """Which face is nearest the centre of a picture: in a training picture, the labelled one.

    Args:
        boxes: ``(x, y, w, h)`` in pixels.
        size: width and height of the picture.

    Returns:
        An index into ``boxes``, or None when there are none.
    """

    def from_centre(i: int) -> float:
        x, y, w, h = boxes[i]
        return (x + w / 2 - size[0] / 2) ** 2 + (y + h / 2 - size[1] / 2) ** 2

    return min(range(len(boxes)), key=from_centre, default=None)


def _quantised(value: float) -> float:
    return round(value / _QUANTUM_PX) * _QUANTUM_PX


def _region(
    image: Image, left: float, top: float, side: float, reduction: int, fill: tuple[int, int, int]
) -> tuple[Image, int, int]:
    """The part of the picture under a square, with one reduced pixel to spare, and its top left corner.

    With a reduction both extents are multiples of it and what lies beyond the picture is filled here; without,
    the part is only a view of the picture and `cv2.warpAffine` fills.
    """
    height, width = image.shape[:2]
    x0, y0 = math.floor(left) - reduction, math.floor(top) - reduction
    extent = math.ceil((side + 3 * reduction) / reduction) * reduction
    inner_x0, inner_x1 = min(max(x0, 0), width), min(max(x0 + extent, 0), width)
    inner_y0, inner_y1 = min(max(y0, 0), height), min(max(y0 + extent, 0), height)
    if inner_x0 == inner_x1 or inner_y0 == inner_y1:  # wholly beyond the picture
        return np.full((extent, extent, 3), fill[::-1], np.uint8), x0, y0
    inner = image[inner_y0:inner_y1, inner_x0:inner_x1]
    if reduction == 1:
        return inner, inner_x0, inner_y0
    if inner.shape[:2] != (extent, extent):
        inner = cv2.copyMakeBorder(
            inner,
            inner_y0 - y0,
            y0 + extent - inner_y1,
            inner_x0 - x0,
            x0 + extent - inner_x1,
            cv2.BORDER_CONSTANT,
            value=fill[::-1],
        )
    return inner, x0, y0
