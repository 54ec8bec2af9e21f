"""What the pipeline needs of a face detector, and the detector that needs no network."""

from collections.abc import Sequence
from typing import Protocol

from ageinfer.crop.spec import NO_DETECTOR
from ageinfer.types import Box, Detection, Image


class FaceDetector(Protocol):
    """What the pipeline needs of a detector.

    Attributes:
        identifier: names detector and version, as crop specifications and training caches do.
    """

    identifier: str

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        ...


class NearDetector(FaceDetector, Protocol):
    """A detector with a way of its own to look again for faces whose place is roughly known."""

    def detect_near(self, image: Image, boxes: Sequence[Box]) -> list[Detection]:
        """See the function of that name."""
        ...


class WholePicture:
    """Takes every picture for one face: for models that were trained on whole pictures, and to show what that costs."""

    identifier = NO_DETECTOR

    def detect(self, image: Image) -> list[Detection]:
        """One detection that covers the uint8 BGR picture ``[height, width, 3]``."""
        return [Detection(box=(0.0, 0.0, float(image.shape[1]), float(image.shape[0])), score=1.0)]
