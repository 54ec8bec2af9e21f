"""Opening and closing a live source, and Ctrl-C while it waits."""

import gc
import signal
import threading
import time

import pytest
from fake_cameras import Camera, live, reading_threads, take, wait_for

from ageinfer.errors import SourceError
from ageinfer.sources import LiveSource

pytest_plugins = ["fake_cameras"]
pytestmark = pytest.mark.usefixtures("quick_and_clean")


def test_a_camera_that_is_not_there_is_an_error_at_once(face):
    camera = Camera(face)
    camera.plugged = False
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"^camera:3: it does not open \(OpenCV cannot open it\); check"):
        live(camera)
    assert time.monotonic() - began < 1
    assert camera.captures[0].released == 1


def test_what_opening_raises_is_passed_on():
    def refuse():
        raise SourceError("camera:3: another program has it")

    with pytest.raises(SourceError, match="another program has it"):
        LiveSource("camera:3", refuse)

    def fail():
        raise RuntimeError("of rtsp://ⓧ:ⓨ@cam/live")

    with pytest.raises(SourceError, match=r"^camera:3: it does not open \(RuntimeError: of rtsp://cam/live\); check"):
        LiveSource("camera:3", fail)


@pytest.mark.parametrize("hang", ["opening", "reading"])
def test_a_camera_that_hangs_from_the_beginning_is_refused_in_time(face, hang):
    camera = Camera(face)
    release = threading.Event()
    if hang == "reading":
        camera.hang = release

    def open_capture():
        if hang == "opening":
            release.wait()
        return camera.open()

    began = time.monotonic()
    what = "it does not open" if hang == "opening" else "it opens, but no frame comes"
    with pytest.raises(SourceError, match=rf"^camera:3: {what} \(within 0\.2 s\); check that it is plugged in"):
        LiveSource("camera:3", open_capture, open_s=0.2)
    assert time.monotonic() - began < 1.5
    release.set()
    wait_for(lambda: camera.captures and camera.captures[0].released == 1)


def test_closing_ends_everything_and_can_be_done_again(face):
    camera = Camera(face)
    source = live(camera)
    iterator = iter(source)
    take(iterator, 2)
    source.close()
    assert camera.captures[0].released == 1
    assert not reading_threads()
    assert list(iterator) == []
    source.close()
    with pytest.raises(SourceError, match="open it again"):
        next(iter(source))


@pytest.mark.parametrize("moment", ["waiting for a frame", "reconnecting"])
def test_closing_wakes_a_consumer_that_waits(face, moment):
    camera = Camera(face)
    source = live(camera, stall_s=60, reconnect_for_s=60)
    iterator = iter(source)
    next(iterator)
    if moment == "reconnecting":
        camera.plugged = False
        source._pause_s = 50
    else:
        camera.hang.clear()
    threading.Timer(0.5, source.close).start()
    began = time.monotonic()
    for _ in iterator:  # a few that are on their way, and then the end
        pass
    assert 0.3 < time.monotonic() - began < 1.4
    camera.hang.set()


def test_closing_does_not_wait_for_a_read_that_hangs(face):
    camera = Camera(face)
    source = live(camera)
    camera.hang.clear()
    time.sleep(0.02)
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 1
    assert camera.captures[0].released == 0
    camera.hang.set()
    wait_for(lambda: camera.captures[0].released == 1)


def test_a_source_that_is_forgotten_lets_go_of_its_camera(face):
    camera = Camera(face)
    source = live(camera)
    del source
    gc.collect()
    wait_for(lambda: camera.captures[0].released == 1)
    next(iter(live(camera)))  # the loop that is left in the middle
    gc.collect()
    wait_for(lambda: camera.captures[1].released == 1)


@pytest.fixture
def ctrl_c():
    """SIGINT as Python starts with it; whoever runs tests in the background of a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_interrupts_a_wait(face):
    camera = Camera(face)
    with live(camera, stall_s=60) as source:
        iterator = iter(source)
        next(iterator)
        camera.hang.clear()
        began = time.monotonic()
        threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            list(iterator)
        assert time.monotonic() - began < 1.5
    camera.hang.set()
