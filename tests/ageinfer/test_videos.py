"""Video files: order, times, damage, threads and closing."""

import gc
import itertools
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_files import frames_of

from ageinfer.engine.cores import usable_cores
from ageinfer.errors import SourceError
from ageinfer.sources import open_source
from ageinfer.sources.decoder import Decoded

pytest_plugins = ["media_files"]


def numbered(count: int):
    """Pictures with their number as eight black or white bars, so that a frame lost, doubled or moved shows."""
    pictures = np.random.default_rng(4).integers(0, 255, (count, 96, 64, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):  # the noise below gives every frame about the same share of the file
        for bit in range(8):
            picture[:48, 8 * bit : 8 * bit + 8] = 255 * (i >> bit & 1)
    return list(pictures)


def number_of(frame) -> int:
    return sum(1 << bit for bit in range(8) if frame.image[12:36, 8 * bit + 2 : 8 * bit + 6].mean() > 127)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".mov", ".gif"])
def test_every_frame_of_a_video_comes_in_order_with_its_time(tmp_path, write_video, suffix):
    path = tmp_path / f"v{suffix}"
    if suffix == ".gif":
        animation = cv2.Animation()
        animation.frames, animation.durations = numbered(100), [40] * 100
        assert cv2.imwriteanimation(str(path), animation)
    else:
        write_video(path, numbered(100), fps=25)
    source = open_source(path)
    frames = list(source)
    assert (source.kind, source.frame_count, source.truncated, source.failed) == ("video", 100, False, 0)
    assert source.fps == pytest.approx(25, abs=0.1)
    assert [frame.index for frame in frames] == list(range(100))
    assert [number_of(frame) for frame in frames] == list(range(100))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(100) / 25, atol=0.011)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_a_cut_video_gives_what_is_left_and_says_so(tmp_path, write_video, suffix, share, caplog):
    path = write_video(tmp_path / f"v{suffix}", numbered(100))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    source = open_source(path)
    numbers = [number_of(frame) for frame in source]
    assert source.truncated
    assert abs(len(numbers) - 100 * share) < 10
    assert numbers[:-1] == list(range(len(numbers) - 1))  # the last one may be half a picture
    assert f"cut off after {len(numbers)} frames" in caplog.text


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("share", [0.003, 0.15])
def test_damage_in_the_middle_does_not_end_a_video(tmp_path, write_video, suffix, share):
    path = write_video(tmp_path / f"v{suffix}", numbered(100))
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, int(share * len(data))
    data[middle : middle + length] = np.random.default_rng(5).bytes(length)
    path.write_bytes(data)
    source = open_source(path)
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    numbers = [number_of(frame) for frame in frames]
    assert numbers[:40] == list(range(40))
    assert numbers[-15:] == list(range(85, 100))
    assert not source.truncated
    assert source.damaged > 0
    assert not any(frame.damaged for frame in frames[:40] + frames[-15:])


def test_a_video_whose_pictures_change_their_size_goes_on(tmp_path, write_video, astronaut):
    sizes = [(128, 96), (256, 192), (64, 48)]
    parts = [[cv2.resize(astronaut[:384], size)] * 20 for size in sizes]
    whole = b"".join(write_video(tmp_path / "part.ts", part).read_bytes() for part in parts)
    (tmp_path / "v.ts").write_bytes(whole)
    frames = frames_of(tmp_path / "v.ts")
    assert len(frames) == 60
    for i, frame in enumerate(frames):
        expected = parts[i // 20][0]
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 14


def test_small_frames_are_decoded_by_one_thread_and_large_ones_by_many(tmp_path, write_video, small, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", [small] * 3)
    for pixels, few in ((small.shape[0] * small.shape[1], True), (small.shape[0] * small.shape[1] - 1, False)):
        monkeypatch.setattr("ageinfer.sources.decoder._ONE_THREAD_PIXELS", pixels)
        with open_source(path) as source:
            assert len(list(itertools.islice(source, 2))) == 2
            threads = source._decoder._stream.codec_context.thread_count
            assert (threads == 1) == (few or usable_cores() == 1)


def is_open(path) -> bool:
    return any(entry.resolve() == path for entry in Path("/proc/self/fd").iterdir() if entry.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="where open files are seen")
def test_a_video_can_be_closed_in_the_middle(tmp_path, write_video, small):
    path = write_video(tmp_path / "v.avi", [small] * 50)
    with open_source(path) as source:
        iterator = iter(source)
        assert len(list(itertools.islice(iterator, 3))) == 3
        assert is_open(path)
        source.close()
        assert list(iterator) == []
        assert not is_open(path)
    assert not source.truncated  # nobody wanted more
    with pytest.raises(SourceError, match="open it again"):
        list(source)


def test_a_video_that_is_being_read_is_released_by_who_reads_it(tmp_path, write_video, small):
    """FFmpeg crashes when a container is closed under a thread that reads it."""
    source = open_source(write_video(tmp_path / "v.avi", [small] * 50))
    reading, go_on = threading.Event(), threading.Event()
    events = []

    class Slow:
        begins_s, lost, cut_off = 0.0, 0, False

        def __iter__(self):
            reading.set()
            go_on.wait()
            events.append("read")
            yield Decoded(small, 0.0, False)

        def close(self):
            events.append("released")

    source._decoder.close()
    source._decoder = Slow()
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    reading.wait()
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 0.5
    assert not events
    go_on.set()
    thread.join()
    assert events[:2] == ["read", "released"]
    assert len(frames) <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="where open files are seen")
def test_the_file_is_released_after_the_last_frame(tmp_path, write_video, small):
    path = write_video(tmp_path / "v.avi", [small] * 3)
    source = open_source(path)
    assert is_open(path)
    assert len(list(source)) == 3
    assert not is_open(path)


def test_a_cut_mp4_has_lost_its_index_and_is_refused(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", numbered(50))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"v\.mp4"):
        frames_of(path)


@pytest.mark.parametrize("suffix", [".mjpeg", ".MJPG"])
def test_jpegs_one_behind_the_other_are_a_video_by_their_name(tmp_path, astronaut_path, suffix):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(astronaut_path.read_bytes() * 12)
    with open_source(path) as source:
        assert source.kind == "video"
        assert len(list(source)) == 12


def test_a_frame_is_freed_as_soon_as_nobody_needs_it(tmp_path, write_video, astronaut):
    """And not only when Python looks for circles of references, before which hundreds may pile up."""
    path = write_video(tmp_path / "v.avi", [astronaut] * 30)
    alive = lambda: sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())  # noqa: E731
    gc.collect()
    before, most = alive(), 0
    gc.disable()
    try:
        for frame in open_source(path):
            assert frame.image.shape == astronaut.shape
            if frame.index % 6 == 5:  # it takes long to look at all objects
                most = max(most, alive() - before)
    finally:
        gc.enable()
    assert most <= 4  # the first one among them
