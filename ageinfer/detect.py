"""Face detectors behind one protocol: a BGR picture in, boxes in its pixels out, best first."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ageinfer import _protobuf
from ageinfer._opencv import cv2
from ageinfer.cropspec import DEFAULT_DETECTOR, NO_DETECTOR
from ageinfer.errors import MissingDependencyError, ModelError, UsageError
from ageinfer.modelfile import packaged_model, read_model
from ageinfer.providers import open_session, provider_of
from ageinfer.types import Box, Detection, Image

DETECTORS = ("yunet", "dlib")
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


class FaceDetector(Protocol):
    """What the pipeline needs of a detector.

    Attributes:
        identifier: names detector and version, as crop specifications and training caches do.
    """

    identifier: str

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        ...


def open_detector(name: str = "yunet", **options: Any) -> FaceDetector:
    """Makes a detector by its name on the command line (one of `DETECTORS`).

    Raises:
        UsageError: there is no detector of that name.
    """
    if name == "yunet":
        return YuNet(**options)
    if name == "dlib":
        return DlibHog()
    raise UsageError(f"unknown detector {name!r}: use one of {', '.join(DETECTORS)}")


class WholePicture:
    """Takes every picture for one face: for models that were trained on whole pictures, and to show what that costs."""

    identifier = NO_DETECTOR

    def detect(self, image: Image) -> list[Detection]:
        """One detection that covers the uint8 BGR picture ``[height, width, 3]``."""
        return [Detection(box=(0.0, 0.0, float(image.shape[1]), float(image.shape[0])), score=1.0)]


class YuNet:
    """YuNet (Wu et al., Machine Intelligence Research 2023), run in ONNX Runtime at any picture size.

    Gives what ``cv2.FaceDetectorYN`` gives for the same picture: the same padding, decoding and suppression.

    Args:
        model: a YuNet ONNX file; None for the one that comes with the package.
        score_threshold: faces with a lower score are dropped, 0 to 1.
        nms_threshold: of two boxes that overlap by more than this IoU the better one is kept.
        max_side: a picture whose longer side is larger, in pixels, is reduced to this before detection;
            None for never. Boxes are always in pixels of the picture as it was given.
        provider, threads: see `ageinfer.providers.open_session`.

    Raises:
        ModelError: the file is not there, or is not a YuNet model.
    """

    identifier = DEFAULT_DETECTOR
    _STRIDES = (8, 16, 32)
    _TOP_K = 5000

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        score_threshold: float = 0.7,
        nms_threshold: float = 0.3,
        max_side: int | None = 640,
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        path = packaged_model(YUNET_FILE) if model is None else Path(model)
        if max_side is not None and max_side < 32:
            raise UsageError(f"detection side {max_side} px is too small: use 32 or more")
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._max_side = max_side
        self._session = open_session(_with_free_size(read_model(path), path), str(path), provider, threads)
        self._outputs = [f"{kind}_{stride}" for stride in self._STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        missing = set(self._outputs) - {output.name for output in self._session.get_outputs()}
        if missing:
            raise ModelError(f"{path}: not a YuNet model (no output {min(missing)}); give a YuNet 2023mar ONNX file")

    @property
    def provider(self) -> str:
        """The execution provider that the network really runs on."""
        return provider_of(self._session)

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        height, width = image.shape[:2]
        reduced_width, reduced_height = width, height
        if self._max_side is not None and max(width, height) > self._max_side:
            factor = self._max_side / max(width, height)
            reduced_width = max(1, round(width * factor))
            reduced_height = max(1, round(height * factor))
            image = cv2.resize(image, (reduced_width, reduced_height), interpolation=cv2.INTER_AREA)
        rows = self._detect_at_this_size(image)
        rows[:, 0:14:2] *= width / reduced_width
        rows[:, 1:14:2] *= height / reduced_height
        return [
            Detection(
                box=(row[0], row[1], row[2], row[3]),
                score=row[14],
                landmarks=tuple(zip(row[4:14:2], row[5:14:2], strict=True)),
            )
            for row in rows.tolist()
        ]

    def _detect_at_this_size(self, image: Image) -> np.ndarray:
        """float64 ``[n, 15]``: x, y, w, h, five points as x, y, and the score; best first."""
        height, width = image.shape[:2]
        columns, lines = math.ceil(width / 32), math.ceil(height / 32)
        padded = np.zeros((1, 3, lines * 32, columns * 32), np.float32)
        padded[0, :, :height, :width] = image.transpose(2, 0, 1)
        outputs = self._session.run(self._outputs, {self._session.get_inputs()[0].name: padded})

        found = []
        for i, stride in enumerate(self._STRIDES):
            cls, obj, bbox, kps = (output[0] for output in outputs[4 * i : 4 * i + 4])
            scores = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
            (kept,) = np.nonzero(scores >= self._score_threshold)
            cells_per_line = columns * 32 // stride
            cells = np.stack([kept % cells_per_line, kept // cells_per_line], axis=1)
            centres = (bbox[kept, :2] + cells) * stride
            extents = np.exp(bbox[kept, 2:]) * stride
            points = (kps[kept].reshape(-1, 5, 2) + cells[:, None]) * stride
            found.append(np.hstack([centres - extents / 2, extents, points.reshape(-1, 10), scores[kept, None]]))
        rows = np.vstack(found).astype(np.float64)
        if len(rows) == 0:
            return rows
        # cv2.FaceDetectorYN suppresses on boxes cut to whole pixels, and so do we.
        boxes = rows[:, :4].astype(np.int32).tolist()
        best = cv2.dnn.NMSBoxes(
            boxes, rows[:, 14].tolist(), self._score_threshold, self._nms_threshold, top_k=self._TOP_K
        )
        return rows[np.asarray(best, dtype=np.intp).reshape(-1)]


def _with_free_size(model: bytes, path: Path) -> bytes:
    """The model with every fixed input and output extent above 1 made symbolic, so that any picture size fits.

    Published YuNet files fix their input at 640x640 although nothing inside depends on it. A dimension is
    overwritten in place by a name of the same encoded length, so no length field of the file changes.
    """
    edited = bytearray(model)
    try:
        for role in (11, 12):  # graph.input, graph.output
            # graph, value, type, tensor type, shape, dimension, and in it the fixed extent
            for axis, field in enumerate(_protobuf.descend(model, 7, role, 2, 1, 2, 1, 1)):
                extent, _ = _protobuf.read_varint(model, field.start)
                if extent > 10:  # not the batch, the colours, or the values of a box or landmark
                    room = field.end - field.start - 1
                    name = f"{role}{axis}"[-room:].encode() if room else b""
                    edited[field.start - 1 : field.end] = bytes([0x12, len(name)]) + name
    except ValueError as error:
        raise ModelError(f"{path}: not an ONNX file ({error}); give a YuNet 2023mar ONNX file") from error
    return bytes(edited)


class DlibHog:
    """dlib's frontal face detector (HOG), from the extra ``dlib``; needs no file, finds upright frontal faces.

    Its boxes go from brow to chin. They are rescaled to the extent that YuNet gives the same face, because the
    crop margins of the shipped models refer to that (the constants: ``benchmarks/detectors.py``).

    Args:
        upsample: how often the picture is doubled first; each time halves the smallest face found, which is
            about 80 px at 0, and takes four times as long.

    Raises:
        MissingDependencyError: dlib is not installed.
    """

    identifier = "dlib-hog"
    # Extent and shift of YuNet's box in units of dlib's side: medians, see the docstring.
    _SIDE = 1.18
    _SHIFT_X = 0.0
    _SHIFT_Y = -0.04

    def __init__(self, upsample: int = 1) -> None:
        self._upsample = upsample
        _ = self._dlib_detector

    @cached_property
    def _dlib_detector(self) -> Any:
        try:
            import dlib
        except ImportError as error:
            raise MissingDependencyError(
                "detector dlib needs the package dlib: pip install 'ageinfer[dlib]'"
            ) from error
        return dlib.get_frontal_face_detector()

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        rectangles, scores, _ = self._dlib_detector.run(grey, self._upsample)
        found = [
            Detection(box=self._rescaled(r.left(), r.top(), r.width(), r.height()), score=float(score))
            for r, score in zip(rectangles, scores, strict=True)
        ]
        return sorted(found, key=lambda detection: -detection.score)

    def _rescaled(self, x: float, y: float, w: float, h: float) -> Box:
        side = max(w, h)
        centre_x, centre_y = x + w / 2 + self._SHIFT_X * side, y + h / 2 + self._SHIFT_Y * side
        extent = side * self._SIDE
        return (centre_x - extent / 2, centre_y - extent / 2, extent, extent)
