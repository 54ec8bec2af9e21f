"""Cuts faces out of pictures as a `CropSpec` says, for training data and at run time.

Nothing else in the project makes face crops for a model.
"""

import math
from collections.abc import Sequence

import numpy as np

from ageinfer.crop.spec import CropSpec
from ageinfer.images import cv2
from ageinfer.types import Box, Image, Point

__all__ = ["CropSpec", "central_face", "crop_face", "crop_faces"]

_QUANTUM_PX = 0.25
# A box may reach beyond the picture, but a box this many times larger than the picture is a mistake.
_LARGEST_SIDE = 3
# Medians of the landmarks of YuNet, made symmetric (benchmarks/landmarks.py): right eye, left eye, nose tip, right and
# left corner of the mouth, as x + iy relative to the centre of the box, in units of its longer side.
MEAN_LANDMARKS = np.array([-0.186 - 0.135j, 0.186 - 0.135j, 0.075j, -0.158 + 0.232j, 0.158 + 0.232j])
_FIT_CENTRE = complex(MEAN_LANDMARKS.mean())
_FIT_WEIGHTS = ((MEAN_LANDMARKS - _FIT_CENTRE).conj() / (abs(MEAN_LANDMARKS - _FIT_CENTRE) ** 2).sum()).tolist()
# Landmarks are ignored if their scale differs from the box by more than this factor, if their centre is further than
# this from the centre of the box (in its longer sides), or if they are turned by more than this angle.
_LARGEST_SCALE_RATIO = 1.5
_LARGEST_DISTANCE = 0.5
_LARGEST_TURN = math.radians(60)


