"""Annotated videos: codecs, sizes, real time, and a disk that becomes full."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import facts
from sink_frames import PLAIN, annotated, write_all

from ageinfer.errors import OutputError, UsageError
from ageinfer.sinks import VideoSink
from ageinfer.sinks.encoder import CODECS, CONTAINER_CODECS


def frames_in(path) -> list:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (decoded := capture.read())[0]:
        frames.append(decoded[1])
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".MP4"])
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
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = np.random.default_rng(0).integers(0, 255, (30, 120, 160, 3), dtype=np.uint8)
try:
    with VideoSink(Path(sys.argv[1]), 25) as sink:
        for image in noise:
            sink.write(AnnotatedFrame(Frame("", 0, 0, image), FrameResult("", 0, 0, (160, 120), ())))
except OutputError as error:
    print(error)
    sys.exit(int(error.exit_status))
"""
    path = tmp_path / f"v{suffix}"
    command = [sys.executable, "-c", script, str(path)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == OutputError.exit_status, process.stderr
    assert "there is no room; make some or choose another place" in process.stdout
    if suffix == ".mp4":  # whose index is written at the end
        assert list(tmp_path.iterdir()) == []
    else:
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        assert 3 < len(frames_in(path)) < 30


def test_a_small_disk_that_becomes_full_is_named_as_the_reason(tmp_path, monkeypatch):
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk is not permitted")
    try:
        free(monkeypatch, 100)  # nothing warns before it is full
        noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
        frames = [annotated(size=(320, 240), index=number, time_s=number / 25) for number in range(200)]
        for number, frame in enumerate(frames):
            frame.frame.image[:] = np.roll(noise, 7 * number)
        with pytest.raises(OutputError, match="there is no room"):
            write_all(VideoSink(tmp_path / "v.mp4", 25), *frames)
        assert list(tmp_path.iterdir()) == []
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in names there")
def test_a_name_that_looks_like_an_address_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http:x.mp4", "tcp:127.0.0.1.mov", "pipe:1.mkv"):
        write_all(VideoSink(Path(name), 25), annotated())
        assert frames_in(Path(name).absolute())


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


@pytest.mark.parametrize(
    ("suffix", "codec", "found"),
    [
        (".mp4", None, ("h264", "yuv420p")), (".mov", None, ("h264", "yuv420p")), (".mkv", None, ("h264", "yuv420p")),
        (".webm", None, ("vp9", "yuv420p")), (".avi", None, ("mjpeg", "yuvj420p")),
        *((".mkv", name, (name, CODECS[name].pixels)) for name in CONTAINER_CODECS[".mkv"]),
    ],
)  # fmt: skip
def test_the_codec_is_the_one_that_is_asked_for_or_that_players_know(tmp_path, suffix, codec, found):
    path = tmp_path / f"v{suffix}"
    write_all(VideoSink(path, 25, codec=codec), *(annotated(PLAIN, index=i) for i in range(3)))
    said = facts(path)
    decoder = {"av1": "libdav1d"}.get(found[0], found[0])
    assert (said["codec"], said["pixels"], said["frames"]) == (decoder, found[1], 3)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux alone")
@pytest.mark.parametrize("codec", CONTAINER_CODECS[".mkv"])
def test_no_codec_gives_the_process_the_priority_of_a_real_time_program(tmp_path, codec):
    with VideoSink(tmp_path / "v.mkv", 25, codec=codec) as sink:
        sink.write(annotated(PLAIN))
        policies = {os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}
    assert policies == {os.SCHED_OTHER}


def test_a_player_can_begin_an_mp4_before_it_has_all_of_it(tmp_path):
    path = tmp_path / "v.mp4"
    write_all(VideoSink(path, 25), *(annotated(PLAIN, index=i) for i in range(3)))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [("v.webm", "h264", "--codec h264: .webm holds vp9, av1"), ("v.avi", "hevc", "--codec hevc: .avi holds mjpeg")],
)
def test_a_codec_that_the_container_does_not_hold_is_refused(tmp_path, name, codec, said):
    with pytest.raises(UsageError, match=said):
        VideoSink(tmp_path / name, 25, codec=codec)


