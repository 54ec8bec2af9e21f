"""The labelled face of a picture: detect, take the face nearest the centre, crop it.

Training, evaluation and export all look at pictures by these functions, so that they see the same faces.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ageinfer.crop.spec import CropSpec
from ageinfer.types import Box, Detection, Image
from agetrain.errors import DatasetError

if TYPE_CHECKING:  # it brings OpenCV, which a machine that only trains need not have
    from ageinfer.detect.base import FaceDetector


def read_labelled_picture(path: Path) -> Image:
    """Reads a picture of a data set as uint8 BGR ``[height, width, 3]``.

    Raises:
        DatasetError: it cannot be read.
    """
    from ageinfer.errors import SourceError
    from ageinfer.sources import read_picture

    try:
        return read_picture(path)
    except SourceError as error:
        raise DatasetError(str(error)) from error


def labelled_face(detector: "FaceDetector", image: Image) -> Detection | None:
    """Finds the face that a label belongs to: among several, the one nearest the centre; None without a face.

    Args:
        detector: of ageinfer.
        image: uint8 BGR ``[height, width, 3]``.
    """
    from ageinfer.crop.cut import central_face
    from ageinfer.detect import detect_closely

    faces = detect_closely(detector, image)
    central = central_face([face.box for face in faces], (image.shape[1], image.shape[0]))
    return None if central is None else faces[central]


def crop_labelled_face(
    detector: "FaceDetector", image: Image, spec: CropSpec, *, landmarks: bool = True, box_margin: float = 0.0
) -> Image | None:
    """Crops the labelled face as the runtime does; returns uint8 RGB ``[size, size, 3]``, or None without a face.

    Args:
        detector: of ageinfer.
        image: uint8 BGR ``[height, width, 3]``.
        spec: how to crop.
        landmarks: whether the crop may use landmarks.
        box_margin: what is added to each side of the box first, as a share of its longer side.
    """
    face = labelled_face(detector, image)
    return None if face is None else crop_found_face(face, image, spec, landmarks=landmarks, box_margin=box_margin)


def crop_found_face(
    face: "Detection", image: Image, spec: CropSpec, *, landmarks: bool = True, box_margin: float = 0.0
) -> Image:
    """Crops a face that was found as the runtime does; uint8 RGB ``[size, size, 3]``, see `crop_labelled_face`."""
    from ageinfer.crop.cut import crop_face

    return crop_face(image, _grown(face.box, box_margin), spec, face.landmarks if landmarks else None)


def _grown(box: Box, margin: float) -> Box:
    """The square round a box's centre with so much more on each side; the box itself for 0."""
    if margin == 0:
        return box
    x, y, w, h = box
    side = max(w, h) * (1 + 2 * margin)
    return (x + w / 2 - side / 2, y + h / 2 - side / 2, side, side)
