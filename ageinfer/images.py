"""Imports OpenCV for the whole package and changes the size and form of pictures.

Importing OpenCV fails if system libraries are missing; the error then names the package to install.
"""

from typing import Any

import numpy as np

from ageinfer.errors import MissingDependencyError
from ageinfer.types import Image

_DEBIAN_PACKAGES = {
    "libGL.so": "libgl1",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
    "libxcb": "libxcb1",
    "libX11": "libx11-6",
    "libSM": "libsm6",
    "libXext": "libxext6",
}


def explain_import_error(error: ImportError) -> str:
    """Returns the message for a failed ``import cv2``: what is missing and how to install it."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
        return "OpenCV is not installed: pip install opencv-python"
    package = next((deb for lib, deb in _DEBIAN_PACKAGES.items() if lib in str(error)), "libgl1 libglib2.0-0")
    return f"OpenCV cannot be loaded ({error}); on Debian or Ubuntu: apt-get install {package}"


try:
    import cv2
except ImportError as import_error:
    raise MissingDependencyError(explain_import_error(import_error)) from import_error

__all__ = ["as_bgr", "cv2", "explain_import_error", "reduced"]

_TO_BGR = {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR}


def reduced(image: Image, size: tuple[int, int]) -> Image:
    """Resizes a picture: area averaging by a whole factor first, then bilinear interpolation to the exact size.

    Area averaging by a fractional factor is several times slower and no better for finding faces. The interpolation is
    the one that OpenCV computes in whole numbers: its faster one differs by one level from processor to processor,
    which moves boxes by a third of a pixel.

    Args:
        image: uint8 ``[height, width, 3]``.
        size: ``(width, height)`` of the result in pixels; it may be larger than the picture.

    Returns:
        uint8 ``[size[1], size[0], 3]``; the picture itself if it has that size already.

    Example:
        >>> reduced(np.zeros((480, 640, 3), np.uint8), (100, 75)).shape
        (75, 100, 3)
    """
    height, width = image.shape[:2]
    factor = min(width // size[0], height // size[1])
    if factor > 1:
        whole = (width // factor, height // factor)
        # Averages are over whole pixels, so the picture is cut to a multiple of the factor.
        cut = image[: whole[1] * factor, : whole[0] * factor]
        image = cv2.resize(cut, whole, interpolation=cv2.INTER_AREA)
    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)


def as_bgr(image: Any) -> Image:
    """Converts a grey, BGR or BGRA picture of 8 or 16 bits to uint8 BGR ``[height, width, 3]``.

    Args:
        image: uint8 or uint16; grey ``[height, width]`` or ``[height, width, 1]``, BGR ``[height, width, 3]`` or BGRA
            ``[height, width, 4]``. Of 16 bits the upper 8 are kept, as OpenCV does when it reads picture files.

    Returns:
        uint8 BGR ``[height, width, 3]``, contiguous; the same array if it has this form already.

    Raises:
        ValueError: the picture is no array, or has another type or shape.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the capture gives a {type(image).__name__} and not a picture")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or image.size == 0:
        raise ValueError(f"the capture gives pictures of {image.dtype} {list(image.shape)}, which cannot be converted")
    if channels == 3:
        return np.ascontiguousarray(image)
    converted: Image = cv2.cvtColor(np.ascontiguousarray(image), _TO_BGR[channels])
    return converted