def crop_face(image: Image, box: Box, spec: CropSpec, landmarks: Sequence[Point] | None = None) -> Image:
    """Cuts one face out of a picture: BGR in, RGB out.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        box: ``(x, y, w, h)`` in pixels, as the detector gave it; it may reach beyond the picture.
        spec: the crop specification, for example that of a model.
        landmarks: five points in pixels, as in `ageinfer.types.Detection`, or None. Only crops of kind ``landmarks``
            use them.

    Returns:
        uint8 RGB ``[spec.size, spec.size, 3]``.

    Raises:
        ValueError: the box is not finite, has no extent or is far larger than the picture, or the image is not uint8
            with 3 channels.

    Example:
        >>> image = np.zeros((480, 640, 3), np.uint8)
        >>> crop_face(image, (200.0, 100.0, 150.0, 180.0), CropSpec(size=112, margin=0.2)).shape
        (112, 112, 3)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"the image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    w, h = box[2:]
    if not all(map(math.isfinite, box)) or w <= 0 or h <= 0:
        raise ValueError(f"box {box} has no extent or is not finite")
    if not max(w, h) * (1 + 2 * spec.margin) <= max(_LARGEST_SIDE * max(image.shape), 4096):
        raise ValueError(f"box {box} is far larger than the picture, {image.shape[1]} x {image.shape[0]} px")
    crop = _resized(image, box, spec) if spec.kind == "resize" else _warped(image, box, spec, landmarks)
    return cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)


def crop_faces(
    image: Image,
    boxes: Sequence[Box],
    spec: CropSpec,
    landmarks: Sequence[Sequence[Point] | None] | None = None,
) -> Image:
    """Cuts several faces out of one picture: BGR in, RGB out.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        boxes: a box ``(x, y, w, h)`` in pixels for each face.
        spec: the crop specification.
        landmarks: five points in pixels or None for each face; None: no face has landmarks.

    Returns:
        uint8 RGB ``[len(boxes), spec.size, spec.size, 3]``.

    Raises:
        ValueError: see `crop_face`.
    """
    crops = np.empty((len(boxes), spec.size, spec.size, 3), np.uint8)
    for crop, box, points in zip(crops, boxes, landmarks or [None] * len(boxes), strict=True):
        crop[...] = crop_face(image, box, spec, points)
    return crops


def central_face(boxes: Sequence[Box], size: tuple[int, int]) -> int | None:
    """Returns the index of the face nearest the centre of a picture; in training pictures it is the labelled one.

    Args:
        boxes: ``(x, y, w, h)`` in pixels.
        size: ``(width, height)`` of the picture in pixels.

    Returns:
        An index into ``boxes``, or None if there are no boxes.

    Example:
        >>> central_face([(0, 0, 10, 10), (45, 40, 10, 10)], (100, 100))
        1
    """

    def from_centre(i: int) -> float:
        x, y, w, h = boxes[i]
        return (x + w / 2 - size[0] / 2) ** 2 + (y + h / 2 - size[1] / 2) ** 2

    return min(range(len(boxes)), key=from_centre, default=None)


def _warped(image: Image, box: Box, spec: CropSpec, landmarks: Sequence[Point] | None) -> Image:
    """Cuts the square around a face, upright or turned by its landmarks; returns BGR."""
    x, y, w, h = box
    aligned = _alignment(box, landmarks) if spec.kind == "landmarks" and landmarks is not None else None
    x, y, side, angle = aligned or (x + w / 2, y + h / 2, max(w, h), 0.0)
    x, y, side = _quantised(x), _quantised(y), max(_quantised(side * (1 + 2 * spec.margin)), _QUANTUM_PX)
    scale = side / spec.size  # picture pixels for one pixel of the crop
    reduction = max(1, round(scale))

    cos, sin = math.cos(angle), math.sin(angle)
    extent = side * (abs(cos) + abs(sin))  # the side of the upright square around the turned one
    source, x0, y0 = _region(image, x - extent / 2, y - extent / 2, extent, reduction, spec.fill)
    if reduction > 1:
        smaller = (source.shape[1] // reduction, source.shape[0] // reduction)
        source = cv2.resize(source, smaller, interpolation=cv2.INTER_AREA)
    # Pixel u of the crop has its centre at (u + 0.5) * scale from the left edge; in an array, centres are integers.
    step = scale / reduction
    first = 0.5 * step - side / reduction / 2  # from the middle to the centre of the first pixel, before turning
    to_source = np.array(
        [
            [step * cos, -step * sin, (x - x0) / reduction + first * (cos - sin) - 0.5],
            [step * sin, step * cos, (y - y0) / reduction + first * (sin + cos) - 0.5],
        ]
    )
    return cv2.warpAffine(
        source,
        to_source,
        (spec.size, spec.size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=spec.fill[::-1],
    )


def _alignment(box: Box, landmarks: Sequence[Point]) -> tuple[float, float, float, float] | None:
    """Returns centre x and y, side without margin and turn in radians, or None if the landmarks contradict the box."""
    if len(landmarks) != len(MEAN_LANDMARKS) or not all(math.isfinite(x) and math.isfinite(y) for x, y in landmarks):
        return None
    # With points as complex numbers a similarity is z -> a z + b, and least squares over a and b is linear. Plain
    # numbers are faster than arrays for five points.
    points = [complex(_quantised(x), _quantised(y)) for x, y in landmarks]
    mean = sum(points) / len(points)
    a = sum((weight * (point - mean) for weight, point in zip(_FIT_WEIGHTS, points, strict=True)), 0j)
    b = mean - a * _FIT_CENTRE
    side = max(box[2], box[3])
    turn = math.atan2(a.imag, a.real)
    distance = abs(b - complex(box[0] + box[2] / 2, box[1] + box[3] / 2))
    if (
        not side / _LARGEST_SCALE_RATIO <= abs(a) <= side * _LARGEST_SCALE_RATIO
        or distance > side * _LARGEST_DISTANCE
        or abs(turn) > _LARGEST_TURN
    ):
        return None
    return b.real, b.imag, abs(a), turn


def _resized(image: Image, box: Box, spec: CropSpec) -> Image:
    """Resizes the part of the picture under the box and cuts out its centre; returns BGR."""
    height, width = image.shape[:2]
    x0, y0 = min(max(round(box[0]), 0), width - 1), min(max(round(box[1]), 0), height - 1)
    x1, y1 = min(max(round(box[0] + box[2]), x0 + 1), width), min(max(round(box[1] + box[3]), y0 + 1), height)
    part = image[y0:y1, x0:x1]
    height, width = part.shape[:2]
    new = (spec.resize_to, spec.resize_to)
    if spec.keep_aspect:
        shorter = min(width, height)
        new = (spec.resize_to * width // shorter, spec.resize_to * height // shorter)
    shrinks = new[0] < width or new[1] < height
    if new != (width, height):
        part = cv2.resize(part, new, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    left, top = round((new[0] - spec.size) / 2), round((new[1] - spec.size) / 2)
    return part[top : top + spec.size, left : left + spec.size]


def _quantised(value: float) -> float:
    return round(value / _QUANTUM_PX) * _QUANTUM_PX


def _region(
    image: Image, left: float, top: float, side: float, reduction: int, fill: tuple[int, int, int]
) -> tuple[Image, int, int]:
    """Returns the part of a picture under a square, one reduced pixel larger, and the x and y of its corner.

    With a reduction above 1, both sides are multiples of it and the area beyond the picture is filled. Without one, the
    part is a view of the picture, and `cv2.warpAffine` fills that area later.
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
