"""Streams from the network: always the newest frame, back after a loss, no secret in any message."""

import os
import threading
import time

import cv2
import numpy as np
import pytest
from fake_cameras import QUICK, check_no_secret, reading_threads, take, wait_for
from loopback import serving
from mjpeg import marked, network_camera, number_of

from ageinfer.errors import SourceError
from ageinfer.sources import LiveSource, VideoSource, open_source

pytest_plugins = ["fake_cameras"]
pytestmark = pytest.mark.usefixtures("quick_and_clean")

USER, PASSWORD = "ⓧäuser", "s@cr/e#t ⓨ?"


@pytest.fixture
def camera(face):
    """A camera of the network that wants a user name and a password."""
    with network_camera(lambda number: marked(face, number), 60, USER, PASSWORD) as server:
        yield server


@pytest.fixture
def address(camera):
    from urllib.parse import quote

    user = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
    return f"http://{user}@{camera.host}/live?channel=1&token=ⓧⓨ"


def test_a_stream_is_shown_without_its_secrets(camera, address, face, capfd):
    with open_source(address, **QUICK) as source:
        assert isinstance(source, LiveSource)
        frames = take(iter(source), 5)
    assert source.name == f"http://{camera.host}/live?channel=1&token=***"
    assert {frame.source for frame in frames} == {source.name}
    numbers = [number_of(frame.image) for frame in frames]
    assert (np.diff(numbers) > 0).all()
    for frame in frames:  # JPEG
        assert np.abs(frame.image[40:].astype(int) - face[40:]).mean() < 6
    check_no_secret("".join(capfd.readouterr()) + repr(reading_threads()))


def test_a_stream_that_is_slow_to_consume_stays_up_to_date(camera, address):
    with open_source(address, **QUICK) as source:
        behind = []
        for frame in source:
            behind.append(camera.sent - 1 - number_of(frame.image))
            if frame.index == 12:
                break
            time.sleep(0.1)
        assert source.dropped > 20
    assert np.median(behind) <= 2  # in the encoder, on the wire and in the decoder
    assert max(behind) <= 6


@pytest.mark.parametrize("mode", ["stall", "close", "gone"])
def test_a_stream_that_is_lost_comes_back(camera, address, mode, caplog, capfd):
    with open_source(address, **QUICK) as source:
        iterator = iter(source)
        frames = take(iterator, 3)
        clients = camera.clients
        if mode == "gone":
            camera.stop()
            threading.Timer(0.5, camera.start).start()
        else:
            camera.mode = mode
            threading.Timer(0.8, setattr, (camera, "mode", "normal")).start()
        while source.reconnects == 0 or len(frames) < 10:
            frames.append(next(iterator))
        assert camera.clients > clients
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert (np.diff([frame.time_s for frame in frames]) > 0).all()
    assert (np.diff([number_of(frame.image) for frame in frames]) > 0).all()
    lost, back = caplog.messages[:2]
    assert lost.startswith(f"{source.name}: lost after")
    assert back.startswith(f"{source.name}: back after")
    check_no_secret(caplog.text + "".join(capfd.readouterr()))


def test_a_stream_that_is_not_to_be_opened_again_ends_at_once(camera, address):
    with open_source(address, stall_s=0.3, reconnect_for_s=0) as source:
        iterator = iter(source)
        take(iterator, 2)
        camera.mode = "close"
        with pytest.raises(SourceError, match=r"no more frames after \d+: reading fails; check the network"):
            take(iterator, 50)


def test_garbage_in_a_stream_is_survived(camera, address):
    with open_source(address, stall_s=2) as source:
        iterator = iter(source)
        frames = take(iterator, 3)
        camera.mode = "garbage"
        threading.Timer(0.3, setattr, (camera, "mode", "normal")).start()
        sent = camera.sent
        while number_of(frames[-1].image) < sent + 15:
            frames.append(next(iterator))
    assert all(frame.image.shape == (240, 320, 3) for frame in frames)


