"""YuNet in ONNX Runtime: over a whole picture of any size, and near places where faces were a moment ago."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ageinfer import _protobuf
from ageinfer._opencv import cv2
from ageinfer.cropspec import DEFAULT_DETECTOR
from ageinfer.errors import ModelError
from ageinfer.modelfile import packaged_model, read_model
from ageinfer.providers import open_session, provider_of
from ageinfer.resize import reduced
from ageinfer.types import Box, Detection, Image

_KEPT_SIZES = 6
_FINEST = 8  # stride of the finest cells, in pixels
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


class YuNet:
    """YuNet (Wu et al., Machine Intelligence Research 2023), run in ONNX Runtime at any picture size.

    Gives what ``cv2.FaceDetectorYN`` gives for the same picture: the same padding, decoding and suppression.

    Args:
        model: a YuNet ONNX file; None for the one that comes with the package.
        score_threshold: faces with a lower score are dropped, 0 to 1.
        nms_threshold: of two boxes that overlap by more than this IoU the better one is kept.
        provider, threads: see `ageinfer.providers.open_session`.

    Raises:
        ModelError: the file is not there, or is not a YuNet model.
    """

    identifier = DEFAULT_DETECTOR
    _STRIDES = (_FINEST, 16, 32)
    _TOP_K = 5000
    # Near a known face: how large a face may be in the tile, how large the tile is beside the face, and how far from
    # the middle of the tile, in its sides, the centre of a face may lie. (One further out belongs to another tile.)
    _NEAR_FACE_PX = 80
    _NEAR_EXTENT = 2.0
    _NEAR_SHIFT = 0.25

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        score_threshold: float = 0.7,
        nms_threshold: float = 0.3,
        provider: str = "auto",
        threads: int | None = None,
    ) -> None:
        path = packaged_model(YUNET_FILE) if model is None else Path(model)
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._session = open_session(_with_free_size(read_model(path), path), str(path), provider, threads)
        self._memory = threading.local()
        self._input = self._session.get_inputs()[0].name
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
        return _as_detections(self._detect_at_this_size(image))

    def detect_near(self, image: Image, boxes: Sequence[Box]) -> list[Detection]:
        """Looks for faces near places where they were a moment ago.

        The surroundings of all boxes are laid side by side in one picture, so that the network runs once; faces larger
        than 80 px are reduced to that. A face that has moved by more than half of its side is not found.

        Args:
            image: uint8 BGR ``[height, width, 3]``.
            boxes: where the faces were, ``(x, y, w, h)`` in pixels.

        Returns:
            What was found, best first; a face that is seen from two places once.
        """
        if not boxes:
            return []
        sides = [max(box[2:]) for box in boxes]
        factors = [min(1.0, self._NEAR_FACE_PX / side) for side in sides]
        largest = max(side * factor for side, factor in zip(sides, factors, strict=True))
        tile = 32 * math.ceil(self._NEAR_EXTENT * largest / 32)
        columns = math.ceil(math.sqrt(len(boxes)))
        mosaic = np.zeros((math.ceil(len(boxes) / columns) * tile, columns * tile, 3), np.uint8)
        corners = np.empty((len(boxes), 2))
        for i, ((x, y, w, h), factor) in enumerate(zip(boxes, factors, strict=True)):
            part = mosaic[i // columns * tile :, i % columns * tile :][:tile, :tile]
            corners[i] = _fill(part, image, x + w / 2, y + h / 2, factor)
        rows = self._detect_at_this_size(mosaic)

        centres = rows[:, :2] + rows[:, 2:4] / 2
        cells = (centres // tile).astype(int)
        inside = (abs(centres / tile - cells - 0.5) <= self._NEAR_SHIFT).all(axis=1)
        of = cells[:, 1] * columns + cells[:, 0]
        inside &= of < len(boxes)
        rows, of, cells = rows[inside], of[inside], cells[inside]
        scales = 1 / np.array(factors)[of]
        rows[:, 2:4] *= scales[:, None]
        for axis in (0, 1):
            places = rows[:, [axis, *range(4 + axis, 14, 2)]] - (cells[:, axis] * tile)[:, None]
            rows[:, [axis, *range(4 + axis, 14, 2)]] = places * scales[:, None] + corners[of, axis][:, None]
        return _as_detections(self._suppressed(rows))

    def _detect_at_this_size(self, image: Image) -> np.ndarray:
        """float64 ``[n, 15]``: x, y, w, h, five points as x, y, and the score; best first."""
        planes = self._planes(image)
        columns = planes.shape[3]
        outputs = self._session.run(self._outputs, {self._input: planes})

        # What a kept cell says, as it stands: score, column, line, stride, box, five points.
        kept = []
        for i, stride in enumerate(self._STRIDES):
            cls, obj, bbox, kps = (output[0] for output in outputs[4 * i : 4 * i + 4])
            scores = cls[:, 0] * obj[:, 0]  # squared
            for cell in np.flatnonzero(scores >= self._score_threshold**2).tolist():
                line, column = divmod(cell, columns // stride)
                score = math.sqrt(min(float(scores[cell]), 1.0))
                kept.append([score, column, line, stride, *bbox[cell].tolist(), *kps[cell].tolist()])
        if not kept:
            return np.zeros((0, 15))
        cells = np.array(kept)
        corners, strides = cells[:, 1:3], cells[:, 3:4]
        extents = np.exp(cells[:, 6:8]) * strides
        boxes = (cells[:, 4:6] + corners) * strides - extents / 2
        points = (cells[:, 8:] + np.tile(corners, 5)) * strides
        return self._suppressed(np.hstack([boxes, extents, points, cells[:, :1]]))

    def _planes(self, image: Image) -> np.ndarray:
        """float32 ``[1, 3, height, width]``, both multiples of 32, zero beyond the picture.

        The array is kept for the next picture of this size, one for each thread: fresh memory would cost more than
        filling it.
        """
        size = image.shape[:2]
        kept: dict[tuple[int, ...], np.ndarray] = self._memory.__dict__.setdefault("planes", {})
        if size not in kept:
            if len(kept) >= _KEPT_SIZES:
                kept.clear()
            kept[size] = np.zeros((1, 3, *(32 * math.ceil(side / 32) for side in size)), np.float32)
        planes = kept[size]
        for plane, colour in zip(planes[0], cv2.split(image), strict=True):  # the fastest way, by far
            plane[: size[0], : size[1]] = colour
        return planes

    def _suppressed(self, rows: np.ndarray) -> np.ndarray:
        """Of the rows that overlap the best alone, best first."""
        if len(rows) < 2:
            return rows
        # cv2.FaceDetectorYN suppresses on boxes cut to whole pixels, and so do we.
        boxes = rows[:, :4].astype(np.int32).tolist()
        best = cv2.dnn.NMSBoxes(
            boxes, rows[:, 14].tolist(), self._score_threshold, self._nms_threshold, top_k=self._TOP_K
        )
        return rows[np.asarray(best, dtype=np.intp).reshape(-1)]


def _as_detections(rows: np.ndarray) -> list[Detection]:
    return [
        Detection(
            box=(row[0], row[1], row[2], row[3]),
            score=row[14],
            landmarks=tuple(zip(row[4:14:2], row[5:14:2], strict=True)),
        )
        for row in rows.tolist()
    ]


def _fill(tile: Image, image: Image, x: float, y: float, factor: float) -> tuple[float, float]:
    """Shows the surroundings of a point in a square tile, reduced by a factor; beyond the picture the tile stays as is.

    Returns:
        The place in the picture of the tile's top left corner.
    """
    height, width = image.shape[:2]
    side = len(tile)
    left, top = round(x - side / factor / 2), round(y - side / factor / 2)
    if factor == 1:  # small faces lie in the finest cells as they do in the whole picture, and are seen alike
        left, top = left - left % _FINEST, top - top % _FINEST
    # In pixels of the tile: the part of it that the picture covers.
    u0, v0 = max(0, math.ceil(-left * factor)), max(0, math.ceil(-top * factor))
    u1, v1 = min(side, math.floor((width - left) * factor)), min(side, math.floor((height - top) * factor))
    if u1 > u0 and v1 > v0:
        x0, y0 = left + round(u0 / factor), top + round(v0 / factor)
        x1, y1 = left + round(u1 / factor), top + round(v1 / factor)
        source = image[max(0, y0) : max(1, y1), max(0, x0) : max(1, x1)]
        if factor == 1:
            tile[v0:v1, u0:u1] = source
        else:
            tile[v0:v1, u0:u1] = reduced(source, (u1 - u0, v1 - v0))
    return left, top


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
