"""Outputs that cannot be written: wrong places, full disks, half a record."""

import csv
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sink_frames import PLAIN, TRACKED, annotated, records_of, write_all

from ageinfer.errors import OutputError
from ageinfer.sinks import CsvSink, FolderSink, JsonlSink, PictureSink, VideoSink

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
