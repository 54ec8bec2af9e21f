"""Cameras that tests can unplug and hang, and helpers for the sources that read them."""

import gc
import threading
import time
from types import SimpleNamespace

import cv2
import pytest
from mjpeg import marked

from ageinfer.sources import LiveSource

QUICK = {"stall_s": 0.3, "reconnect_for_s": 10}


@pytest.fixture
def quick_and_clean(monkeypatch):
    """Short pauses; and at the end no thread that reads is left."""
    monkeypatch.setattr(LiveSource, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("ageinfer.sources.connection._FAILED_READS_S", 0.1)
    monkeypatch.setattr("ageinfer.sources.connection._READ_AGAIN_S", 0.003)
    yield
    for camera in Camera.all_of_this_test:
        camera.hang.set()
    Camera.all_of_this_test.clear()
    if reading_threads():
        gc.collect()
        wait_for(lambda: not reading_threads())


def reading_threads():
    return [t.name for t in threading.enumerate() if t.name.startswith(("capture", "opening"))]


def wait_for(condition, seconds=10):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, reading_threads()
        time.sleep(0.002)


@pytest.fixture
def face(astronaut):
    """A real picture, 320 x 240."""
    return cv2.resize(astronaut[:384], (320, 240), interpolation=cv2.INTER_AREA)


class Camera:
    """A camera, and the captures that were opened on it.

    Attributes:
        plugged: whether it can be opened and read.
        hang: while it is not set, reading waits, as it does with a driver that has hung.
        made: how many frames it has made.
        captures: all that were opened.
    """

    all_of_this_test: list["Camera"] = []  # noqa: RUF012

    def __init__(self, picture, period_s=0.005, fps=30.0):
        self.picture = picture if callable(picture) else lambda number: marked(picture, number)
        self.period_s, self.fps = period_s, fps
        self.plugged = True
        self.hang = threading.Event()
        self.hang.set()
        self.made = 0
        self.captures = []
        self.reads_that_fail = 0
        self.all_of_this_test.append(self)

    def open(self):
        self.captures.append(FakeCapture(self))
        return self.captures[-1]


class FakeCapture:
    def __init__(self, camera):
        self.camera, self.opened, self.released = camera, camera.plugged, 0

    def isOpened(self):  # noqa: N802
        return self.opened

    def set(self, prop, value):
        return False  # as drivers do that have no buffer to set

    def get(self, prop):
        return self.camera.fps if prop == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        time.sleep(self.camera.period_s)
        self.camera.hang.wait()
        if self.camera.reads_that_fail > 0:
            self.camera.reads_that_fail -= 1
            return False, None
        if not self.camera.plugged:
            return False, None
        image = self.camera.picture(self.camera.made)
        self.camera.made += 1
        return True, image

    def release(self):
        self.released += 1


def live(camera, **options):
    return LiveSource("camera:3", camera.open, **QUICK | options)


def take(source, count):
    """The next frames of a source that is an iterator already."""
    return [next(source) for _ in range(count)]


def check_no_secret(text):
    assert not set(text) & set("ⓧⓨ")
    for piece in ("%E2%93", "s@cr", "s%40cr", "user", "e#t"):
        assert piece not in text


@pytest.fixture
def videocapture(face, monkeypatch):
    """Stands for `cv2.VideoCapture`; gives the arguments and the properties set of each capture."""
    camera = Camera(face)
    calls = []

    def open_capture(*arguments):
        capture = camera.open()
        properties = {}
        capture.set = properties.__setitem__
        calls.append((arguments, properties))
        return capture

    monkeypatch.setattr(cv2, "VideoCapture", open_capture)
    return SimpleNamespace(camera=camera, calls=calls)
