"""Annotated pictures: a box round each face, and its age."""

from functools import cached_property

from ageinfer._opencv import cv2
from ageinfer.types import Face, Frame, FrameResult, Image

_INK, _PAPER = (20, 20, 20), (80, 220, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class AnnotatedFrame:
    """A frame with its result, drawn when a sink first asks and then shared by all.

    Attributes:
        frame: as it came from the source.
        result: what was found in it.
    """

    def __init__(self, frame: Frame, result: FrameResult) -> None:
        self.frame = frame
        self.result = result

    @cached_property
    def image(self) -> Image:
        """uint8 BGR ``[height, width, 3]``: a copy of the frame with faces and ages drawn on it."""
        return draw_faces(self.frame.image, self.result.faces)


def label_of(face: Face) -> str:
    """What is written beside a face: the age in whole years and its standard deviation."""
    years = face.age.age_years if face.age_smoothed_years is None else face.age_smoothed_years
    # The built-in font has no plus-minus sign.
    return f"{years:.0f} +-{face.age.std_years:.0f}"


def draw_faces(image: Image, faces: tuple[Face, ...]) -> Image:
    """Draws boxes and ages on a copy of a picture.

    Args:
        image: uint8 BGR ``[height, width, 3]``.
        faces: their boxes are in pixels of this picture.

    Returns:
        uint8 BGR, the same size.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    line = max(1, round(max(height, width) / 400))
    for face in faces:
        x, y, w, h = face.detection.box
        x0, y0, x1, y1 = round(x), round(y), round(x + w), round(y + h)
        cv2.rectangle(drawn, (x0, y0), (x1, y1), _PAPER, line, cv2.LINE_AA)
        text = label_of(face)
        # Readable, but no larger than the face can bear.
        scale = min(max(w / 110, 0.4), max(height, width) / 500)
        (text_width, text_height), descent = cv2.getTextSize(text, _FONT, scale, line)
        pad = line + round(4 * scale)
        box_height = text_height + descent + 2 * pad
        left = min(max(x0, 0), max(0, width - text_width - 2 * pad))
        top = y0 - box_height if y0 >= box_height else min(max(y0, 0), max(0, height - box_height))
        cv2.rectangle(drawn, (left, top), (left + text_width + 2 * pad, top + box_height), _PAPER, cv2.FILLED)
        cv2.putText(drawn, text, (left + pad, top + pad + text_height), _FONT, scale, _INK, line, cv2.LINE_AA)
    return drawn
