import copy
import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from ageinfer.errors import OutputError, UsageError
from ageinfer.sinks import (
    CSV_COLUMNS,
    CsvSink,
    FaceSnapshots,
    FolderSink,
    JsonlSink,
    PictureSink,
    VideoSink,
    codec_problem,
    record_schema,
    video,
    write_picture,
)
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sources import PICTURE_SUFFIXES
from ageinfer.types import Age, Detection, Face, Frame, FrameResult

ROOT = Path(__file__).parent.parent

POINTS = tuple((10.0 + i, 20.126 + i) for i in range(5))
PLAIN = Face(Detection((30.0, 40.5, 20.004, 25.0), 0.93164), Age(31.416, 4.2))
TRACKED = Face(Detection((-1.0, 2.0, 30.0, 40.0), 1.5, POINTS), Age(30.9, 5.0), 3, 31.126, 0.12003)
NASTY = 'a, "b"\nc é 日本.mp4'


def annotated(*faces, source="clip.mp4", index=0, time_s=0.4, size=(96, 64)):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    return AnnotatedFrame(Frame(source, index, time_s, image), FrameResult(source, index, time_s, size, faces))


def write_all(sink, *frames):
    with sink:
        for frame in frames:
            sink.write(frame)


SCHEMA = jsonschema.Draft202012Validator(record_schema())


def records_of(text: str) -> list[dict]:
    """The records of whole lines, each one valid."""
    assert text == "" or text.endswith("\n")
    records = [json.loads(line) for line in text.split("\n")[:-1]]
    for record in records:
        SCHEMA.validate(record)
    return records


def test_a_record_has_exactly_the_promised_keys_and_values(tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(JsonlSink(str(path)), annotated(TRACKED, PLAIN, index=12))
    [record] = records_of(path.read_text(encoding="utf-8"))
    expected = {
        "schema": 1, "source": "clip.mp4", "frame": 12, "time_s": 0.4, "size": [96, 64],
        "faces": [
            {"box": [-1.0, 2.0, 30.0, 40.0], "score": 1.5, "landmarks": [[10.0 + i, 20.13 + i] for i in range(5)],
             "track": 3, "age": 30.9, "age_std": 5.0, "age_smoothed": 31.13, "age_lag_s": 0.12},
            {"box": [30.0, 40.5, 20.0, 25.0], "score": 0.9316, "landmarks": None,
             "track": None, "age": 31.42, "age_std": 4.2, "age_smoothed": None, "age_lag_s": 0.0},
        ],
    }  # fmt: skip
    assert record == expected
    assert list(record) == list(expected)
    assert list(record["faces"][0]) == list(expected["faces"][0])


def test_a_picture_has_no_time_and_a_frame_without_a_face_is_still_a_record(tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(JsonlSink(str(path)), annotated(time_s=None))
    [record] = records_of(path.read_text())
    assert record["faces"] == []
    assert record["time_s"] is None


def test_every_name_that_a_file_can_have_is_one_line_of_json(tmp_path):
    path = tmp_path / "r.jsonl"
    not_utf8 = os.fsdecode(b"caf\xe9.mp4")  # as Linux allows
    write_all(JsonlSink(str(path)), annotated(source=NASTY), annotated(source=not_utf8), annotated(source="last"))
    records = records_of(path.read_bytes().decode("utf-8"))
    assert [record["source"] for record in records][::2] == [NASTY, "last"]
    assert len(records) == 3


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
    tail = ("track", "age", "age_std", "age_smoothed", "age_lag_s")
    assert [tracked[c] for c in tail] == ["3", "30.9", "5.0", "31.13", "0.12"]
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


# OpenCV can neither read nor write HEIC, a .jfif it can only read, and a .pbm has no greys.
@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES - {".heic", ".heif", ".jfif", ".pbm"}))
def test_every_picture_of_a_folder_can_be_written_under_its_own_name(tmp_path, suffix):
    folder = tmp_path / "deep" / "out"
    write_all(FolderSink(folder), annotated(PLAIN, source=f"in/one{suffix}"), annotated(source="in/two.png"))
    assert sorted(p.name for p in folder.iterdir()) == [f"one{suffix}", "two.png"]
    assert cv2.imread(str(folder / f"one{suffix}")).shape == (64, 96, 3)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OutputError, match="cannot be made a folder"):
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
    with pytest.raises(OutputError, match=r"almost full \(15 MB free, 16 are needed\)"):
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


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX links")
@pytest.mark.parametrize("make", [JsonlSink, CsvSink])
@pytest.mark.parametrize("link", ["itself", "symlink_to", "hardlink_to"])
def test_records_never_take_the_place_of_a_picture_that_is_read(tmp_path, make, link):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"pixels")
    name = picture if link == "itself" else tmp_path / "other"
    if link != "itself":
        getattr(name, link)(picture)
    with pytest.raises(OutputError, match="would overwrite a picture that is read"):
        make(str(name), untouchable=[picture])
    assert picture.read_bytes() == b"pixels"


