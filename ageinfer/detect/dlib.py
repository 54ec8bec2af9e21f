"""The two face detectors of dlib; they need the extra ``dlib``."""

from functools import cached_property
from pathlib import Path
from typing import Any

from ageinfer.errors import MissingDependencyError, ModelError, UsageError
from ageinfer.images import cv2
from ageinfer.types import Box, Detection, Image


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise MissingDependencyError("detector dlib needs the package dlib: pip install 'ageinfer[dlib]'") from error
    return dlib


def _rescaled(rectangle: Any, side: float, shift: tuple[float, float]) -> Box:
    """Converts a box of dlib to the box that YuNet would give the same face, because crop margins refer to YuNet.

    Args:
        rectangle: a ``dlib.rectangle``.
        side: the longer side of YuNet's box, in units of the longer side of dlib's box.
        shift: the centre of YuNet's box minus that of dlib's box, right and down, in the same units.

    Returns:
        A square box ``(x, y, w, h)`` in pixels.
    """
    w, h = rectangle.width(), rectangle.height()
    longer = max(w, h)
    extent = longer * side
    centre_x, centre_y = (
        rectangle.left() + w / 2 + shift[0] * longer,
        rectangle.top() + h / 2 + shift[1] * longer,
    )
    return (centre_x - extent / 2, centre_y - extent / 2, extent, extent)


class DlibHog:
    """The frontal face detector of dlib (HOG), which finds upright frontal faces and needs no file.

    The boxes of dlib go from brow to chin. They are rescaled to the boxes of YuNet, because the crop margins of the
    shipped models refer to YuNet. The constants come from ``benchmarks/detectors.py``. The score is a distance to a
    margin without bounds. There are no landmarks.

    Args:
        upsample: how often the picture is doubled first. The smallest face found is about 80 pixels at 0. Each doubling
            halves this size and takes four times as long.

    Raises:
        MissingDependencyError: dlib is not installed.
    """

    identifier = "dlib-hog"
    # Medians of side and shift for `_rescaled`, see the docstring.
    _SIDE = 1.18
    _SHIFT = (0.0, -0.04)

    def __init__(self, upsample: int = 1) -> None:
        self._upsample = upsample
        _ = self._dlib_detector

    @cached_property
    def _dlib_detector(self) -> Any:
        return _dlib().get_frontal_face_detector()

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        rectangles, scores, _ = self._dlib_detector.run(grey, self._upsample)
        found = [
            Detection(box=_rescaled(r, self._SIDE, self._SHIFT), score=float(score))
            for r, score in zip(rectangles, scores, strict=True)
        ]
        return sorted(found, key=lambda detection: -detection.score)


class DlibCnn:
    """The convolutional face detector of dlib (King, 2015), which is slow without a GPU build of dlib.

    Its boxes are rescaled as those of `DlibHog`. The score has no bounds. There are no landmarks.

    Args:
        model: the path of ``mmod_human_face_detector.dat``, as dlib publishes it; None for the file in the package
            ``face_recognition_models``.
        upsample: how often the picture is doubled first. The smallest face found is about 80 pixels at 0.

    Raises:
        UsageError: no file was named, and the package is not installed.
        ModelError: the file is missing, or dlib cannot read it.
        MissingDependencyError: dlib is not installed.
    """

    identifier = "dlib-cnn"
    # Medians as for DlibHog; boxes of this detector lie a little to the upper left.
    _SIDE = 1.18
    _SHIFT = (0.04, 0.05)

    def __init__(self, model: str | Path | None = None, upsample: int = 0) -> None:
        path = Path(model) if model is not None else _file_of_package()
        if not path.is_file():
            raise ModelError(f"{path}: no such file; give dlib's mmod_human_face_detector.dat")
        dlib = _dlib()
        try:
            self._network = dlib.cnn_face_detection_model_v1(str(path))
        except RuntimeError as error:
            raise ModelError(f"{path}: dlib cannot read it; give dlib's mmod_human_face_detector.dat") from error
        self._upsample = upsample

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        found = self._network(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self._upsample)
        detections = [Detection(_rescaled(f.rect, self._SIDE, self._SHIFT), float(f.confidence)) for f in found]
        return sorted(detections, key=lambda detection: -detection.score)


def _file_of_package() -> Path:
    """Returns the path of the network in ``face_recognition_models``, whose import would need pkg_resources."""
    from importlib.util import find_spec

    spec = find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise UsageError(
            "detector dlib-cnn needs its network: --detector-file mmod_human_face_detector.dat, or "
            "pip install face_recognition_models, which carries it"
        )
    return Path(spec.origin).parent / "models" / "mmod_human_face_detector.dat"
