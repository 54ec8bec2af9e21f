"""Opens the cameras of this machine."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources import picamera
from ageinfer.sources.base import Source
from ageinfer.sources.live import LiveSource

_CHECK = "check that it is plugged in, that no other program uses it and that you may read /dev/video*"


def open_camera(index: int, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0) -> Source:
    """Opens a camera by its number; the first camera is 0.

    OpenCV reads the camera. On a Raspberry Pi, picamera2 reads a camera module that OpenCV cannot read.

    Args:
        index: the number of the camera, 0 or more.
        stall_s: the camera counts as lost after this many seconds without a frame.
        reconnect_for_s: a lost camera is opened again and again for this many seconds. 0: never; None: for ever.

    Returns:
        A live source: it gives the newest frame, uint8 BGR.

    Raises:
        SourceError: there is no such camera, it gives no picture, or another program uses it.

    Example:
        >>> with open_camera(0) as source:  # doctest: +SKIP
        ...     frame = next(iter(source))
    """
    if index < 0:  # OpenCV crashes
        raise SourceError(f"camera {index}: cameras are numbered from 0")
    live = partial(LiveSource, f"camera:{index}", stall_s=stall_s, reconnect_for_s=reconnect_for_s, check=_CHECK)
    ways = [partial(_open_by_opencv, index)]
    module = picamera.is_module(index)
    is_pi = module or (picamera.is_raspberry_pi() and not _device(index).exists())
    if is_pi and picamera.is_importable():
        # picamera2 comes first for a camera module: OpenCV would open its raw device, get no picture, and block
        # picamera2 for the 10 s that it waits. OpenCV is tried after it: picamera2 does not know an HDMI receiver.
        ways.insert(0 if module else 1, partial(picamera.open_capture, index))
    errors = []
    for way in ways:
        try:
            return live(way, open_s=5.0 if module else 15.0)
        except SourceError as error:
            errors.append(error)
    if is_pi and len(ways) == 1:
        raise SourceError(f"{errors[0]}; {picamera.MISSING}")
    raise errors[0]


def open_device(path: str | Path, *, stall_s: float = 5.0, reconnect_for_s: float | None = 60.0) -> Source:
    """Opens a camera by its device, such as ``/dev/video2`` or a link to it in ``/dev/v4l/by-id``.

    Args:
        path: the path of the device.
        stall_s: see `open_camera`.
        reconnect_for_s: see `open_camera`.

    Raises:
        SourceError: the device is not a camera, gives no picture, or another program uses it.
    """
    device = Path(path).resolve()
    number = device.name.removeprefix("video")
    if device.parent != Path("/dev") or not number.isdecimal():
        raise SourceError(f"{path}: this device is not a camera; give a /dev/video device, a file or a folder")
    if picamera.is_module(int(number)):
        return open_camera(int(number), stall_s=stall_s, reconnect_for_s=reconnect_for_s)
    return LiveSource(
        str(path), partial(_open_by_opencv, str(path)), stall_s=stall_s, reconnect_for_s=reconnect_for_s, check=_CHECK
    )


def _device(index: int) -> Path:
    return Path(f"/dev/video{index}")


def _open_by_opencv(camera: int | str) -> Any:
    is_path = isinstance(camera, str) and sys.platform == "linux"
    capture = cv2.VideoCapture(camera, cv2.CAP_V4L2) if is_path else cv2.VideoCapture(camera)
    if not capture.isOpened():
        raise _missing(camera)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no queue of old frames where the driver allows it
    return capture


def _missing(camera: int | str) -> SourceError:
    there = ", ".join(str(p)[10:] for p in sorted(Path("/dev").glob("video*"))) or "none"
    what = f"camera {camera}" if isinstance(camera, int) else camera
    return SourceError(f"{what} cannot be opened (cameras seen here: {there}); {_CHECK}")
