"""Face detection and age estimation on pictures, video and cameras.

    >>> import ageinfer, cv2
    >>> pipeline = ageinfer.Pipeline.default()
    >>> image = cv2.imread("samples/astronaut.jpg")
    >>> [face] = pipeline(image).faces
    >>> 20 < face.age.age_years < 60
    True

Submodules are loaded when they are first used, so that ``import ageinfer`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ageinfer.crop.cut import crop_face, crop_faces
    from ageinfer.crop.spec import CropSpec
    from ageinfer.detect import DlibCnn, DlibHog, FaceDetector, YuNet, open_detector
    from ageinfer.engine.estimator import AgeEstimator
    from ageinfer.errors import AgeInferError
    from ageinfer.pipeline import Looking, Pipeline
    from ageinfer.sources import open_camera, open_source
    from ageinfer.types import Age, Detection, Face, Frame, FrameResult

_HOMES = {
    "Age": "types",
    "AgeEstimator": "engine.estimator",
    "AgeInferError": "errors",
    "CropSpec": "crop.spec",
    "Detection": "types",
    "DlibCnn": "detect",
    "DlibHog": "detect",
    "Face": "types",
    "FaceDetector": "detect",
    "Frame": "types",
    "FrameResult": "types",
    "Looking": "pipeline",
    "Pipeline": "pipeline",
    "YuNet": "detect",
    "crop_face": "crop.cut",
    "crop_faces": "crop.cut",
    "open_camera": "sources",
    "open_detector": "detect",
    "open_source": "sources",
}

__all__ = [
    "Age", "AgeEstimator", "AgeInferError", "CropSpec", "Detection", "DlibCnn", "DlibHog", "Face", "FaceDetector",
    "Frame", "FrameResult", "Looking", "Pipeline", "YuNet", "crop_face", "crop_faces", "open_camera", "open_detector",
    "open_source",
]  # fmt: skip

try:
    __version__ = version("ageinfer")
except PackageNotFoundError:  # used from a checkout without an installation
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ageinfer' has no attribute {name!r}")
    return getattr(import_module(f"ageinfer.{_HOMES[name]}"), name)