def changed(record: dict, path: str, value) -> dict:
    """A copy with one value replaced; `path` as in ``faces.0.box``."""
    record = copy.deepcopy(record)
    at, *keys = record, *path.split(".")
    for key in keys[:-1]:
        at = at[int(key) if key.isdigit() else key]
    at[keys[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2), ("source", None), ("frame", -1), ("frame", 1.5), ("time_s", "0"), ("size", [96]),
        ("size", [0, 1]), ("faces", None), ("faces.0.box", [1, 2, 3]), ("faces.0.box", [1, 2, -3, 4]),
        ("faces.0.score", None), ("faces.0.landmarks", [[1, 2]] * 4), ("faces.0.landmarks", [[1, 2, 3]] * 5),
        ("faces.0.track", 1.5), ("faces.0.age", None), ("faces.0.age_std", -1), ("faces.0.age_smoothed", "30"),
        ("faces.0.age_lag_s", -1),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_no_record_may_hold(path, value):
    record = annotated(TRACKED).result.to_record()
    SCHEMA.validate(record)
    SCHEMA.validate(record | {"of a later version": 1})
    assert not SCHEMA.is_valid(changed(record, path, value))


def test_the_schema_is_one_and_asks_for_every_key_of_a_record():
    schema = record_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    record = annotated(TRACKED).result.to_record()
    face = schema["$defs"]["face"]
    assert schema["required"] == list(schema["properties"]) == list(record)
    assert face["required"] == list(face["properties"]) == list(record["faces"][0])
    assert all(len(value["description"]) > 15 for value in (schema["properties"] | face["properties"]).values())


def test_the_document_has_the_keys_of_the_schema_and_the_columns_of_the_table():
    text = (ROOT / "docs" / "records.md").read_text()
    keys, columns = (part[part.index("|---|---|") :].split("\n\n")[0] for part in text.split("\n## ")[1:3])
    schema = record_schema()
    assert re.findall(r"^\| `(\w+)` \|", keys, re.MULTILINE) == [
        *schema["properties"], *schema["$defs"]["face"]["properties"],
    ]  # fmt: skip
    first_cells = [line.split("|")[1] for line in columns.splitlines()[1:]]
    assert re.findall(r"`(\w+)`", "".join(first_cells)) == list(CSV_COLUMNS)


def test_the_example_of_the_document_is_a_record():
    [example] = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "records.md").read_text(), re.DOTALL)
    SCHEMA.validate(json.loads(example))


def test_what_json_cannot_hold_is_an_error_and_no_broken_line(tmp_path):
    path = tmp_path / "r.jsonl"
    broken = Face(PLAIN.detection, Age(float("nan"), 1.0))
    with pytest.raises(OutputError, match="frame 7"):
        write_all(JsonlSink(str(path)), annotated(PLAIN), annotated(broken, index=7))
    assert len(records_of(path.read_text())) == 1


class SmallDisk(io.FileIO):
    """A file on a disk that is full after so many bytes."""

    room = 1000

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = super().write(data[: self.room])
        self.room -= count
        return count


