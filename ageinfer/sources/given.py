"""A picture as a caller has it: a path, the bytes of a file, a PIL image or an array."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ageinfer.sources.pictures import decode_picture, read_picture
from ageinfer.types import Frame, Image

Picture = str | Path | bytes | Image | Any  # Any: a PIL image, without importing PIL


def frame_of(picture: Picture, color: Literal["bgr", "rgb"] = "bgr") -> Frame:
    """Brings a picture into a frame of its own.

    Args:
        picture: a path, the bytes of a picture file, a PIL image (its EXIF orientation is applied), or an array
            uint8 ``[height, width, 3]``.
        color: the order of an array's colours.

    Raises:
        SourceError: a file cannot be read or decoded.
        ValueError: an array has another shape or type, or the value is no picture at all.
    """
    if color not in ("bgr", "rgb"):
        raise ValueError(f"color {color!r}: use 'bgr' or 'rgb'")
    if isinstance(picture, str | os.PathLike):
        return Frame(os.fspath(picture), 0, None, read_picture(os.fspath(picture)))
    if isinstance(picture, bytes | bytearray | memoryview):
        return Frame("", 0, None, decode_picture(bytes(picture), "the bytes of a picture"))
    array: Any = picture
    if type(picture).__module__.partition(".")[0] == "PIL":
        from PIL import ImageOps

        array, color = np.asarray(ImageOps.exif_transpose(array).convert("RGB")), "rgb"
    image = checked(array)
    return Frame("", 0, None, image if color == "bgr" else np.ascontiguousarray(image[:, :, ::-1]))


def checked(image: Any) -> Image:
    """The array itself, if it is a picture.

    Raises:
        ValueError: it has another type or shape than uint8 ``[height, width, 3]``, or no pixels.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or image.size == 0:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a frame must be a uint8 BGR array [height, width, 3], not {found}")
    return image
