"""YuNet in ONNX Runtime: over a whole picture of any size, and near places where faces were a moment ago."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ageinfer.crop.spec import DEFAULT_DETECTOR
from ageinfer.engine import protobuf
from ageinfer.engine.modelfile import packaged_model, read_model
from ageinfer.engine.sessions import open_network
from ageinfer.errors import ModelError
from ageinfer.images import cv2, reduced
from ageinfer.types import Box, Detection, Image

_KEPT_BYTES = 48 << 20  # of planes; those of a frame of 1920 x 1080 take half of it
_FINEST = 8  # stride of the finest cells, in pixels
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


class YuNet:
    """YuNet (Wu et al., Machine Intelligence Research 2023), run in ONNX Runtime at any picture size.

    Gives what ``cv2.FaceDetectorYN`` gives for the same picture: the same padding, decoding and suppression.

    Args:
        model: a YuNet ONNX file; None for the one that comes with the package.
        score_threshold: faces with a lower score are dropped, 0 to 1.
        nms_threshold: of two boxes that overlap by more than this IoU the better one is kept.
        provider, threads: see `ageinfer.engine.sessions.open_session`.

    Attributes:
        network: that it runs.

    Raises:
        ModelError: the file is not there, or is not a YuNet model.
    """

    identifier = DEFAULT_DETECTOR
    _STRIDES = (_FINEST, 16, 32)
    _TOP_K = 5000
    # Near a known face: how large a face may be in the tile, how large the tile is beside a face of that size and
    # beside smaller ones, which are missed with less round them, and how far from the middle of the tile, in its sides,
    # the centre of a face may lie. (One further out belongs to another tile.)
    _NEAR_FACE_PX = 80
    _NEAR_EXTENT, _NEAR_EXTENT_SMALL = 1.6, 2.0
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
        self.network = open_network(_with_free_size(read_model(path), path), str(path), provider, threads)
        self._memory = threading.local()
        self._input = self.network.inputs[0][0]
        self._outputs = [f"{kind}_{stride}" for stride in self._STRIDES for kind in ("cls", "obj", "bbox", "kps")]
        missing = set(self._outputs) - set(self.network.outputs)
        if missing:
            raise ModelError(f"{path}: not a YuNet model (no output {min(missing)}); give a YuNet 2023mar ONNX file")

    @property
    def provider(self) -> str:
        """The execution provider that the network really runs on."""
        return self.network.provider

    def detect(self, image: Image) -> list[Detection]:
        """Finds the faces of a uint8 BGR picture ``[height, width, 3]``, best score first."""
        planes = self._planes(image)
        outputs = self.network.run(self._outputs, {self._input: planes})
        boxes: list[Box] = []  # a face is a handful of cells: plain numbers are faster here than arrays of them
        scores: list[float] = []
        cells: list[tuple[int, int, int, int]] = []  # level, place in its outputs, line, column
        for i, stride in enumerate(self._STRIDES):
            cls, obj, bbox = outputs[4 * i : 4 * i + 3]
            squares = cls[0, :, 0] * obj[0, :, 0]
            for cell in (squares >= self._score_threshold**2).nonzero()[0].tolist():
                line, column = divmod(cell, planes.shape[3] // stride)
                dx, dy, log_w, log_h = bbox[0, cell].tolist()
                w, h = math.exp(log_w) * stride, math.exp(log_h) * stride
                boxes.append(((column + dx) * stride - w / 2, (line + dy) * stride - h / 2, w, h))
                scores.append(math.sqrt(min(float(squares[cell]), 1.0)))
                cells.append((i, cell, line, column))
        found = []
        for best in self._best(boxes, scores):
            i, cell, line, column = cells[best]
            stride = self._STRIDES[i]
            points = outputs[4 * i + 3][0, cell].tolist()
            landmarks = tuple(
                ((column + px) * stride, (line + py) * stride) for px, py in zip(points[::2], points[1::2], strict=True)
            )
            found.append(Detection(boxes[best], scores[best], landmarks))
        return found

    def detect_near(self, image: Image, boxes: Sequence[Box]) -> list[Detection]:
        """Looks for faces near places where they were a moment ago.

        The surroundings of all boxes are laid side by side in one picture, so that the network runs once; faces larger
        than 80 px are reduced to that. A face that has moved by more than two fifths of its side is not found.

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
        extent = max(
            (self._NEAR_EXTENT_SMALL if factor == 1 else self._NEAR_EXTENT) * side * factor
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
        best = self._best([detection.box for detection in found], [detection.score for detection in found])
        return [found[i] for i in best]

    def _planes(self, image: Image) -> np.ndarray:
        """float32 ``[1, 3, height, width]``, both multiples of 32, zero beyond the picture.

        Unless it is large, the array is kept for the next picture of this size, one for each thread: fresh memory would
        cost more than filling it.
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
        # The fastest way, by far. What is returned are the kept arrays where the picture is what it should be.
        for plane, colour in zip(planes[0], cv2.split(image, colours), strict=True):
            plane[: size[0], : size[1]] = colour
        return planes

    def _best(self, boxes: Sequence[Box], scores: Sequence[float]) -> Sequence[int]:
        """Of boxes that overlap the best alone: their places, best first."""
        if len(boxes) < 2:
            return range(len(boxes))
        # cv2.FaceDetectorYN suppresses on boxes cut to whole pixels, and so do we.
        whole = [list(map(int, box)) for box in boxes]
        best = cv2.dnn.NMSBoxes(whole, scores, self._score_threshold, self._nms_threshold, top_k=self._TOP_K)
        return [int(i) for i in best]


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
            for axis, field in enumerate(protobuf.descend(model, 7, role, 2, 1, 2, 1, 1)):
                extent, _ = protobuf.read_varint(model, field.start)
                if extent > 10:  # not the batch, the colours, or the values of a box or landmark
                    room = field.end - field.start - 1
                    name = f"{role}{axis}"[-room:].encode() if room else b""
                    edited[field.start - 1 : field.end] = bytes([0x12, len(name)]) + name
    except ValueError as error:
        raise ModelError(f"{path}: not an ONNX file ({error}); give a YuNet 2023mar ONNX file") from error
    return bytes(edited)
