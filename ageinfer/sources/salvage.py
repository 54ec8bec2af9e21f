"""Looks at damaged pictures by FFmpeg, which tells of errors if it is asked to, and overlooks them silently if not."""

from typing import Any

import av
import numpy as np

from ageinfer.sources.formats import MOST_PIXELS
from ageinfer.types import Image


def is_faultless(jpeg: bytes) -> bool:
    """Whether FFmpeg meets no error in the data of a JPEG; it decodes the picture at an eighth of its size."""
    try:
        frame = _decoded(jpeg, "mjpeg", {"err_detect": "explode", "lowres": "3"})
    except av.FFmpegError:
        return False
    return frame is not None and not frame.is_corrupt


def decoded_in_spite(data: bytes, codec: str) -> Image | None:
    """Decodes a picture as well as its data allow, as uint8 BGR that is not turned; None if that is not possible.

    Args:
        data: the file.
        codec: FFmpeg's name of its format, ``mjpeg`` or ``png``.
    """
    try:
        frame = _decoded(data, codec, {"err_detect": "ignore_err", "flags": "output_corrupt"})
    except av.FFmpegError:
        return None
    if frame is None:
        return None
    image: Any = frame.to_ndarray(format="bgr24")
    return np.ascontiguousarray(image)


def _decoded(data: bytes, codec: str, options: dict[str, str]) -> av.VideoFrame | None:
    context: Any = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    context.options = {"max_pixels": str(MOST_PIXELS), **options}  # its header may have been read in another way
    frames = context.decode(av.Packet(data)) + context.decode(None)
    return frames[0] if frames else None
