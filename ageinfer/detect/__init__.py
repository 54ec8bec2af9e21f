"""Face detectors behind one protocol: a BGR picture in, boxes in its pixels out, best first."""

from pathlib import Path

from ageinfer.detect.base import FaceDetector, NearDetector, WholePicture
from ageinfer.detect.dlib import DlibCnn, DlibHog
from ageinfer.detect.search import SAME_FACE_IOU, detect_closely, detect_near, detect_reduced, without_repeats
from ageinfer.detect.yunet import YUNET_FILE, YuNet
from ageinfer.errors import UsageError

__all__ = [
    "DETECTORS", "SAME_FACE_IOU", "YUNET_FILE", "DlibCnn", "DlibHog", "FaceDetector", "NearDetector", "WholePicture",
    "YuNet", "detect_closely", "detect_near", "detect_reduced", "open_detector", "without_repeats",
]  # fmt: skip

DETECTORS = ("yunet", "dlib", "dlib-cnn")


def open_detector(
    name: str = "yunet",
    *,
    file: str | Path | None = None,
    provider: str = "auto",
    threads: int | None = None,
) -> FaceDetector:
    """Makes a detector by its name on the command line.

    Args:
        name: one of `DETECTORS`, or the path of a YuNet ONNX file (``.onnx``).
        file: the network of ``dlib-cnn`` (``mmod_human_face_detector.dat``).
        provider: of a YuNet, see there; the other detectors have no use for it.
        threads: as ``provider``.

    Raises:
        UsageError: there is no detector of that name.
        ModelError: its file is missing or another kind of file.
        MissingDependencyError: its package is not installed.
    """
    if name == "yunet" or name.endswith(".onnx"):
        model = None if name == "yunet" else name
        return YuNet(model, provider=provider, threads=threads)
    if name == "dlib":
        return DlibHog()
    if name == "dlib-cnn":
        return DlibCnn(file)
    raise UsageError(f"unknown detector {name!r}: use one of {', '.join(DETECTORS)}, or a YuNet file (.onnx)")
