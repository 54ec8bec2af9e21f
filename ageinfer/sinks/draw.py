"""Draws a box, the track and the age of each face, or blurs the faces."""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import itemgetter

import numpy as np

from ageinfer.images import cv2
from ageinfer.people.places import Places
from ageinfer.types import Box, Face, Frame, FrameResult, Image, Point

_INK = (20, 20, 20)
# BGR colours that are light enough for dark text and easy to tell apart. The first is for faces without a track.
_PAPERS = (
    (80, 220, 255), (250, 200, 110), (120, 235, 130), (205, 160, 255), (90, 165, 255), (225, 225, 90), (160, 245, 225),
    (255, 165, 200),
)  # fmt: skip
_PLACE_INK = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

# Boxes of detectors end at the brow and the chin. This margin, as a fraction of the longer side, covers hair, ears and
# chin, also of a head that lies on its side.
_HEAD_MARGIN = 0.5
_CELLS_ACROSS = 8
_LEAST_CELL = 4  # pixels


class AnnotatedFrame:
    """A frame with its result, and the annotated picture, which is drawn once when a sink asks for it.

    Attributes:
        frame: the frame as the source gave it.
        result: the faces that were found in it.
        blur: whether the faces in ``image`` are made unrecognisable, see `blur_faces`.
        places: zones and lines, which are drawn too.
    """

    def __init__(
        self, frame: Frame, result: FrameResult, *, blur: bool = False, places: Places | None = None
    ) -> None:  # fmt: skip
        self.frame = frame
        self.result = result
        self.blur = blur
        self.places = places or Places()

    @cached_property
    def image(self) -> Image:
        """The annotated picture, uint8 BGR ``[height, width, 3]``: a copy of the frame with boxes and ages."""
        image = self.frame.image
        if self.blur:  # in a damaged frame no face was looked for, but there may be some
            image = blur_all(image) if self.frame.damaged else blur_faces(image, self.result.faces)
        return draw_faces(draw_places(image, self.places, self.result.faces), self.result.faces)


def label_of(face: Face) -> str:
    """Returns the text beside a face: its track, its age and the standard deviation, both in whole years.

    Where somebody asked whether the person has reached an age, the answer follows, as in ``over 18``.
    """
    years = face.shown_years
    track = "" if face.track is None else f"#{face.track} "
    over = "" if face.over is None else f" {face.over.answer} {face.over.years}"
    # The built-in font has no plus-minus sign.
    return f"{track}{years:.0f} +-{face.age.std_years:.0f}{over}"


def colour_of(face: Face) -> tuple[int, int, int]:
    """Returns the BGR colour for the box and the label of a face; a track keeps its colour."""
    return _PAPERS[0] if face.track is None else _PAPERS[1 + face.track % (len(_PAPERS) - 1)]