@pytest.mark.parametrize("make", [JsonlSink, CsvSink])
def test_a_line_for_which_the_disk_was_too_small_is_taken_back(tmp_path, monkeypatch, make):
    path = tmp_path / "records"
    monkeypatch.setattr(io, "FileIO", SmallDisk)
    with pytest.raises(OutputError, match="No space left"):
        write_all(make(str(path)), *(annotated(TRACKED, TRACKED, index=i) for i in range(100)))
    text = path.read_bytes().decode()
    assert 300 < len(text) < SmallDisk.room
    if make is JsonlSink:
        assert [record["frame"] for record in records_of(text)] == list(range(len(text.split("\n")) - 1))
    else:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        assert text.endswith("\r\n")
        assert [row["frame"] for row in rows] == [str(i // 2) for i in range(len(rows))]  # whole frames
        assert len(rows) % 2 == 0


FILL = """
import sys
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.errors import OutputError
from ageinfer.sinks import JsonlSink
from ageinfer.types import Frame, FrameResult
try:
    with JsonlSink(sys.argv[1]) as sink:
        for i in range(2000):
            sink.write(AnnotatedFrame(Frame("x" * 99, i, 0, None), FrameResult("x" * 99, i, 0, (9, 9), ())))
except OutputError as error:
    sys.exit(int(error.exit_status))
"""


@pytest.mark.parametrize("to", ["file", "standard output"])
def test_on_a_disk_that_is_really_full_whole_records_stay(tmp_path, to):
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path]
    try:
        if subprocess.run(mounted, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small disk is not permitted")
    except OSError:
        pytest.skip("no mount")
    path = tmp_path / "r.jsonl"
    before = "" if to == "file" else '{"earlier": "run"}\n'
    try:
        command = [sys.executable, "-c", FILL]
        if to == "file":
            done = subprocess.run([*command, path], capture_output=True, text=True, check=False, timeout=60)
        else:
            path.write_text(before)
            with path.open("a") as stream:  # as >> in a shell
                done = subprocess.run([*command, "-"], stdout=stream, stderr=subprocess.PIPE, check=False, timeout=60)
        text = path.read_text()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == OutputError.exit_status, done.stderr
    assert not done.stderr
    assert text.startswith(before)
    records = records_of(text[len(before) :])
    assert [record["frame"] for record in records] == list(range(len(records)))
    assert 64 * 1024 - 400 < len(text) <= 64 * 1024


def test_what_others_wrote_behind_a_broken_line_is_not_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"

    class Shared(SmallDisk):
        def write(self, data):
            if self.room == 0:
                with path.open("ab") as other:
                    other.write(b"somebody else's\n")
            return super().write(data)

    monkeypatch.setattr(io, "FileIO", Shared)
    with pytest.raises(OutputError):
        write_all(JsonlSink(str(path)), *(annotated(PLAIN) for _ in range(20)))
    assert path.read_bytes().endswith(b"somebody else's\n")


def test_standard_output_may_be_a_stream_without_a_descriptor(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    write_all(JsonlSink("-"), annotated(PLAIN, source=NASTY), annotated(source=os.fsdecode(b"\xe9")))
    assert records_of(stream.getvalue())[0]["source"] == NASTY


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_every_record(monkeypatch):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # as some parents leave it
    received = []

    def read_late():
        time.sleep(0.3)
        with os.fdopen(reader, "rb") as stream:
            received.append(stream.read().decode())

    thread = threading.Thread(target=read_late)
    thread.start()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        write_all(JsonlSink("-"), *(annotated(*[TRACKED] * 20, index=i) for i in range(60)))
        monkeypatch.undo()
    thread.join(20)
    [text] = received
    assert len(text) > 2**17  # more than a pipe holds
    assert [record["frame"] for record in records_of(text)] == list(range(60))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_a_reader_that_has_gone_is_a_broken_pipe(monkeypatch):
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        sink = JsonlSink("-")
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            write_all(sink, annotated(PLAIN))


# Pictures


def grey_picture(value: int, source: str, size=(96, 64)) -> AnnotatedFrame:
    image = np.full((size[1], size[0], 3), value, np.uint8)
    return AnnotatedFrame(Frame(source, 0, None, image), FrameResult(source, 0, None, size, ()))


def test_pictures_of_one_name_from_different_folders_do_not_overwrite_each_other(tmp_path):
    names = ["a/p.png", "b/p.png", "b/p-2.png", "c/p.png", "c/P.PNG", "d/other.png"]
    write_all(FolderSink(tmp_path), *(grey_picture(10 * i, name) for i, name in enumerate(names)))
    expected = ["p.png", "p-2.png", "p-2-2.png", "p-3.png", "P-4.PNG", "other.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)
    assert [cv2.imread(str(tmp_path / name))[0, 0, 0] for name in expected] == [0, 10, 20, 30, 40, 50]
    # Another run replaces what this one wrote.
    write_all(FolderSink(tmp_path), grey_picture(99, "z/p.png"))
    assert cv2.imread(str(tmp_path / "p.png"))[0, 0, 0] == 99


def test_ten_thousand_pictures_of_one_name_are_named_at_once():
    from ageinfer.sinks.pictures import Names

    names = Names()
    began = time.monotonic()
    assert len({names.unique("frame.jpg") for _ in range(10_000)}) == 10_000
    assert time.monotonic() - began < 5  # trying every number anew takes a minute


@pytest.mark.parametrize("name", ["photo", "photo.txt", "archive.tar", os.fsdecode(b"caf\xe9"), os.fsdecode(b"p.\xe9")])
def test_a_picture_whose_name_says_no_format_is_written_as_png(tmp_path, name):
    write_all(FolderSink(tmp_path), grey_picture(50, f"in/{name}"))
    [path] = tmp_path.iterdir()
    assert path.name == f"{name}.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_picture_that_a_frame_comes_from_is_never_overwritten(tmp_path):
    source = tmp_path / "in" / "p.png"
    write_picture(source, np.full((8, 8, 3), 7, np.uint8))
    before = source.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(source.parent)
    frame = grey_picture(200, str(source))
    for sink in (FolderSink(source.parent), FolderSink(link), PictureSink(link / "p.png")):
        with pytest.raises(OutputError, match=r"p\.png: would overwrite a picture that is read"):
            write_all(sink, frame)
    # Nor one that is still to be read.
    with pytest.raises(OutputError, match="would overwrite"):
        write_all(FolderSink(source.parent, untouchable=[source]), grey_picture(200, "elsewhere/p.png"))
    assert source.read_bytes() == before
    assert [p.name for p in source.parent.iterdir()] == ["p.png"]


def test_a_picture_that_its_format_cannot_hold_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match=r"wide\.jpg: \.jpg cannot hold a picture of 70000 x 2 pixels"):
        write_picture(tmp_path / "wide.jpg", np.zeros((2, 70_000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_that_a_file_can_have_is_no_obstacle(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    write_all(PictureSink(path), grey_picture(50, "in/p.png"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# Pictures of faces


@pytest.fixture(scope="module")
def detector():
    from ageinfer.detect import open_detector

    return open_detector("yunet", provider="cpu", threads=1)


@pytest.fixture(scope="module")
def found(detector, persons):
    """The detections of each of the three portraits, one face each."""
    found = [detector.detect(picture) for picture in persons]
    assert [len(faces) for faces in found] == [1, 1, 1]
    return [faces[0] for faces in found]


def view(picture, detection, track, *, time_s=0.0, blur=0.0, scale=1.0, source="clip.mp4"):
    """A frame of a clip with one real face, smaller or less sharp."""
    if scale != 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    height, width = picture.shape[:2]
    box = tuple(v * scale for v in detection.box)
    face = Face(Detection(box, detection.score), Age(30, 5), track, None if track is None else 30.0)
    index = 0 if time_s is None else round(time_s * 25)
    result = FrameResult(source, index, time_s, (width, height), (face,))
    return AnnotatedFrame(Frame(source, index, time_s, picture), result)


def similar(path, picture) -> bool:
    """Whether a file holds this picture, as far as JPEG can."""
    written = cv2.imread(str(path))
    return written.shape == picture.shape and np.abs(written.astype(int) - picture).mean() < 4


def with_margin(picture, detection, margin):
    x, y, w, h = detection.box
    more = margin * max(w, h)
    x0, y0 = max(0, int(np.floor(x - more))), max(0, int(np.floor(y - more)))
    return picture[y0 : int(np.ceil(y + h + more)), x0 : int(np.ceil(x + w + more))]


def test_of_every_track_the_best_view_is_left(tmp_path, persons, found, detector):
    first, second = persons[0], persons[1]
    frames = [
        view(first, found[0], 12, time_s=0.0, blur=3),
        view(first, found[0], 12, time_s=0.04, scale=0.3),
        view(second, found[1], 7, time_s=0.08, scale=0.5),
        view(first, found[0], 12, time_s=0.12),  # the best of 12
        view(first, found[0], 12, time_s=0.16, blur=1.5),
        view(second, found[1], 7, time_s=0.2),  # the best of 7
        view(second, found[1], 7, time_s=0.24, scale=0.2),
    ]
    write_all(FaceSnapshots(tmp_path, margin=0.3), *frames)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["track-00007.jpg", "track-00012.jpg"]
    assert similar(tmp_path / "track-00012.jpg", with_margin(first, found[0], 0.3))
    assert similar(tmp_path / "track-00007.jpg", with_margin(second, found[1], 0.3))
    assert len(detector.detect(cv2.imread(str(tmp_path / "track-00012.jpg")))) == 1


def test_the_quality_of_a_view_falls_with_blur_with_smallness_and_at_the_edge(persons, found):
    from ageinfer.sinks import view_quality

    for picture, detection in zip(persons, found, strict=True):
        quality = {
            name: view_quality(frame.frame.image, frame.result.faces[0])
            for name, frame in {
                "best": view(picture, detection, 1),
                "soft": view(picture, detection, 1, blur=2),
                "softer": view(picture, detection, 1, blur=5),
                "small": view(picture, detection, 1, scale=0.5),
                "smaller": view(picture, detection, 1, scale=0.2),
                "cut": view(picture[int(detection.box[1] + detection.box[3] / 2) :], Detection(
                    (detection.box[0], -detection.box[3] / 2, *detection.box[2:]), detection.score), 1),
                "less sure": view(picture, Detection(detection.box, detection.score / 2), 1),
            }.items()
        }  # fmt: skip
        assert quality["best"] > quality["soft"] > quality["softer"] > 0
        assert quality["best"] > quality["small"] > quality["smaller"] > 0
        assert quality["best"] > max(quality["cut"], quality["less sure"])


def test_half_of_a_face_is_worth_half(persons, found):
    from ageinfer.sinks import view_quality

    x, y, w, h = (round(v) for v in found[0].box)
    lower = persons[0][y + h // 2 :]  # the frame begins in the middle of the face
    whole = view_quality(lower, Face(Detection((x, 0, w, h - h // 2), 0.9), Age(30, 5)))
    half = view_quality(lower, Face(Detection((x, -(h - h // 2), w, 2 * (h - h // 2)), 0.9), Age(30, 5)))
    assert half == pytest.approx(whole / 2)


def test_a_track_is_on_the_disk_from_its_first_frame_and_replaced_once_a_second(tmp_path, persons, found):
    path = tmp_path / "track-00001.jpg"
    times = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.8, 2.0)
    seen = []
    with FaceSnapshots(tmp_path, every_s=1.0) as sink:
        for i, time_s in enumerate(times):  # ever better
            sink.write(view(persons[0], found[0], 1, time_s=time_s, scale=0.2 + 0.08 * i))
            seen.append(path.stat().st_ino)
    replaced = [time_s for time_s, before, now in zip(times[1:], seen, seen[1:], strict=False) if before != now]
    assert replaced == [1.0, 2.0]


def test_the_last_better_view_of_a_track_that_ended_is_written_while_others_go_on(tmp_path, persons, found):
    with FaceSnapshots(tmp_path) as sink:
        sink.write(view(persons[0], found[0], 1, time_s=0.0, blur=4))
        sink.write(view(persons[0], found[0], 1, time_s=0.1))
        assert not similar(tmp_path / "track-00001.jpg", with_margin(persons[0], found[0], 0.3))
        sink.write(view(persons[1], found[1], 2, time_s=1.5))
        assert similar(tmp_path / "track-00001.jpg", with_margin(persons[0], found[0], 0.3))


def test_faces_of_pictures_have_the_names_of_their_pictures(tmp_path, persons, found, detector):
    pair = np.hstack([persons[0][:460], persons[1][:460]])
    faces = tuple(Face(d, Age(30, 5)) for d in detector.detect(pair))
    assert len(faces) == 2
    group = AnnotatedFrame(
        Frame("in/group.png", 0, None, pair), FrameResult("in/group.png", 0, None, pair.shape[1::-1], faces)
    )
    single = [view(persons[2], found[2], None, time_s=None, source=f"{folder}/group.jpg") for folder in "ab"]
    odd = view(persons[2], found[2], None, time_s=None, source="rtsp://host:554/a?b")
    write_all(FaceSnapshots(tmp_path), group, *single, odd)
    names = ["a_b-1.jpg", "group-1.jpg", "group-2-1.jpg", "group-2.jpg", "group-3-1.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    for number, face in enumerate(faces, 1):
        assert similar(tmp_path / f"group-{number}.jpg", with_margin(pair, face.detection, 0.3))
    assert similar(tmp_path / "group-3-1.jpg", with_margin(persons[2], found[2], 0.3))


def test_faces_of_a_video_that_are_not_tracked_are_written_once_a_second(tmp_path, persons, found):
    frames = [view(persons[0], found[0], None, time_s=i / 25, source="v/clip.mp4") for i in range(60)]
    write_all(FaceSnapshots(tmp_path), *frames)
    expected = ["clip-f000000-1.jpg", "clip-f000025-1.jpg", "clip-f000050-1.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == expected


def test_no_more_faces_than_allowed_and_one_warning(tmp_path, persons, found, caplog):
    sink = FaceSnapshots(tmp_path, max_faces=2)
    frames = [view(persons[0], found[0], track, time_s=track / 25, scale=0.3) for track in (1, 2, 3, 4)]
    better = view(persons[0], found[0], 2, time_s=0.3)
    write_all(sink, *frames, view(persons[0], found[0], None, time_s=None), better)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["track-00001.jpg", "track-00002.jpg"]
    assert similar(tmp_path / "track-00002.jpg", with_margin(persons[0], found[0], 0.3))  # those there still improve
    [record] = caplog.records
    assert "2 faces" in record.getMessage()


def test_a_face_outside_the_frame_has_no_picture(tmp_path, persons):
    outside = Detection((-80.0, 10.0, 40.0, 40.0), 0.9)
    write_all(FaceSnapshots(tmp_path), view(persons[0], outside, 1), view(persons[0], outside, None, time_s=None))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_a_face_never_takes_the_place_of_a_source(tmp_path, persons, found):
    write_picture(tmp_path / "p-1.jpg", persons[0])
    before = (tmp_path / "p-1.jpg").read_bytes()
    frame = view(persons[0], found[0], None, time_s=None, source=str(tmp_path / "p.jpg"))
    with pytest.raises(OutputError, match="would overwrite"):
        write_all(FaceSnapshots(tmp_path, untouchable=[tmp_path / "p-1.jpg"]), frame)
    assert (tmp_path / "p-1.jpg").read_bytes() == before


def test_faces_that_are_to_be_hidden_are_not_shown_by_the_pictures_of_them(tmp_path, persons, found):
    frame = view(persons[0], found[0], 1)
    with pytest.raises(UsageError, match="contradict"):
        write_all(FaceSnapshots(tmp_path), AnnotatedFrame(frame.frame, frame.result, blur=True))
    assert list(tmp_path.iterdir()) == []


# Video


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
        f"nothing came for {gap_s} s, which the video leaves out"
    ]


def test_a_live_source_that_starts_its_time_anew_goes_on_in_the_video(tmp_path):
    write_all(VideoSink(tmp_path / "v.avi", 10, real_time=True), *live(5.0, 5.1, 5.2, 0.0, 0.1, 0.2))
    assert 5 <= len(frames_in(tmp_path / "v.avi")) <= 6
