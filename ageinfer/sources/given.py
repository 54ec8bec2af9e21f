"""A picture as a caller has it: a path, the bytes of a file, a PIL image or an array."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ageinfer.sources.decoding import damage_of, decode, read_file
from ageinfer.types import Frame, Image

log = logging.getLogger(__name__)

Picture = str | Path | bytes | Image | Any  # Any: a PIL image, without importing PIL


def frame_of(picture: Picture, color: Literal["bgr", "rgb"] = "bgr") -> Frame:
    """Brings a picture into a frame of its own.

    Args:
        picture: a path, the bytes of a picture file, a PIL image (its EXIF orientation is applied), or an array
            uint8 ``[height, width, 3]``.
        color: the order of an array's colours.

    A damaged picture is named in a warning, and its frame has ``damaged`` set.

    Raises:
        SourceError: a file cannot be read or decoded.
        ValueError: an array has another shape or type, or the value is no picture at all.
    """
    if color not in ("bgr", "rgb"):
        raise ValueError(f"color {color!r}: use 'bgr' or 'rgb'")
    if isinstance(picture, str | os.PathLike):
        path = os.fspath(picture)
        return _decoded(read_file(path), path, path)
    if isinstance(picture, bytes | bytearray | memoryview):
        return _decoded(bytes(picture), "", "the bytes of a picture")
    array: Any = picture
    if type(picture).__module__.partition(".")[0] == "PIL":
        from PIL import ImageOps

        array, color = np.asarray(ImageOps.exif_transpose(array).convert("RGB")), "rgb"
    image = checked(array)
    return Frame("", 0, None, image if color == "bgr" else np.ascontiguousarray(image[:, :, ::-1]))


def _decoded(data: bytes, source: str, name: str) -> Frame:
    picture = decode(data, name)
    if picture.damaged:
        log.warning("%s", damage_of(name))
    return Frame(source, 0, None, picture.image, damaged=picture.damaged)


def checked(image: Any) -> Image:
    """The array itself, if it is a picture.

    Raises:
        ValueError: it has another type or shape than uint8 ``[height, width, 3]``, or no pixels.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or image.size == 0:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a frame must be a uint8 BGR array [height, width, 3], not {found}")
    return image
