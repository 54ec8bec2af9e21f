"""Frames that are decoded ahead: order, errors at their place, bounds, and an end at any moment."""

import signal
import threading
import time
import weakref

import cv2
import numpy as np
import pytest
from mjpeg import marked, number_of

from ageinfer.errors import SourceError
from ageinfer.sources import ReadAhead, Source, open_source
from ageinfer.types import Frame


class Counting(Source):
    """Black frames; fails as it is told; knows how far it has come.

    Args:
        count: of frames; None for no end.
        shape: of the frames.
        error: raised behind the last frame.
        seconds: that each frame takes.
        hang_at: the number of the frame at which it hangs, until the end of the test or ``go_on`` is set.
    """

    kind = "video"
    all_of_this_test: list["Counting"] = []  # noqa: RUF012

    def __init__(self, count=None, shape=(2, 3, 3), error=None, seconds=0.0, hang_at=None):
        self.name, self.frame_count, self.fps = "counting", count, 25.0
        self.shape, self.error, self.seconds = shape, error, seconds
        self.made = self.closed = 0
        self.alive = weakref.WeakSet()
        self.hang_at, self.go_on = hang_at, threading.Event()
        self.all_of_this_test.append(self)

    def __iter__(self):
        self._begin()
        while self.made != self.frame_count and not self._closed:
            time.sleep(self.seconds)
            if self.made == self.hang_at:
                self.go_on.wait()
            image = Image(np.zeros(self.shape, np.uint8))
            self.alive.add(image.box)
            self.failed = self.made // 3
            self.made += 1
            yield Frame(self.name, self.made - 1, (self.made - 1) / 25, image)
            del image
        self.truncated = True
        if self.error:
            raise self.error

    def close(self):
        super().close()
        self.closed += 1


class Box:
    pass


class Image(np.ndarray):
    """An array that shows, by its box, how long it lives."""

    def __new__(cls, array):
        image = array.view(cls)
        image.box = Box()
        return image


def threads():
    return {t.name for t in threading.enumerate() if t.name.startswith("decoding")}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    for source in Counting.all_of_this_test:
        source.go_on.set()
    Counting.all_of_this_test.clear()
    give_up = time.monotonic() + 5
    while threads() and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not threads()


def wait_for(condition):
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def test_a_video_comes_as_without_it(tmp_path, write_video, astronaut):
    small = cv2.resize(astronaut, (192, 128))
    path = write_video(tmp_path / "v.avi", [marked(small, i) for i in range(40)])
    plain = list(open_source(path))
    source = ReadAhead(open_source(path), frames=3)
    assert (source.kind, source.name, source.frame_count, source.fps) == ("video", str(path), 40, 25.0)
    frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(40))
    for frame, expected in zip(frames, plain, strict=True):
        assert (frame.source, frame.index, frame.time_s) == (str(path), expected.index, expected.time_s)
        assert np.array_equal(frame.image, expected.image)
    assert not source.truncated


