"""Finds faces in pictures; all detectors have the same method, `FaceDetector.detect`."""

from pathlib import Path

from ageinfer.detect.base import FaceDetector, NearDetector, WholePicture
from ageinfer.detect.dlib import DlibCnn, DlibHog
from ageinfer.detect.search import (
    SAME_FACE_IOU,
    detect_as_told,
    detect_at_all_scales,
    detect_closely,
    detect_near,
    detect_reduced,
    without_repeats,
)
from ageinfer.detect.yunet import YUNET_FILE, YuNet
from ageinfer.errors import UsageError

__all__ = [
    "DETECTORS", "SAME_FACE_IOU", "YUNET_FILE", "DlibCnn", "DlibHog", "FaceDetector", "NearDetector", "WholePicture",
    "YuNet", "detect_as_told", "detect_at_all_scales", "detect_closely", "detect_near", "detect_reduced",
    "open_detector", "without_repeats",
]  # fmt: skip

DETECTORS = ("yunet", "dlib", "dlib-cnn")


def open_detector(
    name: str = "yunet",
    *,
    file: str | Path | None = None,
    provider: str = "auto",
    threads: int | None = None,
) -> FaceDetector:
    """Makes a face detector by its name on the command line.

    Args:
        name: one of `DETECTORS`, or the path of a YuNet ONNX file (``.onnx``).
        file: the network of ``dlib-cnn`` (``mmod_human_face_detector.dat``).
        provider: the execution provider of a YuNet, see `YuNet`; dlib does not use it.
        threads: the threads of a YuNet, see `YuNet`; dlib does not use them.

    Raises:
        UsageError: there is no detector with this name.
        ModelError: the file of the detector is missing or not valid.
        MissingDependencyError: the package of the detector is not installed.

    Example:
        >>> import cv2
        >>> detector = open_detector("yunet", provider="cpu")
        >>> [face] = detector.detect(cv2.imread("samples/astronaut.jpg"))
        >>> len(face.landmarks)
        5
    """
    if name == "yunet" or name.endswith(".onnx"):
        model = None if name == "yunet" else name
        return YuNet(model, provider=provider, threads=threads)
    if name == "dlib":
        return DlibHog()
    if name == "dlib-cnn":
        return DlibCnn(file)
    raise UsageError(f"unknown detector {name!r}; use one of {', '.join(DETECTORS)}, or a YuNet file (.onnx)")
