"""Cameras opened by number, by device and by a GStreamer pipeline."""

from pathlib import Path

import cv2
import pytest
from fake_cameras import QUICK, check_no_secret

from ageinfer.errors import SourceError
from ageinfer.sources import open_camera, open_source

pytest_plugins = ["fake_cameras"]
pytestmark = pytest.mark.usefixtures("quick_and_clean")


def test_a_camera_is_opened_by_its_number_without_a_queue(videocapture):
    with open_camera(2, **QUICK) as source:
        next(iter(source))
    assert source.name == "camera:2"
    assert videocapture.calls == [((2,), {cv2.CAP_PROP_BUFFERSIZE: 1})]


def test_a_camera_is_opened_by_its_device(videocapture, tmp_path, monkeypatch):
    link = tmp_path / "usb-camera"
    link.symlink_to("/dev/video41")
    from ageinfer.sources.camera import open_device

    monkeypatch.setattr("sys.platform", "linux")
    with open_device(link, **QUICK) as source:
        frame = next(iter(source))
    assert source.name == frame.source == str(link)
    assert videocapture.calls == [((str(link), cv2.CAP_V4L2), {cv2.CAP_PROP_BUFFERSIZE: 1})]
    videocapture.camera.plugged = False
    with pytest.raises(SourceError, match=rf"^{link} cannot be opened \(cameras seen here: .*\); check"):
        open_device(link)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/tty"])
def test_a_device_that_is_no_camera_is_refused(device):
    with pytest.raises(SourceError, match=f"^{device}: this device is not a camera; give"):
        open_source(device)


def test_a_device_gets_the_times_that_its_opening_was_given(monkeypatch):
    opened = []
    monkeypatch.setattr("ageinfer.sources.open_device", lambda path, **times: opened.append((path, times)))
    open_source("/dev/null", stall_s=1.5, reconnect_for_s=7)
    assert opened == [(Path("/dev/null"), {"stall_s": 1.5, "reconnect_for_s": 7})]


def test_cameras_are_numbered_from_zero():
    with pytest.raises(SourceError, match="numbered from 0"):
        open_camera(-1)


PIPELINE = "rtspsrc location=rtsp://ⓧ:ⓨ@cam ! decodebin ! appsink"


def test_a_pipeline_needs_an_opencv_with_gstreamer(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  Video I/O:\n    GStreamer:                   NO\n")
    with pytest.raises(SourceError, match=r"built without GStreamer.*python3-opencv.*rtsp://") as caught:
        open_source(PIPELINE)
    check_no_secret(str(caught.value))


def test_a_pipeline_is_run_by_gstreamer(monkeypatch, videocapture):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   YES (1.22.0)\n")
    with open_source(PIPELINE, **QUICK) as source:
        frame = next(iter(source))
    assert videocapture.calls[0][0] == (PIPELINE, cv2.CAP_GSTREAMER)
    assert (frame.source, source.kind) == ("gstreamer:rtspsrc!decodebin!appsink", "camera")
    videocapture.camera.plugged = False
    with pytest.raises(SourceError, match=r"does not run; check it with gst-launch") as caught:
        open_source(PIPELINE)
    check_no_secret(str(caught.value))
