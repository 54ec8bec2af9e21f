"""The camera module of a Raspberry Pi, which picamera2 reads."""

import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fake_cameras import QUICK

from ageinfer.errors import SourceError
from ageinfer.sources import open_camera, picamera

pytest_plugins = ["fake_cameras"]
pytestmark = pytest.mark.usefixtures("quick_and_clean")


class FakePicamera2:
    """As much of picamera2 as is used; its "RGB888" is blue, green, red in memory, as in the manual of picamera2."""

    face = None
    cameras = 1
    log: list[str]

    def __init__(self, number):
        if number >= self.cameras:
            raise IndexError("list index out of range")
        self.format = None

    @classmethod
    def global_camera_info(cls):
        return [{"Model": "imx708", "Num": 0}] * cls.cameras

    def create_video_configuration(self, main, controls, queue):
        assert controls == {"FrameDurationLimits": (33333, 33333)}
        return {"main": main, "queue": queue}

    def configure(self, configuration):
        self.format, self.size = configuration["main"]["format"], configuration["main"]["size"]

    def start(self):
        self.log.append("start")

    def capture_array(self, name):
        assert name == "main"
        time.sleep(0.01)
        picture = cv2.resize(self.face, self.size)
        return {"RGB888": picture, "BGR888": picture[:, :, ::-1]}[self.format]

    def stop(self):
        self.log.append("stop")

    def close(self):
        self.log.append("close")


@pytest.fixture
def raspberry_pi(tmp_path, monkeypatch, face):
    """A Raspberry Pi with a camera module at /dev/video0, and picamera2."""
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "video0").mkdir()
    (tmp_path / "video0" / "name").write_text("rp1-cfe-csi2_ch0\n")
    monkeypatch.setattr(picamera, "_MODEL", tmp_path / "model")
    monkeypatch.setattr(picamera, "_DRIVERS", tmp_path)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(FakePicamera2, "face", face)
    monkeypatch.setattr(FakePicamera2, "log", [], raising=False)
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=FakePicamera2, __spec__=1))
    return tmp_path


@pytest.mark.parametrize("driver", ["rp1-cfe-csi2_ch0", "unicam-image", "unicam"])
def test_a_camera_module_is_read_by_picamera2(raspberry_pi, driver, face, videocapture):
    (raspberry_pi / "video0" / "name").write_text(driver + "\n")
    with open_camera(0, **QUICK) as source:
        assert (source.name, source.fps) == ("camera:0", 30)
        frame = next(iter(source))
    assert frame.image.shape == (720, 1280, 3)
    assert np.array_equal(frame.image, cv2.resize(face, (1280, 720)))  # blue is blue
    assert FakePicamera2.log == ["start", "stop", "close"]
    assert not videocapture.calls  # which would have kept the device from picamera2


def test_a_camera_on_usb_of_a_raspberry_pi_is_read_by_opencv(raspberry_pi, videocapture):
    (raspberry_pi / "video0" / "name").write_text("HD Webcam C270\n")
    with open_camera(0, **QUICK) as source:
        next(iter(source))
    assert videocapture.calls
    assert not FakePicamera2.log


def test_under_libcamerify_opencv_reads_the_module(raspberry_pi, videocapture, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/usr/libexec/aarch64-linux-gnu/libcamera/v4l2-compat.so")
    with open_camera(0, **QUICK) as source:
        next(iter(source))
    assert videocapture.calls
    assert not FakePicamera2.log


def test_a_module_that_hangs_is_tried_for_five_seconds_and_any_other_camera_for_fifteen(raspberry_pi, monkeypatch):
    waited = []

    def hang(*_, open_s, **__):
        waited.append(open_s)
        raise SourceError("no frame")

    monkeypatch.setattr("ageinfer.sources.camera.LiveSource", hang)
    monkeypatch.setattr("ageinfer.sources.camera._device", lambda index: raspberry_pi / f"video{index}")
    for name, expected in (("unicam", [5, 5]), ("HD Webcam C270", [15])):
        (raspberry_pi / "video0" / "name").write_text(name)
        with pytest.raises(SourceError, match="no frame"):
            open_camera(0)
        assert waited == expected
        waited.clear()


def test_a_module_without_a_device_is_tried_by_picamera2(raspberry_pi, videocapture, monkeypatch):
    videocapture.camera.plugged = False
    monkeypatch.setattr(FakePicamera2, "cameras", 98)
    with open_camera(97, **QUICK) as source:
        assert next(iter(source)).image.shape == (720, 1280, 3)


def test_what_picamera2_does_not_know_is_tried_by_opencv(raspberry_pi, videocapture, monkeypatch):
    monkeypatch.setattr(FakePicamera2, "cameras", 0)
    with open_camera(0, **QUICK) as source:  # an HDMI receiver on the ribbon cable
        assert next(iter(source)).image.shape == (240, 320, 3)
    videocapture.camera.plugged = False
    with pytest.raises(SourceError, match=r"^camera 0 cannot be started by picamera2, which sees 0 .*ribbon cable"):
        open_camera(0)


def test_a_missing_picamera2_is_explained(raspberry_pi, videocapture, monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    videocapture.camera.plugged = False
    with pytest.raises(SourceError, match=r"^camera 0 cannot be opened.*python3-picamera2.*--system-site.*libcamerify"):
        open_camera(0)
    (raspberry_pi / "model").write_bytes(b"Some PC\0")
    with pytest.raises(SourceError, match=r"^camera 0 cannot be opened") as caught:
        open_camera(0)
    assert "picamera2" not in str(caught.value)


def test_a_picamera2_that_cannot_be_configured_is_closed(raspberry_pi, videocapture, monkeypatch):
    def fail(self, configuration):
        raise RuntimeError("busy")

    monkeypatch.setattr(FakePicamera2, "configure", fail)
    videocapture.camera.plugged = False
    with pytest.raises(SourceError, match=r"\(busy\)"):
        open_camera(0)
    assert FakePicamera2.log == ["close"]