def draw_faces(image: Image, faces: Iterable[Face]) -> Image:
    """Draws the boxes, tracks and ages of faces on a copy of a picture.

    Args:
        image: uint8 BGR ``[height, width, 3]``; it is not changed.
        faces: the faces; their boxes are in pixels of this picture.

    Returns:
        uint8 BGR of the same size.

    Example:
        >>> drawn = draw_faces(image, pipeline(image).faces)  # doctest: +SKIP
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    line = 1 + round(max(height, width) / 640)
    labels: list[tuple[int, int, int, int]] = []
    for face in faces:
        paper = colour_of(face)
        corners = _corners(face.detection.box, 2 * line, width, height)
        cv2.rectangle(drawn, corners[:2], corners[2:], paper, line, cv2.LINE_AA)
        text = label_of(face)
        scale = _text_scale(text, min(face.detection.box[2], width), width, height)
        stroke = max(1, round(1.6 * scale))
        (text_width, text_height), descent = cv2.getTextSize(text, _FONT, scale, stroke)
        pad = 1 + round(5 * scale)
        size = (text_width + 2 * pad, text_height + descent + 2 * pad)
        left, top, right, bottom = place = _place_label(corners, size, width, height, labels)
        labels.append(place)
        cv2.rectangle(drawn, (left, top), (right, bottom), paper, cv2.FILLED)
        cv2.putText(drawn, text, (left + pad, top + pad + text_height), _FONT, scale, _INK, stroke, cv2.LINE_AA)
    return drawn


def draw_places(image: Image, places: Places, faces: Sequence[Face]) -> Image:
    """Draws zones with the number of faces in each, and lines with an arrow to their right, on a copy of a picture.

    Args:
        image: uint8 BGR ``[height, width, 3]``; it is not changed.
        places: zones and lines.
        faces: of this picture.

    Returns:
        uint8 BGR of the same size; the picture itself where there are no places.
    """
    if not places:
        return image
    drawn = image.copy()
    height, width = image.shape[:2]
    line = 1 + round(max(height, width) / 640)
    inside = [name for face in faces for name in places.zones_at(face.detection.box, (width, height))]

    def pixel(point: Point) -> tuple[int, int]:
        return round(point[0] * (width - 1)), round(point[1] * (height - 1))

    for zone in places.zones:
        corners = list(map(pixel, zone.corners))
        outline = [np.array(corners, np.int32)]
        cv2.polylines(drawn, outline, isClosed=True, color=_PLACE_INK, thickness=line, lineType=cv2.LINE_AA)
        _write(drawn, f"{zone.name}: {inside.count(zone.name)}", min(corners, key=itemgetter(1, 0)))
    for crossed in places.lines:
        start, end = pixel(crossed.ends[0]), pixel(crossed.ends[1])
        cv2.line(drawn, start, end, _PLACE_INK, line, cv2.LINE_AA)
        middle = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2)
        length = max(math.dist(start, end), 1.0)
        reach = max(width, height) / 24 / length  # to the right of somebody who looks along the line
        tip = (round(middle[0] - (end[1] - start[1]) * reach), round(middle[1] + (end[0] - start[0]) * reach))
        cv2.arrowedLine(drawn, middle, tip, _PLACE_INK, line, cv2.LINE_AA, tipLength=0.4)
        _write(drawn, crossed.name, start)
    return drawn


def _write(image: Image, text: str, place: tuple[int, int]) -> None:
    """Writes a text of a zone or a line at a place, within the picture."""
    height, width = image.shape[:2]
    scale = _text_scale(text, width, width, height) / 2
    stroke = max(1, round(1.6 * scale))
    (text_width, text_height), descent = cv2.getTextSize(text, _FONT, scale, stroke)
    pad = 1 + round(4 * scale)
    left = min(max(place[0], 0), max(0, width - text_width - 2 * pad))
    top = min(max(place[1], 0), max(0, height - text_height - descent - 2 * pad))
    corner = (left + text_width + 2 * pad, top + text_height + descent + 2 * pad)
    cv2.rectangle(image, (left, top), corner, _PLACE_INK, cv2.FILLED)
    cv2.putText(image, text, (left + pad, top + pad + text_height), _FONT, scale, _INK, stroke, cv2.LINE_AA)


def _text_scale(text: str, face_width: float, width: int, height: int) -> float:
    """Returns a font scale that is readable, in proportion to the face, and no wider than the picture."""
    longer = max(width, height)
    scale = max(min(face_width / 130, longer / 800), longer / 3200, 0.4)
    whole_width = cv2.getTextSize(text, _FONT, 1.0, 1)[0][0]
    return max(min(scale, 0.95 * width / whole_width), 0.1)


def _place_label(
    corners: tuple[int, int, int, int],
    size: tuple[int, int],
    width: int,
    height: int,
    others: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of a label, above, below or inside its box.

    It takes the first of these places that lies in the picture and overlaps no other label, if there is one.
    """
    x0, y0, _, y1 = corners
    left = min(max(x0, 0), max(0, width - size[0]))
    within = min(max(y0, 0), max(0, height - size[1]))
    places = [(left, top, left + size[0], top + size[1]) for top in (y0 - size[1], y1, within)]
    inside = [p for p in places if p[1] >= 0 and p[3] <= height] or places[-1:]
    free = [p for p in inside if not any(_overlap(p, other) for other in others)]
    return (free or inside)[0]


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def blur_faces(image: Image, faces: Iterable[Face]) -> Image:
    """Makes faces unrecognisable on a copy of a picture, so that they cannot be restored.

    Each head, from hair to chin, is replaced by the mean colours of about 8 x 8 cells (about 4 across the face), with
    smooth transitions between them. Only these means are left of it, so no finer detail can be computed back. A
    Gaussian blur would only weaken fine detail, and sharpening could bring much of the face back.

    A face that was not found is not hidden. Many frames of the same face with shifted cells show more than one frame.

    Args:
        image: uint8 BGR ``[height, width, 3]``; it is not changed.
        faces: the faces; their boxes are in pixels of this picture and may reach beyond it.

    Returns:
        uint8 BGR of the same size; the pixels outside the heads are unchanged.

    Example:
        >>> hidden = blur_faces(image, pipeline(image).faces)  # doctest: +SKIP
    """
    blurred = image.copy()
    for face in faces:
        x0, y0, x1, y1 = enlarged(face.detection.box, _HEAD_MARGIN, image.shape)
        width, height = x1 - x0, y1 - y0
        if width < 1 or height < 1:
            continue
        # The size of a cell depends on the whole head, even if only a part of it is in the frame.
        cell = max(max(face.detection.box[2:]) * (1 + 2 * _HEAD_MARGIN) / _CELLS_ACROSS, _LEAST_CELL)
        cells = (max(1, round(width / cell)), max(1, round(height / cell)))
        means = cv2.resize(blurred[y0:y1, x0:x1], cells, interpolation=cv2.INTER_AREA)
        # Interpolation makes the cells smooth; a filter as wide as a cell would cost more.
        blurred[y0:y1, x0:x1] = cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR)
    return blurred


