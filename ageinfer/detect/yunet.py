"""Runs the face detector YuNet on pictures of any size, or near places where faces were a moment ago."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ageinfer.crop.spec import DEFAULT_DETECTOR
from ageinfer.engine import protobuf
from ageinfer.engine.graph import check_graph
from ageinfer.engine.modelfile import packaged_model, read_model
from ageinfer.engine.sessions import interruptible, open_network
from ageinfer.errors import ModelError
from ageinfer.images import cv2, reduced
from ageinfer.types import Box, Detection, Image

_KEPT_BYTES = 48 << 20  # for planes; those of a frame of 1920 x 1080 pixels take half of it
_FINEST = 8  # the stride of the finest cells, in pixels
_TRIAL_SIDE = 64
# No face lies so many cells away from the one that found it, nor is it so much larger or smaller (logarithm).
_FAR, _LOG_FAR = 1e4, 15.0
_REMEDY = "give a YuNet 2023mar ONNX file"
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


class YuNet:
    """The face detector YuNet (Wu et al., Machine Intelligence Research 2023) for pictures of any size.

    It gives the same faces as ``cv2.FaceDetectorYN``: padding, decoding and suppression are the same. The score is 0 to
    1. Every face has five landmarks.

    Args:
        model: the path of a YuNet ONNX file; None for the file that comes with the package.
        score_threshold: faces with a lower score are dropped, 0 to 1.
        nms_threshold: of two boxes that overlap by more than this IoU, only the better one is kept.
        provider: the execution provider, see `ageinfer.engine.sessions.open_session`.
        threads: the number of threads, or None for the default, see there.

    Attributes:
        network: the network that runs, see `ageinfer.engine.sessions`.

    Raises:
        ModelError: the file does not exist, or is not a YuNet model.

    Example:
        >>> import cv2
        >>> [face] = YuNet(provider="cpu").detect(cv2.imread("samples/astronaut.jpg"))
        >>> face.score > 0.9
        True
    """

    identifier = DEFAULT_DETECTOR
    _STRIDES = (_FINEST, 16, 32)
    _TOP_K = 5000
    # For a search near known faces: the largest size of a face in its tile; the side of a tile in units of a face of
    # that size, and of smaller faces, which need more around them; and the largest distance of the centre of a face
    # from the middle of its tile, in sides of the tile. (A face further out belongs to another tile.)
    _NEAR_FACE_PX = 80
    _NEAR_EXTENT, _NEAR_EXTENT_SMALL = 1.6, 2.0
    _NEAR_SHIFT = 0.25
    _NEAR_AT_ONCE = 256  # 16 x 16 tiles of at most 160 pixels

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
        self._name = str(path)
        data = _checked(read_model(path), path)
        self.network = interruptible(lambda: open_network(data, self._name, provider, threads))
        self._memory = threading.local()
        self._input = self.network.inputs[0][0]
        self._outputs = [f"{kind}_{stride}" for stride in self._STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        missing = set(self._outputs) - set(self.network.outputs)
        if missing:
            raise ModelError(f"{path}: this is not a YuNet model (no output {min(missing)}); {_REMEDY}")
        interruptible(lambda: self._run(np.zeros((1, 3, _TRIAL_SIDE, _TRIAL_SIDE), np.float32)))

    @property
    def provider(self) -> str:
        """The execution provider on which the network runs, such as ``cpu``."""
        return self.network.provider

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a picture, uint8 BGR ``[height, width, 3]``; returns them best score first."""
        planes = self._planes(image)
        outputs = self._run(planes)
        boxes: list[Box] = []  # a face has only a few cells, for which plain numbers are faster than arrays
        scores: list[float] = []
        cells: list[tuple[int, int, int, int]] = []  # level, place in its outputs, line, column
        for i, stride in enumerate(self._STRIDES):
            cls, obj, bbox = outputs[4 * i : 4 * i + 3]
            squares = cls[0, :, 0] * obj[0, :, 0]
            for cell in (squares >= self._score_threshold**2).nonzero()[0].tolist():
                line, column = divmod(cell, planes.shape[3] // stride)
                dx, dy, log_w, log_h = bbox[0, cell].tolist()
                if not (
                    abs(dx) < _FAR and abs(dy) < _FAR and abs(log_w) < _LOG_FAR and abs(log_h) < _LOG_FAR
                ):  # a NaN, too
                    raise ModelError(f"{self._name}: answers with a box of {bbox[0, cell].tolist()}; {_REMEDY}")
                w, h = math.exp(log_w) * stride, math.exp(log_h) * stride
                boxes.append(((column + dx) * stride - w / 2, (line + dy) * stride - h / 2, w, h))
                scores.append(math.sqrt(min(float(squares[cell]), 1.0)))
                cells.append((i, cell, line, column))
        found = []
        for best in self._best(boxes, scores):
            i, cell, line, column = cells[best]
            stride = self._STRIDES[i]
            points = outputs[4 * i + 3][0, cell].tolist()
            if not all(abs(value) < _FAR for value in points):
                raise ModelError(f"{self._name}: answers with a landmark of {points}; {_REMEDY}")
            landmarks = tuple(
                ((column + px) * stride, (line + py) * stride) for px, py in zip(points[::2], points[1::2], strict=True)
            )
            found.append(Detection(boxes[best], scores[best], landmarks))
        return found

    def detect_near(self, image: Image, boxes: Sequence[Box]) -> list[Detection]:
        """Finds faces near places where they were a moment ago.

        The surroundings of all boxes are put side by side into one picture, so that the network runs once; those of
        more than 256 boxes into several, so that memory does not grow with a crowd. Faces larger than 80 pixels are
        reduced to 80 pixels. A face that has moved by more than two fifths of its side is not found.

        Args:
            image: uint8 BGR ``[height, width, 3]``.
            boxes: the earlier boxes of the faces, ``(x, y, w, h)`` in pixels.

        Returns:
            The faces, best score first, each once; boxes and landmarks are in pixels of the picture.
        """
        found: list[Detection] = []
        for start in range(0, len(boxes), self._NEAR_AT_ONCE):
            found += self._near(image, boxes[start : start + self._NEAR_AT_ONCE])
        best = self._best([detection.box for detection in found], [detection.score for detection in found])
        return [found[i] for i in best]

    def _near(self, image: Image, boxes: Sequence[Box]) -> list[Detection]:
        """Finds faces near some boxes; one that lies near two of them may be found twice."""
        sides = [max(box[2:]) for box in boxes]
        factors = [min(1.0, self._NEAR_FACE_PX / side) for side in sides]
        # Not side * factor, whose last digit would decide between tiles of 128 and of 160 pixels.
        extent = max(
            self._NEAR_EXTENT_SMALL * side if factor == 1 else self._NEAR_EXTENT * self._NEAR_FACE_PX
            for side, factor in zip(sides, factors, strict=True)
        )
        tile = 32 * math.ceil(extent / 32)
        columns = math.ceil(math.sqrt(len(boxes)))
        mosaic = np.zeros((math.ceil(len(boxes) / columns) * tile, columns * tile, 3), np.uint8)
        corners = []
        for i, ((x, y, w, h), factor) in enumerate(zip(boxes, factors, strict=True)):
            part = mosaic[i // columns * tile :, i % columns * tile :][:tile, :tile]
            corners.append(_fill(part, image, x + w / 2, y + h / 2, factor))
        found = []
        for detection in self.detect(mosaic):
            x, y, w, h = detection.box
            column, line = math.floor((x + w / 2) / tile), math.floor((y + h / 2) / tile)
            left, top = column * tile, line * tile
            away = max(abs(x + w / 2 - left - tile / 2), abs(y + h / 2 - top - tile / 2))
            of = line * columns + column
            if away <= self._NEAR_SHIFT * tile and of < len(boxes):
                scale = 1 / factors[of]
                shift = (corners[of][0] - left * scale, corners[of][1] - top * scale)
                found.append(detection.moved((scale, scale), shift))
        return found

    def _run(self, planes: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self.network.run(self._outputs, {self._input: planes})
        cells = [planes.shape[2] // stride * (planes.shape[3] // stride) for stride in self._STRIDES]
        expected = [(1, count, values) for count in cells for values in (1, 1, 4, 10)]
        for name, output, shape in zip(self._outputs, outputs, expected, strict=True):
            if not isinstance(output, np.ndarray) or output.shape != shape or output.dtype != np.float32:
                found = getattr(output, "shape", type(output).__name__)
                raise ModelError(f"{self._name}: answers with {name} {found} instead of {shape}; {_REMEDY}")
        return outputs

    def _planes(self, image: Image) -> np.ndarray:
        """Returns the network input, float32 BGR ``[1, 3, height, width]``, padded with 0 to multiples of 32.

        Each thread keeps arrays that are not too large for the next picture of the same size: new memory would cost
        more than filling it.
        """
        size = image.shape[:2]
        kept: dict[tuple[int, ...], tuple[np.ndarray, list[Image]]] = self._memory.__dict__.setdefault("planes", {})
        if size in kept:
            planes, colours = kept[size]
        else:
            planes = np.zeros((1, 3, *(32 * math.ceil(side / 32) for side in size)), np.float32)
            colours = [np.empty(size, np.uint8) for _ in range(3)]
            if planes.nbytes <= _KEPT_BYTES:
                if planes.nbytes + sum(other.nbytes for other, _ in kept.values()) > _KEPT_BYTES:
                    kept.clear()
                kept[size] = planes, colours
        # cv2.split is by far the fastest way. It returns the kept arrays if the picture is uint8.
        for plane, colour in zip(planes[0], cv2.split(image, colours), strict=True):
            plane[: size[0], : size[1]] = colour
        return planes

    def _best(self, boxes: Sequence[Box], scores: Sequence[float]) -> Sequence[int]:
        """Returns the indices of the boxes that overlap no better box, best score first."""
        if len(boxes) < 2:
            return range(len(boxes))
        # As in cv2.FaceDetectorYN, the boxes are cut to whole pixels before the suppression.
        whole = [list(map(int, box)) for box in boxes]
        best = cv2.dnn.NMSBoxes(whole, scores, self._score_threshold, self._nms_threshold, top_k=self._TOP_K)
        return [int(i) for i in best]


def _fill(tile: Image, image: Image, x: float, y: float, factor: float) -> tuple[float, float]:
    """Fills a square tile with the surroundings of a point of a picture.

    Args:
        tile: uint8 BGR ``[side, side, 3]``; where it reaches beyond the picture it is not changed.
        image: uint8 BGR ``[height, width, 3]``.
        x: the point in pixels of the picture.
        y: see `x`.
        factor: pixels of the tile for one pixel of the picture, at most 1.

    Returns:
        The place of the top left corner of the tile in the picture, ``(x, y)`` in pixels.
    """
    height, width = image.shape[:2]
    side = len(tile)
    left, top = round(x - side / factor / 2), round(y - side / factor / 2)
    if factor == 1:  # a small face then lies in its cells as in the whole picture and looks the same
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


def _checked(model: bytes, path: Path) -> bytes:
    """Returns a YuNet model that takes pictures of any size.

    Raises:
        ModelError: the file is not an ONNX file, or its graph may not be used.
    """
    free = _with_free_size(model, path)
    try:
        check_graph(model, standard_only=False)
    except ValueError as error:
        raise ModelError(f"{path}: {error}; {_REMEDY}") from error
    return free


def _with_free_size(model: bytes, path: Path) -> bytes:
    """Makes the fixed width and height of a YuNet model symbolic, so that a picture of any size fits.

    Published YuNet files fix their input at 640 x 640 pixels, although nothing in them depends on it. A dimension is
    overwritten by a name of the same encoded length, so no length field of the file changes.

    Raises:
        ModelError: the file is not an ONNX file.
    """
    edited = bytearray(model)
    try:
        for role in (11, 12):  # graph.input, graph.output
            # graph, value, type, tensor type, shape, dimension, and in it the fixed extent
            for axis, field in enumerate(protobuf.descend(model, 7, role, 2, 1, 2, 1, 1)):
                extent, _ = protobuf.read_varint(model, field.start)
                if extent > 10:  # not the batch, the colours, or the values of a box or landmark
                    room = field.end - field.start - 1
                    name = f"{role}{axis}"[-room:].encode() if room else b""
                    edited[field.start - 1 : field.end] = bytes([0x12, len(name)]) + name
    except ValueError as error:
        raise ModelError(f"{path}: this is not an ONNX file ({error}); give a YuNet 2023mar ONNX file") from error
    return bytes(edited)
