"""Annotated videos: codecs, sizes, real time, and a disk that becomes full."""

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sink_frames import PLAIN, annotated, write_all

from ageinfer.errors import OutputError, UsageError
from ageinfer.sinks import VideoSink, codec_problem, video


def frames_in(path) -> list:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (decoded := capture.read())[0]:
        frames.append(decoded[1])
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".MP4"])
def test_a_video_holds_every_frame_and_leaves_nothing_beside_it(tmp_path, suffix):
    path = tmp_path / "new" / f"v{suffix}"
    write_all(VideoSink(path, 10), *(annotated(PLAIN, index=i) for i in range(12)))
    frames = frames_in(path)
    assert len(frames) == 12
    assert {f.shape for f in frames} == {(64, 96, 3)}
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_video_keeps_its_size_when_the_frames_change_theirs(tmp_path):
    path = tmp_path / "v.avi"
    write_all(VideoSink(path, None), *(annotated(size=size) for size in ((96, 64), (32, 32), (200, 100), (96, 64))))
    frames = frames_in(path)
    assert {f.shape for f in frames} == {(64, 96, 3)}
    assert len(frames) == 4
    assert all(abs(f.mean() - 90) < 4 for f in frames)


def test_a_larger_frame_is_averaged_and_loses_no_pixel(tmp_path):
    board = annotated(size=(192, 128))
    board.frame.image[:] = 0
    board.frame.image[::2, ::2] = board.frame.image[1::2, 1::2] = 255
    write_all(VideoSink(tmp_path / "v.avi", None), annotated(), board)
    assert np.abs(frames_in(tmp_path / "v.avi")[1].astype(int) - 127).max() < 8


