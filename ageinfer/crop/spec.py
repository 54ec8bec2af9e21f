"""The specification of the face crop; reading one needs no OpenCV.

A different crop margin changes an age estimate by years, so every model file and every training cache holds the
specification.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

DEFAULT_DETECTOR = "yunet-2023mar"
CROP_VERSION = 1
CROP_KINDS = ("box", "landmarks", "resize")
NO_DETECTOR = "none"
LEAST_SIDE, LARGEST_SIDE = 8, 1024  # of a crop, in pixels
_RESIZE_KEYS = ("resize_to", "keep_aspect")


@dataclass(frozen=True, slots=True)
class CropSpec:
    """Says how a face is cut out of a picture.

    ``box``: the crop is a square around the centre of the detector's box. Its side is ``max(w, h) * (1 + 2 * margin)``.
    Centre and side are rounded to a quarter of a pixel first, so that detectors that agree to a hundredth of a pixel
    give the same pixels. The area beyond the picture has the colour ``fill``.

    ``landmarks``: the same square, but placed and turned by the similarity that maps five mean landmarks to those of
    the detector, rounded to a quarter of a pixel (least squares; Umeyama, PAMI 1991). If there are no landmarks, or if
    they contradict the box, the crop is the ``box`` crop of the same scale.

    ``resize``: there is no detector. The whole picture is resized to ``resize_to`` and its centre is cut out, as in the
    original experiments.

    Attributes:
        size: the side of the crop in pixels, 8 to 1024.
        margin: added on each side of the box, as a fraction of its longer side, -0.4 to 4; 0 for ``resize``.
        fill: RGB, 0 to 255. The default is the mean colour of ImageNet, so that normalised borders are near 0.
        kind: ``box``, ``landmarks`` or ``resize``.
        filter: ``area-linear``: area averaging by the nearest whole factor, then bilinear interpolation. For
            ``resize``: area averaging if the picture shrinks, bilinear interpolation if it grows.
        detector: the identifier of the detector to whose boxes the margin refers; ``none`` for ``resize``.
        version: the version of this specification; any other version is refused.
        resize_to: for ``resize``: the shorter side in pixels (with ``keep_aspect``), or both sides, before the cut.
        keep_aspect: for ``resize``: whether the picture keeps its proportions.

    Raises:
        ValueError: a value is out of range, or the values contradict each other.

    Example:
        >>> wider = CropSpec(size=112, margin=0.2).widened(1.25)
        >>> wider.size, wider.margin
        (140, 0.375)
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
            if (
                type(self.resize_to) is not int
                or not LEAST_SIDE <= self.size <= self.resize_to <= LARGEST_SIDE
                or self.margin
            ):
                raise ValueError(
                    f"a resize crop of {self.size!r} px from {self.resize_to!r} px with margin {self.margin!r} is "
                    f"not valid; give {LEAST_SIDE} <= size <= resize_to <= {LARGEST_SIDE} and margin 0"
                )
            if self.detector != NO_DETECTOR:
                raise ValueError(f"a resize crop has no detector, not {self.detector!r}")
            if type(self.keep_aspect) is not bool:
                raise ValueError(f"crop keep_aspect {self.keep_aspect!r} is not true or false")
        elif self.resize_to != 0 or self.keep_aspect is not True:
            raise ValueError(f"crop kind {self.kind} does not resize")
        if type(self.size) is not int or not LEAST_SIDE <= self.size <= LARGEST_SIDE:
            raise ValueError(
                f"crop size {self.size!r} px is not a whole number between {LEAST_SIDE} and {LARGEST_SIDE}"
            )
        if not isinstance(self.margin, int | float) or not -0.4 <= self.margin <= 4:
            raise ValueError(f"crop margin {self.margin!r} is not a number between -0.4 and 4")
        if not isinstance(self.detector, str):
            raise ValueError(f"crop detector {self.detector!r} is not a name")
        if len(self.fill) != 3 or not all(type(v) is int and 0 <= v <= 255 for v in self.fill):
            raise ValueError(f"crop fill {self.fill} is not three values from 0 to 255")

    def to_dict(self) -> dict[str, Any]:
        """Returns the specification as JSON values, without the keys of other kinds."""
        values = {**asdict(self), "fill": list(self.fill)}
        return values if self.kind == "resize" else {k: v for k, v in values.items() if k not in _RESIZE_KEYS}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CropSpec":
        """Makes a specification from the values that `to_dict` returned.

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
        """Returns a larger crop of the same scale, so that augmentation can move the face in it.

        A ``resize`` crop gets all of the resized picture.

        Args:
            factor: the new side divided by the old one; the new side is rounded up to an even number of pixels.
        """
        if self.kind == "resize":
            return replace(self, size=self.resize_to)
        size = 2 * math.ceil(self.size * factor / 2)
        return replace(self, margin=((1 + 2 * self.margin) * size / self.size - 1) / 2, size=size)
