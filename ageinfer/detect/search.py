"""How a picture is searched for faces: at which scales, in which tiles, and near which places."""

import math
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from ageinfer.detect.base import FaceDetector, NearDetector, WholePicture
from ageinfer.images import reduced
from ageinfer.types import Box, Detection, Image, overlap

# How far round a known face a detector without its own way looks for it, in units of the face's longer side.
_NEAR_EXTENT = 2.25
# Where the smallest face is smaller than this after the reduction, in pixels, there may be smaller ones that were
# missed. Also the first side at which a large picture is looked at.
_SMALL_FACE_PX, _FIRST_SIDE_PX = 40, 640
# Larger pictures are looked at in tiles where a look has more than a tile's side, all in pixels of the look: a network
# over 48 megapixels at once takes 2 GB. Tiles share a strip in which the largest face that a look of half the size may
# have missed (twice `_SMALL_FACE_PX`) lies whole with as much round it.
_LARGEST_AT_ONCE_PX, _TILE_PX, _TILES_SHARE_PX = 2560, 1280, 256
_CELL_PX = 32  # the coarsest cells of YuNet
SAME_FACE_IOU = 0.3


def detect_reduced(detector: FaceDetector, image: Image, max_side: int | None) -> list[Detection]:
    """Detects in a copy of the picture that is reduced to a side; boxes are in pixels of the picture itself.

    Args:
        detector: finds the faces.
        image: uint8 BGR ``[height, width, 3]``.
        max_side: the longer side of the copy, in pixels; None, or more than the picture has: the picture itself.
    """
    height, width = image.shape[:2]
    if max_side is None or max(width, height) <= max_side:
        return detector.detect(image)
    factor = max_side / max(width, height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    found = detector.detect(reduced(image, size))
    return [d.moved((width / size[0], height / size[1]), (0, 0)) for d in found]


def detect_closely(detector: FaceDetector, image: Image) -> list[Detection]:
    """Looks at a picture with 640 pixels, and closer for as long as that shows faces that may not be the smallest.

    A portrait costs one look; a crowd is looked at with 1,280 pixels, 2,560 and so on up to its full size. Memory does
    not grow with the picture: beyond 2,560 pixels it is looked at piece by piece.

    Args:
        detector: finds the faces.
        image: uint8 BGR ``[height, width, 3]``.
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


def _detect_in_tiles(detector: FaceDetector, image: Image, max_side: int) -> list[Detection]:
    """What `detect_reduced` does, in tiles, for faces that fit into the strip that two tiles share."""
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
                # Every place belongs to one tile. A larger face, which a tile may cut, was seen in a smaller look.
                if left <= centre_x < right and top <= centre_y < bottom and max(w, h) <= _TILES_SHARE_PX:
                    found.append(detection.moved((1, 1), (x0, y0)))
    return [d.moved((width / size[0], height / size[1]), (0, 0)) for d in without_repeats(found)]


def _tiles(side: int) -> Iterator[tuple[int, int, float, float]]:
    """Tiles along one side: where each begins and ends, and the least and the first too large centre that it owns."""
    count = max(1, math.ceil((side - _TILES_SHARE_PX) / (_TILE_PX - _TILES_SHARE_PX)))
    # As even as can be, and beginning with whole cells, so that a face is seen as in the whole picture.
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
    """Looks for faces near places where they were a moment ago; much cheaper than the whole picture.

    Args:
        detector: finds them; a `NearDetector` in its own way, another one in a part of the picture for each face.
        image: uint8 BGR ``[height, width, 3]``.
        boxes: where the faces were, ``(x, y, w, h)`` in pixels.

    Returns:
        What was found, best first; a face that is seen from two places once.
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
    """Of detections that overlap by more than an IoU of 0.3 the best alone, best first."""
    kept: list[Detection] = []
    for detection in sorted(detections, key=lambda d: -d.score):
        if all(overlap(detection.box, better.box) <= SAME_FACE_IOU for better in kept):
            kept.append(detection)
    return kept
