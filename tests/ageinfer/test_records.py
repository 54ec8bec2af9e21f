"""Records as JSON Lines and as CSV: their keys and values, and how they are written to files and pipes."""

import csv
import io
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sink_frames import NASTY, PLAIN, TRACKED, annotated, records_of, write_all

from ageinfer.errors import OutputError
from ageinfer.sinks import CSV_COLUMNS, CsvSink, JsonlSink
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Age, Face


def test_a_record_has_exactly_the_promised_keys_and_values(tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(JsonlSink(str(path)), annotated(TRACKED, PLAIN, index=12))
    [record] = records_of(path.read_text(encoding="utf-8"))
    expected = {
        "schema": 1, "source": "clip.mp4", "frame": 12, "time_s": 0.4, "size": [96, 64],
        "model": "age-small@int8",
        "faces": [
            {"box": [-1.0, 2.0, 30.0, 40.0], "score": 1.5, "landmarks": [[10.0 + i, 20.13 + i] for i in range(5)],
             "track": 3, "age": 30.9, "age_std": 5.0, "age_smoothed": 31.13, "age_lag_s": 0.12,
                 "quality": None},
            {"box": [30.0, 40.5, 20.0, 25.0], "score": 0.9316, "landmarks": None,
             "track": None, "age": 31.42, "age_std": 4.2, "age_smoothed": None, "age_lag_s": 0.0, "quality": None},
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
    assert [record["source"] for record in records] == [NASTY, not_utf8, "last"]


def test_a_record_is_in_the_file_before_the_next_frame(tmp_path):
    # Whoever kills the process loses nothing that was written.
    jsonl, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    with JsonlSink(str(jsonl)) as a, CsvSink(str(table)) as b:
        for count in (1, 2, 3):
            a.write(annotated(PLAIN))
            b.write(annotated(PLAIN))
            assert len(jsonl.read_text().splitlines()) == count
            assert len(table.read_text().splitlines()) == count + 1


@pytest.mark.parametrize("make", [JsonlSink, CsvSink])
def test_records_of_an_earlier_run_are_replaced_as_soon_as_there_is_one(tmp_path, make):
    path = tmp_path / "records"
    path.write_text("of an earlier run\n" * 1000)
    with make(str(path)) as sink:
        assert path.read_text() == "of an earlier run\n" * 1000
        sink.write(annotated(PLAIN))
    assert "earlier" not in path.read_text()
    assert len(path.read_text().splitlines()) == (1 if make is JsonlSink else 2)


def test_the_table_has_one_row_a_face_and_reads_back(tmp_path):
    path = tmp_path / "r.csv"
    write_all(CsvSink(str(path)), annotated(TRACKED, PLAIN, source=NASTY), annotated(), annotated(PLAIN, time_s=None))
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, strict=True)
        rows = list(reader)
    assert tuple(reader.fieldnames) == CSV_COLUMNS == (
        "source", "frame", "time_s", "size_w", "size_h", "box_x", "box_y", "box_w", "box_h", "score",
        "right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y", "nose_x", "nose_y",
        "mouth_right_x", "mouth_right_y", "mouth_left_x", "mouth_left_y",
        "track", "age", "age_std", "age_smoothed", "age_lag_s", "model", "quality",
        "over_years", "p_at_least", "over", "over_why",
    )  # fmt: skip
    assert [row["source"] for row in rows] == [NASTY, NASTY, "clip.mp4"]
    tracked, plain, still = rows
    assert [tracked[c] for c in ("frame", "time_s", "size_w", "size_h")] == ["0", "0.4", "96", "64"]
    assert [float(tracked[f"box_{c}"]) for c in "xywh"] == [-1, 2, 30, 40]
    tail = ("track", "age", "age_std", "age_smoothed", "age_lag_s", "model")
    assert [tracked[c] for c in tail] == ["3", "30.9", "5.0", "31.13", "0.12", "age-small@int8"]
    points = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
    assert [tracked[f"{point}_x"] for point in points] == ["10.0", "11.0", "12.0", "13.0", "14.0"]
    assert [tracked[f"{point}_y"] for point in points] == ["20.13", "21.13", "22.13", "23.13", "24.13"]
    assert [plain[c] for c in ("nose_x", "track", "age_smoothed")] == ["", "", ""]
    assert plain["age"] == "31.42"
    assert still["time_s"] == ""


def test_a_table_without_a_face_has_its_names(tmp_path):
    path = tmp_path / "r.csv"
    write_all(CsvSink(str(path)), annotated())
    assert path.read_text().split() == [",".join(CSV_COLUMNS)]


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


def test_what_json_cannot_hold_is_an_error_and_no_broken_line(tmp_path):
    path = tmp_path / "r.jsonl"
    broken = Face(PLAIN.detection, Age(float("nan"), 1.0))
    with pytest.raises(OutputError, match="frame 7"):
        write_all(JsonlSink(str(path)), annotated(PLAIN), annotated(broken, index=7))
    assert len(records_of(path.read_text())) == 1


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


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
@pytest.mark.parametrize(("option", "make"), [("--jsonl", JsonlSink), ("--csv", CsvSink)])
def test_a_second_run_with_the_same_file_is_told_and_costs_the_first_no_record(
    run_cli, astronaut_path, tmp_path, option, make
):
    path, other_name = tmp_path / "records", tmp_path / "link"
    other_name.symlink_to(path)
    with make(str(path)) as sink:
        sink.write(annotated(PLAIN))
        for name in (path, other_name):
            done = run_cli(astronaut_path, option, name, "--quiet")
            assert done.returncode == OutputError.exit_status
            assert done.stderr == f"ageinfer: {name}: another run is writing to this file; choose another place\n"
        sink.write(annotated(PLAIN, index=1))
    assert len(path.read_text().splitlines()) == (2 if make is JsonlSink else 3)
    assert run_cli(astronaut_path, option, path, "--quiet").returncode == 0  # which replaces them
    assert "astronaut.jpg" in path.read_text()


@pytest.mark.parametrize("make", [JsonlSink, CsvSink])
def test_a_file_that_is_emptied_in_between_goes_on_at_its_beginning(tmp_path, make):
    """As by ``copytruncate`` of logrotate."""
    path = tmp_path / "records"
    with make(str(path)) as sink:
        for index in range(3):
            sink.write(annotated(PLAIN, index=index))
        os.truncate(path, 0)
        sink.write(annotated(PLAIN, index=3))
    assert b"\0" not in path.read_bytes()
    [line] = path.read_text().splitlines()
    assert line.startswith('{"schema"' if make is JsonlSink else "clip.mp4,3,")


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout")  # noqa: PTH110
def test_what_stands_in_the_file_that_standard_output_appends_to_stays(astronaut_path, tmp_path):
    path = tmp_path / "all.jsonl"
    path.write_text('{"earlier": "run"}\n')
    command = [sys.executable, "-m", "ageinfer", astronaut_path, "--quiet", "--jsonl", "/dev/stdout"]
    with path.open("a") as stream:
        assert subprocess.run(command, stdout=stream, check=False, timeout=60).returncode == 0
    first, second = path.read_text().splitlines()
    assert first == '{"earlier": "run"}'
    assert "astronaut.jpg" in second


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1).png", "+1.png", "-1+2.png", "@SUM(1).png", "\t=1.png", "\r=1.png", "\uff1d1"]
)
def test_a_name_that_is_a_formula_is_harmless_in_a_spreadsheet_and_still_names_the_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"the file")
    write_all(CsvSink("r.csv"), annotated(PLAIN, source=name))
    [row] = csv.DictReader(io.StringIO(Path("r.csv").read_bytes().decode(), newline=""), strict=True)
    assert row["source"] == f"./{name}"
    assert Path(row["source"]).read_bytes() == b"the file"
    assert float(row["box_x"]) == 30
    write_all(JsonlSink("r.jsonl"), annotated(PLAIN, source=name))
    assert records_of(Path("r.jsonl").read_text())[0]["source"] == name


def test_a_formula_behind_another_separator_stays_within_its_cell(tmp_path):
    path = tmp_path / "r.csv"
    write_all(CsvSink(str(path)), annotated(PLAIN, source="a;=1+1.png"), annotated(PLAIN, source="a\t=1+1.png"))
    for separator in ";\t":
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), delimiter=separator))
        assert not any(cell.startswith("=") for row in rows for cell in row)


def test_numbers_stay_numbers_and_a_model_that_is_a_formula_becomes_a_text(tmp_path):
    path = tmp_path / "r.csv"
    frame = annotated(TRACKED)
    result = replace(frame.result, model="=1+1@int8")
    write_all(CsvSink(str(path)), AnnotatedFrame(frame.frame, result))
    [row] = csv.DictReader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
    assert row["model"] == "'=1+1@int8"
    assert row["box_x"] == "-1.0"