def test_a_stream_may_change_the_size_of_its_pictures(face):
    def picture(number):
        return marked(face if number < 20 else cv2.resize(face, (640, 480)), number)

    with network_camera(picture, 60) as camera, open_source(camera.address, **QUICK) as source:
        for frame in source:
            if number_of(frame.image) > 40:
                break
    # OpenCV keeps to the first size, which is as good.
    scaled = cv2.resize(frame.image, (320, 240))
    assert np.abs(scaled[40:].astype(int) - face[40:]).mean() < 8


def test_it_is_said_why_a_stream_cannot_be_had(camera, address, capfd):
    wants = r"wants a user name and a password \(401\); give them as http://USER:PASSWORD@HOST"
    cases = {
        address.replace("cr", "xx"): r"refuses the user name or password \(401\)",
        camera.address + "?token=ⓧ": wants,
        address.replace("/live", "/missing"): r"no such stream \(404\)",
        address.replace("/live", "/page"): r"sends a web page, not a video",
        address.replace("/live", "/broken"): r"answers with an error \(503\)",
    }
    for wrong, message in cases.items():
        with pytest.raises(SourceError, match=message) as caught:
            open_source(wrong)
        assert str(caught.value).startswith(f"http://{camera.host}/")
        text, error = "", caught.value
        while error:  # --debug shows all of them
            text, error = text + str(error), error.__cause__ or error.__context__
        check_no_secret(text.replace("user name", "").replace("the user", ""))
    camera.stop()
    with pytest.raises(SourceError, match=r"127\.0\.0\.1 refuses port \d+; check the port"):
        open_source(address)
    check_no_secret("".join(capfd.readouterr()))
    camera.start()


def test_a_stream_that_never_begins_is_refused_in_time(camera, address, monkeypatch):
    camera.mode = "stall"
    monkeypatch.setattr("ageinfer.sources.streams._OPEN_S", 0.3)
    began = time.monotonic()
    with pytest.raises(SourceError, match=rf"^http://{camera.host}/live"):
        open_source(address)
    assert time.monotonic() - began < 5


def test_an_opening_that_hangs_is_given_up(camera, address, monkeypatch):
    from ageinfer.sources.streams import open_stream

    opened = threading.Event()

    class Late:
        released, fps = 0, None

        def __iter__(self):
            return iter(())

    late = Late()

    def open_late(given, name, *, open_s, read_s):
        late.right = (given, open_s, read_s) == (address, 10, 10)
        opened.wait()
        late.close = lambda: setattr(late, "released", 1)
        return late

    monkeypatch.setattr("ageinfer.sources.decoder.Decoder.open_address", open_late)
    with pytest.raises(SourceError, match=r"no answer within 0\.1 s"):
        open_stream(address, open_s=0.1)
    opened.set()
    wait_for(lambda: late.released)
    assert late.right


def test_a_file_on_a_web_server_is_a_video_and_not_a_stream(tmp_path, write_video, face, caplog):
    path = write_video(tmp_path / "v.avi", [marked(face, i) for i in range(60)])
    with serving({"v.avi": path.read_bytes(), "cut.avi": path.read_bytes()[: path.stat().st_size // 2]}) as web:
        source = open_source(web.address.replace("//", "//ⓧ:ⓨ@") + "/v.avi")
        assert isinstance(source, VideoSource)
        assert (source.kind, source.frame_count, source.fps) == ("video", 60, 25.0)
        assert source.name == f"{web.address}/v.avi"
        frames = []
        for frame in source:
            frames.append(frame)
            time.sleep(0.005)
        assert [number_of(frame.image) for frame in frames] == list(range(60))
        assert {frame.source for frame in frames} == {source.name}
        assert {frame.captured_s for frame in frames} == {None}
        assert not source.truncated
        cut = open_source(f"{web.address}/cut.avi")
        assert 20 < len(list(cut)) < 40
        assert cut.truncated
    assert [message.split(": ")[0] for message in caplog.messages] == [f"{web.address}/cut.avi"]


def test_the_options_of_the_user_for_ffmpeg_are_left_alone(camera, address, monkeypatch):
    for value in (None, "rtsp_transport;udp"):
        if value:
            monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", value)
        with open_source(address, **QUICK) as source:
            take(iter(source), 2)
        assert os.environ.get("OPENCV_FFMPEG_CAPTURE_OPTIONS") == value
