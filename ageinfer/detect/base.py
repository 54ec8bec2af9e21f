"""The protocol of face detectors, and a detector that takes the whole picture."""

from collections.abc import Sequence
from typing import Protocol

from ageinfer.crop.spec import NO_DETECTOR
from ageinfer.types import Box, Detection, Image


class FaceDetector(Protocol):
    """The protocol of a face detector: a class with these members works in the pipeline.

    Attributes:
        identifier: the name and version of the detector, such as ``yunet-2023mar``. Crop specifications and training
            caches store it.
    """

    identifier: str

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a picture.

        Args:
            image: uint8 BGR ``[height, width, 3]``.

        Returns:
            The faces, best score first; boxes and landmarks are in pixels of the picture.
        """
        ...


class NearDetector(FaceDetector, Protocol):
    """The protocol of a detector that can search near known places faster than in a whole picture."""

    def detect_near(self, image: Image, boxes: Sequence[Box]) -> list[Detection]:
        """Finds faces near places where they were a moment ago, see `ageinfer.detect.detect_near`."""
        ...


class WholePicture:
    """Takes every picture as one face, for models that were trained on whole pictures."""

    identifier = NO_DETECTOR

    def detect(self, image: Image) -> list[Detection]:
        """Returns one detection with score 1 that covers the whole picture, uint8 BGR ``[height, width, 3]``."""
        return [Detection(box=(0.0, 0.0, float(image.shape[1]), float(image.shape[0])), score=1.0)]
