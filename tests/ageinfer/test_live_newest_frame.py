"""A live source gives the newest frame as uint8 BGR and counts the frames that it drops."""

import threading
import time
import tracemalloc
import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fake_cameras import Camera, live, take, wait_for
from mjpeg import marked, number_of

from ageinfer.errors import SourceError
from ageinfer.images import as_bgr

pytest_plugins = ["fake_cameras"]
pytestmark = pytest.mark.usefixtures("quick_and_clean")


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
