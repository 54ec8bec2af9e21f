"""Reads the camera module of a Raspberry Pi with picamera2, because OpenCV cannot read it."""

import importlib.util
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.types import Image

MISSING = (
    "the camera module of a Raspberry Pi needs picamera2: apt-get install python3-picamera2, and make the environment "
    "with python3 -m venv --system-site-packages; or start this program through libcamerify"
)
_MODEL = Path("/proc/device-tree/model")
_DRIVERS = Path("/sys/class/video4linux")
_MODULE_DRIVERS = ("unicam", "rp1-cfe")  # the receivers of the ribbon cable: up to Raspberry Pi 4, and 5
_SIZE = (1280, 720)
_FPS = 30


def is_raspberry_pi() -> bool:
    """Tells whether this machine is a Raspberry Pi."""
    try:
        return b"Raspberry Pi" in _MODEL.read_bytes()
    except OSError:
        return False


def is_module(index: int) -> bool:
    """Tells whether ``/dev/video<index>`` is the raw device of a camera module, which OpenCV cannot read."""
    if not is_raspberry_pi() or "v4l2-compat" in os.environ.get("LD_PRELOAD", ""):  # libcamerify is in use
        return False
    try:
        return (_DRIVERS / f"video{index}" / "name").read_text().startswith(_MODULE_DRIVERS)
    except OSError:
        return False


def is_importable() -> bool:
    """Tells whether this Python can find the package picamera2."""
    try:
        return importlib.util.find_spec("picamera2") is not None
    except ValueError:  # the module is loaded and has no __spec__
        return True


def open_capture(index: int) -> "PiCapture":
    """Starts a camera module by its number, 0 for the first.

    Raises:
        SourceError: picamera2 cannot be loaded, or it cannot start the camera.
    """
    try:
        picamera2 = import_module("picamera2")
    except ImportError as error:
        raise SourceError(f"camera {index}: picamera2 cannot be loaded ({error}); {MISSING}") from error
    try:
        return PiCapture(picamera2.Picamera2(index))
    except (RuntimeError, IndexError) as error:
        seen = len(picamera2.Picamera2.global_camera_info())
        raise SourceError(
            f"camera {index} cannot be started by picamera2, which sees {seen} cameras ({error}); check the ribbon "
            "cable, and that no other program uses it"
        ) from error


class PiCapture:
    """Gives a started `Picamera2` the methods of `cv2.VideoCapture`."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera
        try:
            # "RGB888" of libcamera is a 24-bit word with red on top, so the bytes in memory are blue, green, red.
            # Without the queue, a frame is never older than the request for it.
            main = {"format": "RGB888", "size": _SIZE}
            period_us = 1_000_000 // _FPS
            limits = {"FrameDurationLimits": (period_us, period_us)}
            camera.configure(camera.create_video_configuration(main=main, controls=limits, queue=False))
            camera.start()
        except BaseException:
            camera.close()
            raise

    def isOpened(self) -> bool:  # noqa: N802, as OpenCV calls it
        return self._camera is not None

    def get(self, prop: int) -> float:
        return float(_FPS) if prop == cv2.CAP_PROP_FPS else 0.0

    def set(self, prop: int, value: float) -> bool:
        return False

    def read(self) -> tuple[bool, Image | None]:
        """Waits for the next frame; returns True and the frame, uint8 BGR ``[720, 1280, 3]``, or False and None."""
        if self._camera is None:
            return False, None
        return True, self._camera.capture_array("main")

    def release(self) -> None:
        if self._camera is not None:
            camera, self._camera = self._camera, None
            camera.stop()
            camera.close()
