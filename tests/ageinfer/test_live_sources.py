"""Cameras and streams: always the newest frame, through stalls and lost connections, and no secret in any message."""

import gc
import logging
import os
import re
import signal
import sys
import threading
import time
import tracemalloc
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from loopback import serving
from mjpeg import marked, network_camera, number_of

from ageinfer.errors import SourceError
from ageinfer.images import as_bgr
from ageinfer.sources import LiveSource, VideoSource, open_camera, open_source, picamera

USER, PASSWORD = "ⓧäuser", "s@cr/e#t ⓨ?"
QUICK = {"stall_s": 0.3, "reconnect_for_s": 10}


@pytest.fixture(autouse=True)
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


# The newest frame


def test_a_slow_consumer_gets_the_newest_frame_each_time(face):
    camera = Camera(face, period_s=1 / 30)
    with live(camera) as source:
        assert (source.name, source.kind, source.fps, source.frame_count) == ("camera:3", "camera", 30.0, None)
        frames, ages_s, behind = [], [], []
        for frame in source:
            ages_s.append(time.monotonic() - frame.captured_s)
            behind.append(camera.made - 1 - number_of(frame.image))
            frames.append(frame)
            if len(frames) == 10:
                break
            time.sleep(0.1)
        dropped = source.dropped
    assert [frame.index for frame in frames] == list(range(10))
    numbers = [number_of(frame.image) for frame in frames]
    assert (np.diff(numbers) > 1).all()
    # At most one was made since, in the moment of handing over; never one that waited in a queue.
    assert max(behind) <= 1
    assert np.median(ages_s) < 0.06
    # Every frame was either handed out or counted.
    assert dropped > 0
    assert numbers[-1] - numbers[0] == dropped + 9
    assert np.abs(frames[-1].image[30:].astype(int) - face[30:]).max() == 0


def test_times_are_those_of_the_capture(face):
    with live(Camera(face, period_s=0.02)) as source:
        before = time.monotonic()
        frames = take(iter(source), 8)
        after = time.monotonic()
    captured = [frame.captured_s for frame in frames]
    assert before - 0.5 < captured[0]  # one may have waited for its consumer
    assert before < captured[1] < captured[-1] < after
    assert frames[0].time_s == 0
    for frame in frames:
        assert frame.time_s == pytest.approx(frame.captured_s - captured[0], abs=1e-9)
        assert (frame.source, frame.image.dtype) == ("camera:3", np.uint8)


def test_a_fast_consumer_gets_each_frame_once(face):
    camera = Camera(face, period_s=0.01)
    with live(camera) as source:
        numbers = [number_of(frame.image) for frame in take(iter(source), 30)]
        assert source.dropped <= 5
    assert (np.diff(numbers) >= 1).all()


def test_frames_that_came_before_the_loop_are_not_called_dropped(face):
    camera = Camera(face, period_s=0.001)
    with live(camera) as source:
        wait_for(lambda: camera.made > 50)
        camera.period_s = 0.05
        frame = next(iter(source))
        assert number_of(frame.image) >= 50
        assert source.dropped <= 3


def test_time_increases_even_where_the_clock_stands(face, monkeypatch):
    stands = SimpleNamespace(monotonic=lambda: 7.0, sleep=time.sleep)
    monkeypatch.setattr("ageinfer.sources.connection.time", stands)
    with live(Camera(face), stall_s=1e9) as source:
        times = [frame.time_s for frame in take(iter(source), 5)]
    assert (np.diff(times) > 0).all()


def test_memory_stays_flat_however_long_it_runs():
    alive = weakref.WeakSet()
    camera = Camera(lambda number: counted(alive), period_s=0)
    most, frames = 0, 0
    with live(camera) as source:
        for _ in source:
            most, frames = max(most, len(alive)), frames + 1
            if frames == 100:
                tracemalloc.start()
                before = tracemalloc.get_traced_memory()[0]
            if frames >= 2000:
                break
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert most <= 4  # at the consumer, waiting, being read, and being handed over
    assert grown < 10 * 40 * 60 * 3
    assert camera.made >= 2000


class Image(np.ndarray):
    pass


class Box:
    pass


def counted(alive):
    """A picture that is in the set for as long as it lives."""
    image = Image((40, 60, 3), np.uint8)  # which owns its pixels, so that it lives as long as any view of them
    image.box = Box()
    alive.add(image.box)
    return image


