import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ageinfer.draw import AnnotatedFrame
from ageinfer.errors import MissingDependencyError, OutputError, UsageError
from ageinfer.sinks import CSV_COLUMNS, CsvSink, FolderSink, JsonlSink, PictureSink, VideoSink, WindowSink
from ageinfer.sources import PICTURE_SUFFIXES
from ageinfer.types import Age, Detection, Face, Frame, FrameResult

POINTS = tuple((10.0 + i, 20.126 + i) for i in range(5))
PLAIN = Face(Detection((30.0, 40.5, 20.004, 25.0), 0.93164), Age(31.416, 4.2))
TRACKED = Face(Detection((-1.0, 2.0, 30.0, 40.0), 1.5, POINTS), Age(30.9, 5.0), track=3, age_smoothed_years=31.126)
NASTY = 'a, "b"\nc é 日本.mp4'


def annotated(*faces, source="clip.mp4", index=0, time_s=0.4, size=(96, 64)):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    return AnnotatedFrame(Frame(source, index, time_s, image), FrameResult(source, index, time_s, size, faces))


def write_all(sink, *frames):
    with sink:
        for frame in frames:
            sink.write(frame)


def test_a_record_has_exactly_the_promised_keys_and_values(tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(JsonlSink(str(path)), annotated(TRACKED, PLAIN, index=12))
    [line] = path.read_text(encoding="utf-8").splitlines()
    expected = {
        "schema": 1, "source": "clip.mp4", "frame": 12, "time_s": 0.4, "size": [96, 64],
        "faces": [
            {"box": [-1.0, 2.0, 30.0, 40.0], "score": 1.5, "landmarks": [[10.0 + i, 20.13 + i] for i in range(5)],
             "track": 3, "age": 30.9, "age_std": 5.0, "age_smoothed": 31.13},
            {"box": [30.0, 40.5, 20.0, 25.0], "score": 0.9316, "landmarks": None,
             "track": None, "age": 31.42, "age_std": 4.2, "age_smoothed": None},
        ],
    }  # fmt: skip
    record = json.loads(line)
    assert record == expected
    assert list(record) == list(expected)
    assert list(record["faces"][0]) == list(expected["faces"][0])


def test_a_picture_has_no_time_and_a_frame_without_a_face_is_still_a_record(tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(JsonlSink(str(path)), annotated(time_s=None))
    record = json.loads(path.read_text())
    assert record["faces"] == []
    assert record["time_s"] is None


def test_every_name_that_a_file_can_have_is_one_line_of_json(tmp_path):
    path = tmp_path / "r.jsonl"
    not_utf8 = os.fsdecode(b"caf\xe9.mp4")  # as Linux allows
    write_all(JsonlSink(str(path)), annotated(source=NASTY), annotated(source=not_utf8), annotated(source="last"))
    lines = path.read_bytes().decode("utf-8").split("\n")
    assert [json.loads(line)["source"] for line in lines[:3]][::2] == [NASTY, "last"]
    assert lines[3:] == [""]


def test_a_record_is_in_the_file_before_the_next_frame(tmp_path):
    # Whoever kills the process loses nothing that was written.
    jsonl, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    with JsonlSink(str(jsonl)) as a, CsvSink(str(table)) as b:
        for count in (1, 2, 3):
            a.write(annotated(PLAIN))
            b.write(annotated(PLAIN))
            assert len(jsonl.read_text().splitlines()) == count
            assert len(table.read_text().splitlines()) == count + 1


def test_the_table_has_one_row_a_face_and_reads_back(tmp_path):
    path = tmp_path / "r.csv"
    write_all(CsvSink(str(path)), annotated(TRACKED, PLAIN, source=NASTY), annotated(), annotated(PLAIN, time_s=None))
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, strict=True)
        rows = list(reader)
    assert tuple(reader.fieldnames) == CSV_COLUMNS
    assert [row["source"] for row in rows] == [NASTY, NASTY, "clip.mp4"]
    tracked, plain, still = rows
    assert [tracked[c] for c in ("frame", "time_s", "size_w", "size_h")] == ["0", "0.4", "96", "64"]
    assert [float(tracked[f"box_{c}"]) for c in "xywh"] == [-1, 2, 30, 40]
    assert [tracked[c] for c in ("track", "age", "age_std", "age_smoothed")] == ["3", "30.9", "5.0", "31.13"]
    assert (tracked["right_eye_x"], tracked["mouth_left_y"]) == ("10.0", "24.13")
    assert [plain[c] for c in ("nose_x", "track", "age_smoothed")] == ["", "", ""]
    assert plain["age"] == "31.42"
    assert still["time_s"] == ""


def test_a_table_without_a_face_has_its_names(tmp_path):
    path = tmp_path / "r.csv"
    write_all(CsvSink(str(path)), annotated())
    assert path.read_text().split() == [",".join(CSV_COLUMNS)]


def test_the_drawn_picture_shows_the_face_and_leaves_the_frame_alone(tmp_path):
    path = tmp_path / "new" / "p.png"
    frame = annotated(PLAIN, size=(96, 96))
    write_all(PictureSink(path), frame)
    drawn = cv2.imread(str(path))
    assert drawn.shape == (96, 96, 3)
    assert (frame.frame.image == 90).all()
    changed = (drawn != 90).any(axis=2)
    assert changed[53, 30]  # the left edge of the box at half its height
    assert not changed[53, 40]  # inside it
    assert not changed[80:].any()  # below it
    assert sorted(p.name for p in path.parent.iterdir()) == ["p.png"]


@pytest.mark.parametrize("name", ["p", "p.txt", "p.mp4", "-"])
def test_a_name_that_no_picture_can_have_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="not a name for a picture"):
        PictureSink(tmp_path / name)


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_every_picture_of_a_folder_can_be_written_under_its_own_name(tmp_path, suffix):
    folder = tmp_path / "deep" / "out"
    write_all(FolderSink(folder), annotated(PLAIN, source=f"in/one{suffix}"), annotated(source="in/two.png"))
    assert sorted(p.name for p in folder.iterdir()) == [f"one{suffix}", "two.png"]
    assert cv2.imread(str(folder / f"one{suffix}")).shape == (64, 96, 3)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OutputError, match="takes a folder"):
        FolderSink(path)
    assert path.read_text() == "mine"


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