def without(monkeypatch, *names):
    """This FFmpeg has no such encoders."""
    for name in names:
        monkeypatch.setitem(CODECS, name, replace(CODECS[name], encoder="nonsense"))


def test_where_an_encoder_is_missing_the_next_best_is_used(tmp_path, monkeypatch):
    without(monkeypatch, "h264")
    path = tmp_path / "v.mp4"
    write_all(VideoSink(path, 25), annotated())
    assert facts(path)["codec"] == "mpeg4"


def test_a_missing_encoder_is_an_error_before_the_first_frame(tmp_path, monkeypatch):
    without(monkeypatch, "vp9", "av1")
    for named, said in ((None, "VP9"), ("av1", "AV1")):
        with pytest.raises(OutputError, match=rf"v\.webm: this FFmpeg has no encoder for {said}; use another --codec"):
            VideoSink(tmp_path / "v.webm", 25, codec=named)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize(("suffix", "width"), [(".mp4", 16386), (".avi", 65536)])
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


def live(*times):
    """Frames at these times."""
    return [annotated(PLAIN, time_s=time_s, index=i) for i, time_s in enumerate(times)]


REAL_TIMES = {
    "as announced": [i / 10 for i in range(40)],
    "half as fast": [i / 5 for i in range(20)],
    "three times as fast": [i / 30 for i in range(120)],
    "trembling": [i / 10 + 0.04 * (-1) ** i for i in range(40)],
    "at 7.3 a second from an odd start": [123.4 + i / 7.3 for i in range(30)],
    "long gap in the middle": [0, 0.1, 0.2, 9.0, 9.1, 9.2],
    "long gap at the end": [0, 0.1, 10.0],
}


@pytest.mark.parametrize("real_time", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("name", REAL_TIMES)
def test_every_frame_stands_at_its_own_time(tmp_path, name, suffix, real_time):
    times = REAL_TIMES[name]
    path = tmp_path / f"v{suffix}"
    write_all(VideoSink(path, 10, real_time=real_time), *live(*times))
    said = facts(path)
    assert said["times"] == pytest.approx([time - times[0] for time in times], abs=2e-3)
    assert said["length_s"] == pytest.approx(times[-1] - times[0] + 0.1, abs=0.11)


def test_a_container_without_time_stamps_keeps_the_length(tmp_path):
    """AVI has one rate: a frame that comes too early is left out, and a gap stays a gap."""
    write_all(VideoSink(tmp_path / "v.avi", 10), *live(0, 0.1, 0.12, 0.5, 2.0))
    said = facts(tmp_path / "v.avi")
    assert said["times"] == pytest.approx([0, 0.1, 0.5, 2.0], abs=0.01)


def test_frames_without_a_time_come_at_the_rate(tmp_path):
    write_all(VideoSink(tmp_path / "v.mp4", 10), *(annotated(PLAIN, time_s=None, index=i) for i in range(5)))
    assert facts(tmp_path / "v.mp4")["times"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)


@pytest.mark.parametrize("gap_s", [11, 8 * 3600])
def test_live_a_gap_of_more_than_ten_seconds_is_left_out(tmp_path, caplog, gap_s):
    times = [0.0, 0.1, 0.2, *(0.2 + gap_s + i / 10 for i in range(5))]
    write_all(VideoSink(tmp_path / "v.mp4", 10, real_time=True), *live(*times))
    assert facts(tmp_path / "v.mp4")["times"] == pytest.approx([i / 10 for i in range(8)], abs=1e-3)
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        f"no frame came for {gap_s} s; the video leaves this gap out"
    ]
    write_all(VideoSink(tmp_path / "file.mp4", 10), *live(*times))  # a recording keeps it
    assert facts(tmp_path / "file.mp4")["times"] == pytest.approx(times, abs=1e-3)


def test_a_source_that_starts_its_time_anew_goes_on_in_the_video(tmp_path):
    write_all(VideoSink(tmp_path / "v.mp4", 10, real_time=True), *live(5.0, 5.1, 5.2, 0.0, 0.1, 0.2))
    assert facts(tmp_path / "v.mp4")["times"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-3)