def blur_all(image: Image) -> Image:
    """Returns a copy of a whole uint8 BGR picture ``[height, width, 3]``, reduced to about 8 x 8 mean colours."""
    height, width = image.shape[:2]
    cell = max(max(height, width) / _CELLS_ACROSS, _LEAST_CELL)
    cells = (max(1, round(width / cell)), max(1, round(height / cell)))
    means = cv2.resize(image, cells, interpolation=cv2.INTER_AREA)
    return cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR)


def enlarged(box: Box, margin: float, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Enlarges a box by a margin and cuts it to the frame, in whole pixels.

    Args:
        box: ``(x, y, w, h)`` in pixels.
        margin: added on every side, as a fraction of the longer side of the box.
        shape: the shape of the frame: height, width.

    Returns:
        Left, top, right and bottom in pixels; right and bottom are exclusive. If no part of the box is in the frame,
        ``right <= left`` or ``bottom <= top``.

    Example:
        >>> enlarged((10, 20, 40, 20), 0.5, (100, 100))
        (0, 0, 70, 60)
    """
    x, y, w, h = box
    more = margin * max(w, h)
    height, width = shape[:2]
    left, right = np.clip([x - more, x + w + more], 0, width)
    top, bottom = np.clip([y - more, y + h + more], 0, height)
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _corners(box: Box, beyond: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Returns the corners of a box in whole pixels, at most `beyond` pixels outside the frame."""
    x, y, w, h = box
    x0, x1 = np.clip([x, x + w], -beyond, width + beyond)
    y0, y1 = np.clip([y, y + h], -beyond, height + beyond)
    return round(float(x0)), round(float(y0)), round(float(x1)), round(float(y1))