SINKS = {
    "r.jsonl": lambda p: JsonlSink(str(p)),
    "r.csv": lambda p: CsvSink(str(p)),
    "p.png": PictureSink,
    "v.mp4": lambda p: VideoSink(p, 25),
    "folder": FolderSink,
}


@pytest.mark.parametrize("name", SINKS)
def test_a_place_below_a_file_cannot_be_written(tmp_path, name):
    # Not a matter of permissions, which root would not notice.
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=name):
        write_all(SINKS[name](tmp_path / "file" / name), annotated(PLAIN, source="a.png"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", [name for name in SINKS if name != "folder"])
def test_a_place_where_a_folder_lies_cannot_be_written_and_stays_clean(tmp_path, name):
    (tmp_path / name / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match=name):
        write_all(SINKS[name](tmp_path / name), annotated(PLAIN, source="a.png"))
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("make", [JsonlSink, CsvSink])
def test_a_full_disk_is_an_output_error(make):
    with pytest.raises(OutputError, match="No space left"):
        write_all(make("/dev/full"), annotated(PLAIN))


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limit")
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_a_video_that_did_not_fit_on_the_disk_is_an_output_error(tmp_path, suffix):
    # A limit on the size of files stands in for a full disk, in a process of its own.
    script = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from ageinfer.draw import AnnotatedFrame
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
    assert list(tmp_path.iterdir()) == []


def test_a_window_without_a_display_says_what_to_use_instead(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere there always is a display")
    with pytest.raises(MissingDependencyError, match="--output"):
        WindowSink()
