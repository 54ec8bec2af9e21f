"""The specification of the face crop, apart from its implementation, so that reading one needs no OpenCV.

A change of crop margin moves an age estimate by years, so the specification travels inside every model file and every
training cache.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

DEFAULT_DETECTOR = "yunet-2023mar"
CROP_VERSION = 1
CROP_KINDS = ("box", "landmarks", "resize")
NO_DETECTOR = "none"
_RESIZE_KEYS = ("resize_to", "keep_aspect")


@dataclass(frozen=True, slots=True)
class CropSpec:
    """How a face is cut out of a picture.

    ``box``: the crop is a square round the centre of the detector's box. Its side is ``max(w, h) * (1 + 2 * margin)``.
    Centre and side are rounded to a quarter of a pixel first, so that detectors that agree to a hundredth of a
    pixel give the same pixels. Where the square reaches beyond the picture, ``fill`` is used.

    ``landmarks``: the same square, but placed and turned by the similarity that brings five mean landmarks onto those
    of the detector, rounded to a quarter of a pixel (least squares; Umeyama, PAMI 1991). A detector without landmarks,
    or landmarks that contradict the box, give the ``box`` crop: mean landmarks and box belong to each other, so both
    have the same scale.

    ``resize``: no detector; the whole picture is resized to ``resize_to`` and its centre is cut out, as in the
    original experiments.

    Attributes:
        size: side of the result, in pixels.
        margin: what is added on each side of the box, as a fraction of its longer side; 0 for ``resize``.
        fill: RGB, 0 to 255. The default is the mean colour of ImageNet, so that normalised borders are near 0.
        kind: ``box``, ``landmarks`` or ``resize``.
        filter: ``area-linear``: reduced by the nearest whole factor with area averaging, then bilinear. For ``resize``:
            area averaging where the picture shrinks, bilinear where it grows.
        detector: identifier of the detector whose boxes the margin refers to; ``none`` for ``resize``.
        version: of this specification; another version is refused rather than guessed at.
        resize_to: for ``resize``: the shorter side (``keep_aspect``) or both sides before the centre is cut out.
        keep_aspect: for ``resize``: whether the picture keeps its proportions.
    """

    size: int = 112
    margin: float = 0.2
    fill: tuple[int, int, int] = (124, 116, 104)
    kind: str = "box"
    filter: str = "area-linear"
    detector: str = DEFAULT_DETECTOR
    version: int = CROP_VERSION
    resize_to: int = 0
    keep_aspect: bool = True

    def __post_init__(self) -> None:
        if self.version != CROP_VERSION or self.kind not in CROP_KINDS or self.filter != "area-linear":
            raise ValueError(
                f"crop specification {self.kind}/{self.filter} version {self.version} is not known "
                f"(this release knows {'|'.join(CROP_KINDS)}/area-linear version {CROP_VERSION})"
            )
        if self.kind == "resize":
            if type(self.resize_to) is not int or not 8 <= self.size <= self.resize_to <= 1024 or self.margin != 0:
                raise ValueError(f"crop of {self.size} px from {self.resize_to!r} px with margin {self.margin!r}")
            if self.detector != NO_DETECTOR:
                raise ValueError(f"a resize crop has no detector, not {self.detector!r}")
            if type(self.keep_aspect) is not bool:
                raise ValueError(f"crop keep_aspect {self.keep_aspect!r} is not true or false")
        elif self.resize_to != 0 or self.keep_aspect is not True:
            raise ValueError(f"crop kind {self.kind} does not resize")
        if type(self.size) is not int or not 8 <= self.size <= 1024:
            raise ValueError(f"crop size {self.size!r} px is not a whole number between 8 and 1024")
        if not isinstance(self.margin, int | float) or not -0.4 <= self.margin <= 4:
            raise ValueError(f"crop margin {self.margin!r} is not a number between -0.4 and 4")
        if not isinstance(self.detector, str):
            raise ValueError(f"crop detector {self.detector!r} is not a name")
        if len(self.fill) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in self.fill):
            raise ValueError(f"crop fill {self.fill} is not three values from 0 to 255")

    def to_dict(self) -> dict[str, Any]:
        """The specification as JSON values; what belongs to another kind is left out."""
        values = {**asdict(self), "fill": list(self.fill)}
        return values if self.kind == "resize" else {k: v for k, v in values.items() if k not in _RESIZE_KEYS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CropSpec":
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: a key is missing or unknown, or a value is not valid.
        """
        names = {f.name for f in fields(cls)}
        if values.get("kind") != "resize":
            names -= set(_RESIZE_KEYS)
        if set(values) != names:
            raise ValueError(f"crop specification must have exactly the keys {', '.join(sorted(names))}")
        try:
            return cls(**{**values, "fill": tuple(values["fill"])})
        except TypeError as error:
            raise ValueError(f"crop specification: {error}") from error

    def widened(self, factor: float) -> "CropSpec":
        """The same crop at the same scale with about ``factor`` times its side: room for augmentation to move in.

        A ``resize`` crop is given all of the resized picture.
        """
        if self.kind == "resize":
            return replace(self, size=self.resize_to)
        size = 2 * math.ceil(self.size * factor / 2)
        return replace(self, margin=((1 + 2 * self.margin) * size / self.size - 1) / 2, size=size)
