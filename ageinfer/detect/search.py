"""Searches pictures for faces: at several scales, in tiles, or near known places."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypeGuard

from ageinfer.detect.base import FaceDetector, NearDetector, WholePicture
from ageinfer.images import reduced
from ageinfer.types import Box, Detection, Image, overlap

# The side of the square around a known face that is searched again, in units of the longer side of the face.
_NEAR_EXTENT = 2.25
# If the smallest face is smaller than this in the reduced picture, in pixels, smaller faces may have been missed. The
# first search reduces a large picture to the second value.
_SMALL_FACE_PX, _FIRST_SIDE_PX = 40, 640
# Pictures with a longer side than the first value are searched in tiles where the reduced picture is larger than one
# tile, because a network needs 2 GB for 48 megapixels at once. Neighbouring tiles share a strip. The largest face that
# the search at half the size may have missed (twice `_SMALL_FACE_PX`) fits into it with a margin.
_LARGEST_AT_ONCE_PX, _TILE_PX, _TILES_SHARE_PX = 2560, 1280, 256
_CELL_PX = 32  # the coarsest cells of YuNet
SAME_FACE_IOU = 0.3
_LEAST_SIDE_PX = 320  # of a search at all scales: at this size a face may fill the picture


def detect_reduced(detector: FaceDetector, image: Image, max_side: int | None) -> list[Detection]:
    """Finds faces in a reduced copy of a picture.

    Args:
        detector: finds the faces.
        image: uint8 BGR ``[height, width, 3]``.
        max_side: the longer side of the copy in pixels. None, or more than the picture has: no reduction.

    Returns:
        The faces, best score first; boxes and landmarks are in pixels of the picture, not of the copy.
    """
    height, width = image.shape[:2]
    if max_side is None or max(width, height) <= max_side:
        return detector.detect(image)
    factor = max_side / max(width, height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    found = detector.detect(reduced(image, size))
    return [d.moved((width / size[0], height / size[1]), (0, 0)) for d in found]


def detect_as_told(detector: FaceDetector, image: Image, side: int | Literal["auto", "all"] | None) -> list[Detection]:
    """Finds the faces of a picture that stands by itself, as `Looking.max_side` says.

    Args:
        detector: the face detector.
        image: uint8 BGR ``[height, width, 3]``.
        side: ``auto``: `detect_closely`; ``all``: `detect_at_all_scales`; else `detect_reduced` to this side in pixels.
    """
    if side == "auto":
        return detect_closely(detector, image)
    if side == "all":
        return detect_at_all_scales(detector, image)
    return detect_reduced(detector, image, side)


def detect_closely(detector: FaceDetector, image: Image) -> list[Detection]:
    """Searches a picture reduced to 640 pixels, and at larger sizes as long as there may be smaller faces.

    A portrait needs one search. A crowd is searched at 1280 pixels, 2560 pixels and so on up to its full size. A
    picture of more than 2560 pixels is searched in tiles, so that memory does not grow with it.

    Args:
        detector: finds the faces.
        image: uint8 BGR ``[height, width, 3]``.

    Returns:
        The faces, best score first; boxes and landmarks are in pixels of the picture.
    """
    if isinstance(detector, WholePicture):
        return detector.detect(image)
    side, whole = _FIRST_SIDE_PX, max(image.shape[:2])
    found = detect_reduced(detector, image, side)
    while side < whole:
        smallest = min((max(d.box[2:]) for d in found), default=0) * side / whole
        if smallest >= _SMALL_FACE_PX:
            break
        side *= 2
        tiled = whole > _LARGEST_AT_ONCE_PX and min(side, whole) > _TILE_PX
        look = _detect_in_tiles if tiled else detect_reduced
        found = without_repeats([*look(detector, image, side), *found])
    return found


def detect_at_all_scales(detector: FaceDetector, image: Image) -> list[Detection]:
    """Finds faces of every size, large and small beside each other, down to the smallest that the detector sees.

    The picture is searched with 320, 640, 1280 pixels and so on up to its full size. A detector sees faces of some
    sizes only: a face that fills a picture of 12 megapixels is not found in it as it is. This takes about twice as
    long as one search at full size (benchmarks/hidden.py).

    Args:
        detector: the face detector.
        image: uint8 BGR ``[height, width, 3]``.

    Returns:
        The faces in pixels of the picture, each one once, the best score first.
    """
    if isinstance(detector, WholePicture):
        return detector.detect(image)
    whole = max(image.shape[:2])
    found: list[Detection] = []
    side = min(_LEAST_SIDE_PX, whole)
    while True:
        look = _detect_in_tiles if side > _TILE_PX else detect_reduced
        found = without_repeats([*look(detector, image, side), *found])
        if side == whole:
            return found
        side = min(2 * side, whole)


def _detect_in_tiles(detector: FaceDetector, image: Image, max_side: int) -> list[Detection]:
    """Does what `detect_reduced` does in tiles, for faces that fit into the strip that two tiles share."""
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = reduced(image, size)
    found = []
    for y0, y1, top, bottom in _tiles(size[1]):
        for x0, x1, left, right in _tiles(size[0]):
            for detection in detector.detect(small[y0:y1, x0:x1]):
                x, y, w, h = detection.box
                centre_x, centre_y = x0 + x + w / 2, y0 + y + h / 2
                # Every place belongs to one tile. A larger face, which a tile may cut, was found at a smaller size.
                if left <= centre_x < right and top <= centre_y < bottom and max(w, h) <= _TILES_SHARE_PX:
                    found.append(detection.moved((1, 1), (x0, y0)))
    return [d.moved((width / size[0], height / size[1]), (0, 0)) for d in without_repeats(found)]


def _tiles(side: int) -> Iterator[tuple[int, int, float, float]]:
    """Yields the begin and end of each tile along one side, and the range of face centres that belong to it."""
    count = max(1, math.ceil((side - _TILES_SHARE_PX) / (_TILE_PX - _TILES_SHARE_PX)))
    # Tiles of about equal size begin at whole cells, so that a face looks as in the whole picture.
    step = _CELL_PX * math.ceil((side - _TILES_SHARE_PX) / count / _CELL_PX)
    for i in range(count):
        begin, end = i * step, min(side, i * step + step + _TILES_SHARE_PX)
        yield (
            begin,
            end,
            begin + _TILES_SHARE_PX / 2 if i else -math.inf,
            begin + step + _TILES_SHARE_PX / 2 if i < count - 1 else math.inf,
        )


def detect_near(detector: FaceDetector, image: Image, boxes: Sequence[Box]) -> list[Detection]:
    """Finds faces near places where they were a moment ago, much faster than in the whole picture.

    Args:
        detector: finds the faces. A `NearDetector` uses its own method; others search a square around each place.
        image: uint8 BGR ``[height, width, 3]``.
        boxes: the earlier boxes of the faces, ``(x, y, w, h)`` in pixels.

    Returns:
        The faces, best score first, each once; boxes and landmarks are in pixels of the picture.
    """
    if _is_near_detector(detector):
        return detector.detect_near(image, boxes)
    found = []
    height, width = image.shape[:2]
    for x, y, w, h in boxes:
        extent = max(w, h) * _NEAR_EXTENT
        x0, y0 = max(0, math.floor(x + w / 2 - extent / 2)), max(0, math.floor(y + h / 2 - extent / 2))
        x1, y1 = min(width, math.ceil(x + w / 2 + extent / 2)), min(height, math.ceil(y + h / 2 + extent / 2))
        if x1 > x0 and y1 > y0:
            found += [d.moved((1, 1), (x0, y0)) for d in detector.detect(image[y0:y1, x0:x1])]
    return without_repeats(found)


def _is_near_detector(detector: FaceDetector) -> TypeGuard[NearDetector]:
    return hasattr(detector, "detect_near")


def without_repeats(detections: Sequence[Detection]) -> list[Detection]:
    """Keeps only the best of detections that overlap by more than an IoU of 0.3; returns them best score first."""
    kept: list[Detection] = []
    for detection in sorted(detections, key=lambda d: -d.score):
        if all(overlap(detection.box, better.box) <= SAME_FACE_IOU for better in kept):
            kept.append(detection)
    return kept