def test_it_is_told_when_a_video_is_cut(tmp_path, write_video, astronaut):
    path = write_video(tmp_path / "v.avi", [astronaut] * 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = ReadAhead(open_source(path))
    assert 10 < len(list(source)) < 30
    assert source.truncated


def test_pictures_that_fail_are_counted_with_the_frame_before_which_they_failed(tmp_path, astronaut):
    for name in "bdf":
        cv2.imwrite(str(tmp_path / f"{name}.png"), astronaut[:20, :20])
    for name in "aceg":
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    source = ReadAhead(open_source(tmp_path), frames=8)
    seen = []
    for frame in source:
        wait_for(lambda: source._source.failed == 4)  # the thread is at the end already
        seen.append((frame.source[-5], source.failed))
    assert seen == [("b", 1), ("d", 2), ("f", 3)]
    assert source.failed == 4


def test_it_decodes_ahead_but_no_further_than_it_may():
    inner = Counting()
    source = ReadAhead(inner, frames=5)
    assert not threads()  # nothing begins before it is asked for
    iterator = iter(source)
    next(iterator)
    wait_for(lambda: inner.made >= 1 + 5 + 1)  # the one that is worked on, those that wait, and the next
    time.sleep(0.05)
    assert inner.made == 7
    assert next(iterator).index == 1
    wait_for(lambda: inner.made == 8)
    source.close()


@pytest.mark.parametrize(("max_bytes", "waiting"), [(1, 1), (2 * 7680 * 4320 * 3, 2), (200 << 20, 2), (256 << 20, 2)])
def test_large_frames_are_bounded_by_their_bytes(max_bytes, waiting):
    """8k, 100 MB a frame."""
    inner = Counting(shape=(4320, 7680, 3))
    with ReadAhead(inner, frames=8, max_bytes=max_bytes) as source:
        iterator = iter(source)
        first = next(iterator)
        assert first.image.shape == (4320, 7680, 3)
        wait_for(lambda: inner.made >= waiting + 2)
        time.sleep(0.05)
        assert inner.made == waiting + 2
        del first
        for index in (1, 2, 3):  # and it goes on
            assert next(iterator).index == index
            assert len(inner.alive) <= waiting + 2


def test_frames_are_not_kept():
    inner = Counting(count=500, shape=(100, 100, 3))
    most = 0
    for _ in ReadAhead(inner, frames=4):
        most = max(most, len(inner.alive))
    assert 1 <= most <= 4 + 2
    assert len(inner.alive) <= 1


def test_a_frame_that_was_handed_out_is_the_consumers_alone():
    inner = Counting(hang_at=1)
    with ReadAhead(inner) as source:
        iterator = iter(source)
        frame = next(iterator)
        seen = [len(inner.alive)]
        threading.Timer(0.1, lambda: seen.append(len(inner.alive)) or source.close()).start()
        del frame
        assert list(iterator) == []
    assert seen == [1, 0]


@pytest.mark.parametrize("error", [SourceError("broken"), ValueError("a defect"), MemoryError()])
def test_an_error_is_raised_at_its_place(error):
    source = ReadAhead(Counting(count=6, error=error), frames=2)
    seen = []
    with pytest.raises(type(error)) as caught:
        seen.extend(frame.index for frame in source)
    assert caught.value is error
    assert seen == list(range(6))


def test_the_error_of_the_first_frame_comes_at_once(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of its 1 pictures"):
        list(ReadAhead(open_source(tmp_path)))


@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_it_can_be_closed_at_any_moment(frames, taken):
    inner = Counting()
    source = ReadAhead(inner, frames=frames)
    iterator = iter(source)
    for _ in range(taken):
        next(iterator)
    if taken:
        wait_for(lambda: inner.made == taken + frames + 1)  # and hangs on a full queue
    began = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - began < 0.4
    assert list(iterator) == [] if taken else inner.made == 0
    assert inner.closed
    assert not threads()


def test_a_consumer_that_fails_leaves_nothing_behind():
    inner = Counting()

    def consume():
        with ReadAhead(inner, frames=2) as source:
            for frame in source:
                if frame.index == 3:
                    raise RuntimeError("of the consumer")

    with pytest.raises(RuntimeError, match="of the consumer"):
        consume()
    assert inner.closed
    assert not threads()


def test_a_consumer_that_just_stops_leaves_nothing_behind():
    inner = Counting()
    for frame in ReadAhead(inner, frames=2):
        if frame.index == 3:
            break
    wait_for(lambda: inner.closed and not threads())


def test_closing_releases_the_capture_of_a_video(tmp_path, write_video, astronaut):
    inner = open_source(write_video(tmp_path / "v.avi", [astronaut] * 30))
    with ReadAhead(inner, frames=2) as source:
        next(iter(source))
    assert not inner._capture.isOpened()


def test_closing_does_not_wait_for_a_source_that_hangs():
    source = ReadAhead(Counting(hang_at=1), frames=2)
    next(iter(source))
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 1.2
    assert threads()


def test_closing_from_elsewhere_ends_a_wait():
    source = ReadAhead(Counting(hang_at=0))
    threading.Timer(0.1, source.close).start()
    began = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - began < 2


def test_ctrl_c_interrupts_a_wait():
    began = time.monotonic()
    threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), ReadAhead(Counting(hang_at=0)) as source:
        next(iter(source))
    assert time.monotonic() - began < 1.5


def test_it_goes_through_once():
    source = ReadAhead(Counting(count=2))
    assert len(list(source)) == 2
    with pytest.raises(SourceError, match="open it again"):
        list(source)


def test_what_cannot_be_read_ahead_is_refused():
    live = Counting()
    live.kind = "camera"
    with pytest.raises(ValueError, match="live"):
        ReadAhead(live)
    with pytest.raises(ValueError, match="1 or more"):
        ReadAhead(Counting(), frames=0)
    with pytest.raises(ValueError, match="1 or more"):
        ReadAhead(Counting(), max_bytes=0)


def test_decoding_and_work_overlap():
    """Each takes 20 ms for 20 frames: 0.4 s together, and 0.8 s one after the other."""
    began = time.monotonic()
    for _ in ReadAhead(Counting(count=20, seconds=0.02)):
        time.sleep(0.02)
    assert time.monotonic() - began < 0.7
