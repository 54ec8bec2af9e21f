"""A camera or stream that is lost: stalls, failing reads, new tries and giving up."""

import logging
import re
import threading
import time

import cv2
import numpy as np
import pytest
from fake_cameras import Camera, live, take, wait_for
from mjpeg import marked, number_of

from ageinfer.errors import SourceError
from ageinfer.sources import LiveSource

pytest_plugins = ["fake_cameras"]
pytestmark = pytest.mark.usefixtures("quick_and_clean")


def check_one_story(frames, caplog, lost):
    """Index and time go on, and there is one warning that it was lost and one that it is back."""
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert (np.diff([frame.time_s for frame in frames]) > 0).all()
    first, second = caplog.messages
    assert re.fullmatch(rf"camera:3: lost after \d+ frames \({lost}\); trying to reconnect", first)
    assert re.fullmatch(r"camera:3: back after \d+\.\d s", second)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_camera_that_is_unplugged_comes_back(face, caplog):
    camera = Camera(face)
    with live(camera) as source:
        iterator = iter(source)
        frames = take(iterator, 5)
        camera.plugged = False
        threading.Timer(0.5, setattr, (camera, "plugged", True)).start()
        frames += take(iterator, 50)  # of which a few may be from before
        assert source.reconnects == 1
        assert len(camera.captures) > 3  # it was tried again and again
        assert [capture.released for capture in camera.captures[:-1]] == [1] * (len(camera.captures) - 1)
    check_one_story(frames, caplog, "reading fails")
    assert (np.diff([number_of(frame.image) for frame in frames]) > 0).all()
    assert camera.captures[-1].released == 1


def test_a_read_that_hangs_is_a_stall_and_left_behind(face, caplog):
    camera = Camera(face)
    with live(camera) as source:
        iterator = iter(source)
        frames = take(iterator, 3)
        hung = camera.hang
        hung.clear()
        time.sleep(0.05)
        camera.hang = threading.Event()
        camera.hang.set()  # for the captures that are opened now
        frames += take(iterator, 5)
        assert source.reconnects == 1
        assert camera.captures[0].released == 0  # still in its read: OpenCV would crash
        camera.picture = lambda number: np.full((1, 1, 3), 255, np.uint8) if late() else marked(face, number)

        def late():
            return threading.current_thread() is old

        [old] = [c.thread for c in source._hanging]
        hung.set()
        wait_for(lambda: camera.captures[0].released == 1)  # and lets go when it comes back
        frames += take(iterator, 5)
    assert {frame.image.shape for frame in frames} == {face.shape}
    check_one_story(frames, caplog, "no frame for 0.3 s")


def test_reads_that_fail_now_and_then_do_not_matter(face, caplog):
    camera = Camera(face)
    with live(camera) as source:
        iterator = iter(source)
        for _ in range(5):
            camera.reads_that_fail = 5
            take(iterator, 5)
        assert (source.reconnects, len(camera.captures)) == (0, 1)
    assert not caplog.messages


def test_it_is_given_up_after_its_time(face, caplog):
    camera = Camera(face)
    with live(camera, reconnect_for_s=0.5) as source:
        iterator = iter(source)
        seen = take(iterator, 3)
        camera.plugged = False
        with pytest.raises(SourceError) as caught:
            seen.extend(iterator)
        began = time.monotonic()
    expected = rf"camera:3: lost after {len(seen)} frames, and \d+ tries in 0.5 s did not bring it back: .*check that"
    assert re.match(expected, str(caught.value))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 1
    assert len(caplog.messages) == 1  # not one a try
    with pytest.raises(SourceError, match="open it again"):
        next(iter(source))


def test_without_reconnecting_the_end_is_an_error_at_once(face):
    camera = Camera(face)
    with live(camera, reconnect_for_s=0) as source:
        iterator = iter(source)
        seen = take(iterator, 2)
        camera.plugged = False
        with pytest.raises(SourceError, match=r"^camera:3: no more frames after \d+: reading fails; check .* again$"):
            seen.extend(iterator)
    assert len(camera.captures) == 1