def test_a_frame_that_was_handed_out_is_the_consumers_alone():
    alive = weakref.WeakSet()

    def picture(number):
        camera.hang.clear()  # there will be no other
        return counted(alive)

    camera = Camera(picture)
    with live(camera, stall_s=60) as source:
        iterator = iter(source)
        frame = next(iterator)
        seen = [len(alive)]
        threading.Timer(0.1, lambda: seen.append(len(alive)) or source.close()).start()
        del frame
        assert list(iterator) == []
    assert seen == [1, 0]


@pytest.mark.parametrize("shape", [(1, 1, 3), (4320, 7680, 3)])
def test_the_smallest_and_the_largest_frames_pass(shape):
    with live(Camera(lambda _: np.full(shape, 7, np.uint8), period_s=0.01), stall_s=5) as source:
        assert {frame.image.shape for frame in take(iter(source), 3)} == {shape}


def test_the_size_may_change_from_frame_to_frame(face):
    camera = Camera(lambda number: marked(cv2.resize(face, (320 + 40 * (number % 3), 240)), number), period_s=0.01)
    with live(camera) as source:
        for frame in take(iter(source), 9):
            assert frame.image.shape == (240, 320 + 40 * (number_of(frame.image) % 3), 3)


def test_other_forms_of_pictures_become_bgr(face):
    grey = np.ascontiguousarray(face[:, :, 1])
    alpha = np.dstack([face, np.full(face.shape[:2], 9, np.uint8)])
    for given, expected in [
        (face, face), (grey, np.dstack([grey] * 3)), (grey[:, :, None], np.dstack([grey] * 3)), (alpha, face),
        (face.astype(np.uint16) << 8 | 0x5F, face), (grey.astype(np.uint16) << 8, np.dstack([grey] * 3)),
        (face[:, ::-1], face[:, ::-1]),
    ]:  # fmt: skip
        with live(Camera(lambda _, given=given: given)) as source:
            image = next(iter(source)).image
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert np.array_equal(image, expected)


@pytest.mark.parametrize(
    "given", [None, b"", np.zeros((4, 6, 3)), np.zeros((4, 6, 2), np.uint8), np.zeros((0, 6, 3), np.uint8),
              np.zeros(9, np.uint8), np.zeros((4, 6, 3), np.int8), np.zeros((1, 4, 6, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_picture_is_not_passed_on(given, face):
    with pytest.raises(ValueError, match="the capture gives"):
        as_bgr(given)
    with pytest.raises(SourceError, match=r"^camera:3: it opens, but no frame comes \(the capture gives .*\); check"):
        live(Camera(lambda _: given), open_s=0.1)
    with live(Camera(lambda number: given if number % 2 else marked(face, number))) as source:
        assert all(number_of(frame.image) % 2 == 0 for frame in take(iter(source), 5))
        assert source.reconnects == 0


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_frame_rate_that_makes_no_sense_is_not_passed_on(fps, face):
    with live(Camera(face, fps=fps)) as source:
        assert source.fps is None


# Lost, and found again


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


# The beginning and the end


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


# Streams


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


def check_no_secret(text):
    assert not set(text) & set("ⓧⓨ")
    for piece in ("%E2%93", "s@cr", "s%40cr", "user", "e#t"):
        assert piece not in text


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
    monkeypatch.setattr("ageinfer.sources.streams._OPEN_MS", 300)
    began = time.monotonic()
    with pytest.raises(SourceError, match=rf"^http://{camera.host}/live"):
        open_source(address)
    assert time.monotonic() - began < 5


def test_an_opening_that_hangs_is_given_up(camera, address, monkeypatch):
    from ageinfer.sources.streams import open_stream

    opened = threading.Event()
    late = SimpleNamespace(released=0)

    def open_late(*_):
        opened.wait()
        late.isOpened, late.release = lambda: True, lambda: setattr(late, "released", 1)
        return late

    monkeypatch.setattr("ageinfer.sources.streams.cv2.VideoCapture", open_late)
    with pytest.raises(SourceError, match=r"no answer within 0\.1 s"):
        open_stream(address, open_s=0.1)
    opened.set()
    wait_for(lambda: late.released)


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


# Devices and pipelines


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
    with pytest.raises(SourceError, match=f"^{device}: a device, but not a camera"):
        open_source(device)


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


# The camera module of a Raspberry Pi


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
