"""The face crop: one specification and one implementation, used to prepare training data and at run time.

A change of crop margin moves an age estimate by years, so the specification travels inside every model file
and every training cache, and nothing else in the project cuts faces out of pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from ageinfer._opencv import cv2
from ageinfer.types import Box, Image

CROP_VERSION = 1
_QUANTUM_PX = 0.25


@dataclass(frozen=True, slots=True)
class CropSpec:
    """How a face is cut out of a picture.

    The crop is a square round the centre of the detector's box. Its side is ``max(w, h) * (1 + 2 * margin)``.
    Centre and side are rounded to a quarter of a pixel first, so that detectors that agree to a hundredth of a
    pixel give the same pixels. Where the square reaches beyond the picture, ``fill`` is used.

    Attributes:
        size: side of the result, in pixels.
        margin: what is added on each side of the box, as a fraction of its longer side.
        fill: RGB, 0 to 255. The default is the mean colour of ImageNet, so that normalised borders are near 0.
        kind: ``box``, the only kind of version 1.
        filter: ``area-linear``: reduced by the nearest whole factor with area averaging, then bilinear.
        detector: identifier of the detector whose boxes the margin refers to.
        version: of this specification; another version is refused rather than guessed at.
    """

    size: int = 112
    margin: float = 0.2
    fill: tuple[int, int, int] = (124, 116, 104)
    kind: str = "box"
    filter: str = "area-linear"
    detector: str = "yunet-2023mar"
    version: int = CROP_VERSION

    def __post_init__(self) -> None:
        if self.version != CROP_VERSION or self.kind != "box" or self.filter != "area-linear":
            raise ValueError(
                f"crop specification {self.kind}/{self.filter} version {self.version} is not known "
                f"(this release knows box/area-linear version {CROP_VERSION})"
            )
        if not 8 <= self.size <= 1024:
            raise ValueError(f"crop size {self.size} px is not between 8 and 1024")
        if not -0.4 <= self.margin <= 4 or not math.isfinite(self.margin):
            raise ValueError(f"crop margin {self.margin} is not between -0.4 and 4")
        if len(self.fill) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in self.fill):
            raise ValueError(f"crop fill {self.fill} is not three values from 0 to 255")

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values."""
        return {**asdict(self), "fill": list(self.fill)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CropSpec":
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: a key is missing or unknown, or a value is not valid.
        """
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise ValueError(f"crop specification must have exactly the keys {', '.join(sorted(names))}")
        try:
            return cls(**{**values, "fill": tuple(values["fill"])})
        except TypeError as error:
            raise ValueError(f"crop specification: {error}") from error

    def widened(self, factor: float) -> "CropSpec":
        """The same crop at the same scale with about ``factor`` times its side: room for augmentation to move in."""
        size = 2 * math.ceil(self.size * factor / 2)
        return replace(self, margin=((1 + 2 * self.margin) * size / self.size - 1) / 2, size=size)


def crop_face(image: Image, box: Box, spec: CropSpec) -> Image:
    """Cuts one face out of a picture.

    Args:
        image: uint8 ``[height, width, 3]``, BGR.
        box: ``(x, y, w, h)`` in pixels, as the detector gave it; may reach beyond the picture.
        spec: the crop specification.

    Returns:
        uint8 ``[size, size, 3]``, RGB.

    Raises:
        ValueError: the box is not finite or has no extent, or the image is not uint8 with 3 channels.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 [height, width, 3], not {image.dtype} {list(image.shape)}")
    x, y, w, h = box
    if not all(map(math.isfinite, box)) or w <= 0 or h <= 0:
        raise ValueError(f"box {box} has no extent")
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