@pytest.mark.parametrize("reconnect_for_s", [1000, None])
def test_tries_become_rarer(face, monkeypatch, reconnect_for_s):
    monkeypatch.setattr(LiveSource, "_FIRST_PAUSE_S", 0.5)
    pauses = []

    def pause(self, seconds):
        pauses.append(seconds)
        camera.plugged = len(pauses) == 8

    monkeypatch.setattr(LiveSource, "_pause", pause)
    camera = Camera(face)
    with live(camera, reconnect_for_s=reconnect_for_s) as source:
        iterator = iter(source)
        next(iterator)
        camera.plugged = False
        while source.reconnects == 0:
            next(iterator)
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert len(camera.captures) == 9


@pytest.mark.parametrize(("lived_s", "pauses"), [(1, [0.5, 1, 2, 4]), (11, [0.5, 0.5, 0.5, 0.5])])
def test_a_camera_that_comes_and_goes_is_tried_as_rarely(face, monkeypatch, lived_s, pauses):
    monkeypatch.setattr(LiveSource, "_FIRST_PAUSE_S", 0.5)
    seen = []
    monkeypatch.setattr(LiveSource, "_pause", lambda self, seconds: seen.append(seconds))
    camera = Camera(face)
    with live(camera) as source:
        iterator = iter(source)
        for count in range(1, 5):
            next(iterator)
            source._connection.began_s -= lived_s
            camera.captures[-1].opened = False  # after the frame that it is reading now
            camera.captures[-1].read = lambda: (False, None)
            while source.reconnects < count:
                next(iterator)
    assert seen == pauses


def test_captures_that_hang_in_opening_do_not_become_more_and_more(face, monkeypatch):
    monkeypatch.setattr(LiveSource, "_LONGEST_PAUSE_S", 0.02)
    camera = Camera(face)
    opening = threading.Event()
    opened = []

    def open_capture():
        opened.append(1)
        if len(opened) > 1:
            opening.wait()
        return camera.open()

    with LiveSource("camera:3", open_capture, stall_s=0.1, reconnect_for_s=0.8, open_s=0.05) as source:
        iterator = iter(source)
        next(iterator)
        camera.plugged = False
        with pytest.raises(SourceError, match=r"did not bring it back: it does not open \(within 0\.05 s\)"):
            list(iterator)
        assert 2 <= len(opened) <= 1 + 4  # there was time for ten
    opening.set()
    wait_for(lambda: [capture.released for capture in camera.captures] == [1] * len(opened))


def test_whoever_was_away_for_long_finds_a_camera_that_works(face):
    """The frame that came meanwhile was taken by nobody, and that is no stall."""
    camera = Camera(face, period_s=0.01)
    with live(camera, stall_s=0.2) as source:
        iterator = iter(source)
        next(iterator)
        hold = camera.hang
        hold.clear()  # as when this process is suspended: nothing comes, but nobody is to blame
        time.sleep(0.5)
        threading.Timer(0.05, hold.set).start()
        take(iterator, 3)
        assert source.reconnects == 0


def test_a_frame_that_waited_through_a_stall_is_not_shown(face):
    camera = Camera(face, period_s=0.01)
    with live(camera, stall_s=0.2) as source:
        iterator = iter(source)
        next(iterator)
        time.sleep(0.05)
        camera.hang.clear()
        time.sleep(0.4)  # the last frame before waits for its consumer
        threading.Timer(0.1, camera.hang.set).start()
        before = time.monotonic()
        assert next(iterator).captured_s > before
        assert source.reconnects == 0


def test_closing_in_the_moment_of_reconnecting_leaves_no_connection(face, monkeypatch):
    camera = Camera(face)
    source = live(camera)
    monkeypatch.setattr(LiveSource, "_pause", lambda self, seconds: self.close())
    iterator = iter(source)
    next(iterator)
    camera.plugged = False
    assert len(list(iterator)) <= 1
    assert len(camera.captures) == 1


@pytest.mark.parametrize("error", [RuntimeError("driver\nfailed"), cv2.error("no"), MemoryError(), OSError(19, "gone")])
def test_what_a_driver_raises_is_a_lost_connection(face, error, caplog):
    camera = Camera(face)
    with live(camera) as source:
        iterator = iter(source)
        frames = take(iterator, 2)

        def fail(number):
            camera.picture = lambda number: marked(face, number)
            raise error

        camera.picture = fail
        frames += take(iterator, 10)
        assert source.reconnects == 1
    check_one_story(frames, caplog, rf"{re.escape(type(error).__name__)}: .*")