def test_a_video_is_not_there_until_it_is_complete_and_an_older_one_stays_so_long(tmp_path):
    path = tmp_path / "v.avi"
    path.write_text("older")
    with VideoSink(path, 25) as sink:
        sink.write(annotated())
        assert path.read_text() == "older"
    assert len(frames_in(path)) == 1
    write_all(VideoSink(path, 25))  # no frame: nothing to replace it by
    assert len(frames_in(path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["v.avi"]


def test_an_error_on_the_way_leaves_a_video_of_the_frames_so_far(tmp_path):
    path = tmp_path / "v.mp4"
    with pytest.raises(KeyboardInterrupt), VideoSink(path, 25) as sink:  # noqa: PT012
        sink.write(annotated())
        sink.write(annotated())
        raise KeyboardInterrupt
    assert len(frames_in(path)) == 2


@pytest.mark.parametrize("name", ["v", "v.jpg", "v.wmv", "-"])
def test_a_name_that_no_video_can_have_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.mp4"):
        VideoSink(tmp_path / name, 25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit")
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_a_video_that_did_not_fit_on_the_disk_is_an_output_error(tmp_path, suffix):
    # A limit on the size of files stands in for a full disk, in a process of its own.
    script = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.errors import OutputError
from ageinfer.sinks import VideoSink
from ageinfer.types import Frame, FrameResult
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0).integers(0, 255, (30, 120, 160, 3), dtype=np.uint8)
try:
    with VideoSink(Path(sys.argv[1]), 25) as sink:
        for image in noise:
            sink.write(AnnotatedFrame(Frame("", 0, 0, image), FrameResult("", 0, 0, (160, 120), ())))
except OutputError as error:
    sys.exit(int(error.exit_status))
"""
    path = tmp_path / f"v{suffix}"
    command = [sys.executable, "-c", script, str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == OutputError.exit_status, process.stderr
    if suffix == ".mp4":  # whose index is written at the end
        assert list(tmp_path.iterdir()) == []
    else:
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        assert 3 < len(frames_in(path)) < 30


def free(monkeypatch, megabytes):
    """The disk has so much room."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=megabytes << 20))


def test_a_video_is_refused_where_it_could_not_be_completed(tmp_path, monkeypatch):
    free(monkeypatch, 15)
    with pytest.raises(OutputError, match=r"almost full \(15 MB free, 16 MB needed\)"):
        VideoSink(tmp_path / "v.mp4", 25)
    assert list(tmp_path.iterdir()) == []


def test_a_video_ends_while_it_can_still_be_completed(tmp_path, monkeypatch):
    monkeypatch.setattr("ageinfer.sinks.video._ROOM_EVERY_S", 0)
    path = tmp_path / "v.mp4"
    free(monkeypatch, 100)
    with VideoSink(path, 25) as sink:
        for i in range(20):
            sink.write(annotated(PLAIN, index=i))
        free(monkeypatch, 10)
        with pytest.raises(OutputError, match="the video so far is kept"):
            sink.write(annotated(PLAIN, index=20))
    assert len(frames_in(path)) == 20
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize("suffix", sorted(video.VIDEO_CODECS))
def test_the_codecs_of_this_opencv_work_and_leave_nothing(tmp_path, suffix):
    assert codec_problem(suffix, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_an_error_before_the_first_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_proved", set())
    monkeypatch.setitem(video.VIDEO_CODECS, ".mp4", "ZZZZ")
    monkeypatch.setitem(video._CODEC_NAMES, "ZZZZ", "Nonsense")
    with pytest.raises(OutputError, match=r"v\.mp4: this OpenCV cannot encode Nonsense \(ZZZZ\)"):
        VideoSink(tmp_path / "v.mp4", 25)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_writes_rubbish_is_found_by_reading_it_back(tmp_path, monkeypatch):
    real = cv2.VideoWriter

    class Rubbish:
        fourcc = real.fourcc

        def __init__(self, *arguments):
            self.real = real(*arguments)
            self.isOpened, self.release = self.real.isOpened, self.real.release

        def write(self, image):
            self.real.write(255 - image)

    monkeypatch.setattr(video, "_proved", set())
    monkeypatch.setattr(cv2, "VideoWriter", Rubbish)
    with pytest.raises(OutputError, match="cannot be read back"):
        VideoSink(tmp_path / "v.avi", 25)
    assert list(tmp_path.iterdir()) == []


def test_a_codec_is_tried_once_in_a_process(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(video, "_proved", set())
    monkeypatch.setattr(video, "codec_problem", lambda suffix, _: tried.append(suffix))
    for name in ("a.mp4", "b.MP4", "c.avi", "d.mp4"):
        VideoSink(tmp_path / name, 25).close()
    assert tried == [".mp4", ".avi"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (3, 3), (15, 17), (161, 121)])
def test_a_frame_of_any_size_can_be_written_and_nothing_of_it_is_lost(tmp_path, suffix, size):
    path = tmp_path / f"v{suffix}"
    frame = annotated(size=size)
    frame.frame.image[:] = (40, 90, 200)
    write_all(VideoSink(path, 25), frame, frame, frame)
    frames = frames_in(path)
    width, height = size
    assert [f.shape for f in frames] == [(max(16, height + height % 2), max(16, width + width % 2), 3)] * 3
    assert np.abs(frames[-1].astype(int) - (40, 90, 200)).max() < 12  # no line of another colour


@pytest.mark.parametrize(("suffix", "width"), [(".mp4", 8192), (".avi", 65536)])
def test_a_frame_too_large_for_the_codec_is_refused_clearly(tmp_path, suffix, width):
    with pytest.raises(OutputError, match=f"holds at most .* the frames have {width} x 2"):
        write_all(VideoSink(tmp_path / f"v{suffix}", 25), annotated(size=(width, 2)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan"), float("inf"), 1e9])
def test_a_frame_rate_that_makes_no_sense_becomes_the_usual_one(tmp_path, fps):
    path = tmp_path / "v.mp4"
    write_all(VideoSink(path, fps), annotated(), annotated())
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 25


@pytest.mark.skipif(sys.platform != "linux", reason="file names of bytes")
def test_a_video_in_a_folder_whose_name_is_not_utf8_is_refused_and_no_crash(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(OutputError, match="folder of this name"):
        VideoSink(path / "v.mp4", 25)
    in_place = tmp_path / os.fsdecode(b"caf\xe9.mp4")  # the file itself can have such a name
    write_all(VideoSink(in_place, 25), annotated())
    assert in_place.stat().st_size > 0


def numbers_in(path) -> list[int]:
    """The numbers that `live` has put into the frames of a video."""
    return [int(frame.mean(axis=(0, 2)).argmax()) // 8 for frame in frames_in(path)]


def live(*times):
    """Frames at these times, the number of each shown by the place of a white bar."""
    frames = [annotated(time_s=time_s, index=i, size=(1024, 16)) for i, time_s in enumerate(times)]
    for i, frame in enumerate(frames):
        frame.frame.image[:, 8 * (i % 128) : 8 * (i % 128) + 8] = 255
    return frames


REAL_TIMES = {
    "as announced": [i / 10 for i in range(40)],
    "half as fast": [i / 5 for i in range(20)],
    "three times as fast": [i / 30 for i in range(120)],
    "trembling": [i / 10 + 0.04 * (-1) ** i for i in range(40)],
    "at 7.3 a second from an odd start": [123.4 + i / 7.3 for i in range(30)],
    "long gap in the middle": [0, 0.1, 0.2, 9.0, 9.1, 9.2],
    "long gap at the end": [0, 0.1, 10.0],
}


@pytest.mark.parametrize("name", REAL_TIMES)
def test_a_live_video_lasts_as_long_as_what_it_shows(tmp_path, name):
    times = REAL_TIMES[name]
    path = tmp_path / "v.avi"
    write_all(VideoSink(path, 10, real_time=True), *live(*times))
    shown = numbers_in(path)
    assert len(shown) / 10 == pytest.approx(times[-1] - times[0] + 0.1, abs=0.1)
    assert shown == sorted(shown)  # in order
    if "gap" not in name:  # every frame at its time
        for slot, number in enumerate(shown):
            assert times[number] - times[0] == pytest.approx(slot / 10, abs=0.11)


def test_without_real_time_every_frame_is_written_once(tmp_path):
    path = tmp_path / "v.avi"
    write_all(VideoSink(path, 10), *live(0, 0.1, 5.0))
    assert len(frames_in(path)) == 3


def test_a_gap_is_made_up_for_in_pieces(tmp_path):
    sink = VideoSink(tmp_path / "v.avi", 10, real_time=True)
    times = [0.0, 0.1, *(10 + i / 10 for i in range(200))]
    longest = 0.0
    with sink:
        for frame in live(*times):
            before = sink._frames
            sink.write(frame)
            longest = max(longest, sink._frames - before)
        assert sink._frames == 300  # made up for, well before the end
    assert longest == 11
    assert len(frames_in(tmp_path / "v.avi")) == 300


@pytest.mark.parametrize("gap_s", [11, 8 * 3600])
def test_a_gap_of_more_than_ten_seconds_is_left_out(tmp_path, caplog, gap_s):
    times = [0.0, 0.1, 0.2, *(0.2 + gap_s + i / 10 for i in range(5))]
    write_all(VideoSink(tmp_path / "v.avi", 10, real_time=True), *live(*times))
    assert numbers_in(tmp_path / "v.avi") == list(range(8))
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        f"no frame came for {gap_s} s; the video leaves this gap out"
    ]


def test_a_live_source_that_starts_its_time_anew_goes_on_in_the_video(tmp_path):
    write_all(VideoSink(tmp_path / "v.avi", 10, real_time=True), *live(5.0, 5.1, 5.2, 0.0, 0.1, 0.2))
    assert 5 <= len(frames_in(tmp_path / "v.avi")) <= 6
