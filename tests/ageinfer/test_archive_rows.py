"""The rows of an archive say what the records of plain ``ageinfer`` say, of pictures, pages, films and people."""

import json
import os
import re
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from archive_runs import WORK, archive, people_in, rows_in, rows_of_records
from media_files import encode, several

from ageinfer.archive import looker, reading
from ageinfer.archive.items import items_of
from ageinfer.archive.rows import OVER, person_schema, row_schema
from ageinfer.commands.main import main

pytest_plugins = ["archive_runs", "command_line"]


def records(folder, *arguments):
    """The lines of the JSONL output of plain ``ageinfer``."""
    status = main([*map(str, arguments), "--jsonl", str(folder / "records.jsonl"), "--provider", "cpu", "--quiet"])
    assert status in (0, 7, 8, 11)
    return (folder / "records.jsonl").read_text().splitlines()


def test_rows_of_pictures_are_the_records_of_a_plain_run(faces, persons, tmp_path):
    folder = faces / "0"
    cv2.imwrite(str(folder / "crowd.png"), cv2.hconcat([cv2.resize(p, (400, 400)) for p in persons]))
    cv2.imwrite(str(folder / "nobody.png"), persons[0][:40, :40])
    manifest = archive(tmp_path / "out", folder)
    rows = rows_in(tmp_path / "out")
    assert rows == rows_of_records(records(tmp_path, folder))
    assert manifest["items"] == manifest["pictures"] == manifest["frames"] == 12
    assert manifest["faces"] == len(rows) - 1 == 13
    assert manifest["no_face"] == 1
    assert [row["face"] for row in rows if row["source"].endswith("crowd.png")] == [0, 1, 2]


def test_each_page_of_a_tiff_is_a_frame(persons, tmp_path):
    (tmp_path / "in").mkdir()
    several(tmp_path / "in" / "pages.tif", [cv2.resize(p, (300, 300)) for p in persons])
    archive(tmp_path / "out", tmp_path / "in")
    rows = rows_in(tmp_path / "out")
    assert rows == rows_of_records(records(tmp_path, tmp_path / "in" / "pages.tif"))
    assert [row["frame"] for row in rows] == [0, 1, 2]


def test_faces_of_a_film_are_followed_and_people_are_those_of_a_plain_run(astronaut_path, tmp_path):
    film = astronaut_path.with_name("clip.mp4")
    people = tmp_path / "people.jsonl"
    expected = rows_of_records(records(tmp_path, film, "--people", people))
    manifest = archive(tmp_path / "out", film, work=replace(WORK, people=True))
    assert rows_in(tmp_path / "out") == expected
    assert len({row["track"] for row in expected}) > 1
    found = people_in(tmp_path / "out")
    assert manifest["people"] == len(found) > 1
    for row, record in zip(found, map(json.loads, people.read_text().splitlines()), strict=True):
        record |= {f"at_least_{years}": chance for years, chance in record["at_least"].items()}
        record |= dict.fromkeys(OVER)  # nobody asked
        assert row == {name: record[name] for name in row}


def test_rows_tell_whether_somebody_has_reached_an_age_where_that_is_asked(astronaut_path, tmp_path):
    archive(tmp_path / "out", astronaut_path, work=replace(WORK, over_years=77))
    [row] = rows_in(tmp_path / "out")
    assert (row["over_years"], row["over"], row["over_why"]) == (77, "refer", "no evidence")
    assert 0 <= row["p_at_least"] < 0.1


def test_every_looks_at_few_frames_of_a_film_as_pictures(astronaut_path, tmp_path):
    film = astronaut_path.with_name("clip.mp4")
    times = [json.loads(line)["time_s"] for line in records(tmp_path, film)]
    manifest = archive(tmp_path / "out", film, work=replace(WORK, every_s=0.5))
    rows = rows_in(tmp_path / "out")
    looked_at = sorted({row["time_s"] for row in rows})
    assert looked_at == [min(t for t in times if t >= s - 1e-4) for s in (0.5 * n for n in range(len(looked_at)))]
    assert times[-1] - 0.5 < looked_at[-1]
    assert manifest["frames"] == len(looked_at)
    assert {row["track"] for row in rows} == {None}


def test_what_cannot_be_read_is_a_row_with_the_reason_in_its_place(faces, astronaut_path, tmp_path):
    folder = faces / "0"
    data = astronaut_path.read_bytes()
    (folder / "000001a.jpg").write_bytes(b"no picture")
    (folder / "000001b.jpg").write_bytes(data[: len(data) // 2])
    (folder / "000001c.jpg").write_bytes(b"")
    (folder / "000001d.png").symlink_to(folder / "nothing.png")
    manifest = archive(tmp_path / "out", folder, per_shard=50)
    rows = {row["source"].rpartition("/")[2]: row for row in rows_in(tmp_path / "out")}
    assert list(rows) == sorted(p.name for p in folder.iterdir())
    outcomes = [rows[f"000001{letter}"]["outcome"] for letter in ("a.jpg", "b.jpg", "c.jpg", "d.png")]
    assert outcomes == ["unreadable"] * 4
    assert "cannot be read" in rows["000001d.png"]["reason"]
    assert all(row["reason"] and "\n" not in row["reason"] for row in rows.values() if row["outcome"] == "unreadable")
    assert not any(str(folder) in (row["reason"] or "") for row in rows.values())
    assert manifest["unreadable"] == 4
    assert manifest["frames"] == manifest["faces"] == 10


def test_a_damaged_picture_has_a_row_and_no_age(astronaut_path, tmp_path):
    data = bytearray(astronaut_path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\xff\x00" * 32
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jpg").write_bytes(data)
    manifest = archive(tmp_path / "out", tmp_path / "in")
    [row] = rows_in(tmp_path / "out")
    assert (row["outcome"], row["age"], row["size_w"]) == ("damaged", None, 512)
    assert manifest["damaged"] == manifest["frames"] == 1


def test_a_film_that_is_cut_off_has_its_frames_and_then_the_reason(clip, tmp_path):
    (tmp_path / "in").mkdir()
    data = clip.read_bytes()
    (tmp_path / "in" / "cut.avi").write_bytes(data[: len(data) // 2])
    (tmp_path / "in" / "none.mp4").write_bytes(b"\0" * 1000)
    manifest = archive(tmp_path / "out", tmp_path / "in")
    *good, cut, none = rows_in(tmp_path / "out")
    assert 5 < len(good) == manifest["frames"] < 30
    assert [row["frame"] for row in good] == list(range(len(good)))
    assert (cut["outcome"], cut["frame"]) == ("unreadable", len(good))
    assert "cut off" in cut["reason"]
    assert (none["outcome"], none["frame"]) == ("unreadable", 0)


def made_tar(path, **members):
    with tarfile.open(path, "w") as tar:
        for name, file in members.items():
            tar.add(file, arcname=name.replace("_", "."))
    return path


def test_pictures_in_a_tar_file_have_the_rows_of_those_beside_it(faces, tmp_path):
    files = sorted((faces / "0").iterdir())
    (tmp_path / "in").mkdir()
    label = tmp_path / "label.txt"
    label.write_text("34")
    members = {f"{n}_jpg": file for n, file in enumerate(files)} | {"0_txt": label}
    path = made_tar(tmp_path / "in" / "shard.tar", **members)
    archive(tmp_path / "out", tmp_path / "in")
    rows = rows_in(tmp_path / "out")
    expected = rows_of_records(records(tmp_path, faces / "0"))
    assert [row["member"] for row in rows] == [f"{n}.jpg" for n in range(10)]
    assert [row | {"member": None, "source": ""} for row in rows] == [row | {"source": ""} for row in expected]
    assert {row["source"] for row in rows} == {str(path)}


def test_a_broken_tar_file_has_what_lies_before_the_break(faces, tmp_path):
    files = sorted((faces / "0").iterdir())
    (tmp_path / "in").mkdir()
    path = made_tar(tmp_path / "in" / "shard.tar", **{f"{n}_jpg": file for n, file in enumerate(files)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    manifest = archive(tmp_path / "out", tmp_path / "in")
    *good, last = rows_in(tmp_path / "out")
    assert 2 < len(good) < 10
    assert {row["outcome"] for row in good} == {"face"}
    assert (last["outcome"], last["member"]) == ("unreadable", None)
    assert "broken tar file" in last["reason"]
    assert manifest["unreadable"] == 1


def test_a_picture_too_large_for_one_is_left_out_of_a_tar_file(faces, tmp_path, monkeypatch):
    files = sorted((faces / "0").iterdir())[:2]
    monkeypatch.setattr(reading, "LARGEST_FILE", max(file.stat().st_size for file in files) - 1)
    (tmp_path / "in").mkdir()
    made_tar(tmp_path / "in" / "shard.tar", a_jpg=files[0], b_jpg=files[1])
    archive(tmp_path / "out", tmp_path / "in")
    assert sorted(row["outcome"] for row in rows_in(tmp_path / "out")) == ["face", "unreadable"]


def test_a_film_that_is_none_and_a_picture_with_the_name_of_a_film(astronaut, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(encode(".jpg", astronaut))
    (tmp_path / "in" / "b.mp4").write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")
    archive(tmp_path / "out", tmp_path / "in")
    picture, text = rows_in(tmp_path / "out")
    assert picture["outcome"] == "face"
    assert text["outcome"] == "unreadable"
    assert str(tmp_path) not in text["reason"]


def test_many_rows_are_packed_in_between_and_none_is_lost(faces, tmp_path, monkeypatch):
    archive(tmp_path / "whole", faces)
    monkeypatch.setattr(looker, "_ROWS_AT_ONCE", 3)
    archive(tmp_path / "pieces", faces)
    assert rows_in(tmp_path / "pieces") == rows_in(tmp_path / "whole")
    assert len(rows_in(tmp_path / "pieces")) == 30


def test_so_many_files_are_read_ahead_and_no_more(faces, monkeypatch):
    read = []
    items = list(items_of([str(faces)]))
    monkeypatch.setattr(reading, "bytes_of", lambda item: read.append(item.path) or item.path.encode())
    pairs = reading.read_ahead(items)
    first = [next(pairs) for _ in range(3)]
    assert len(read) <= 3 + reading._AHEAD
    assert [*first, *pairs] == [(item, item.path.encode()) for item in items]


def test_the_guide_has_every_column_with_its_type():
    found = {}
    text = Path(__file__, "../../../docs/how-to/archive.md").resolve().read_text()
    for names, kind, _ in re.findall(r"^\| (`.*?) \| (\w+) \| (.*) \|$", text, re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", names), kind)
    assert list(found.items()) == [(field.name, str(field.type)) for field in row_schema()]


def test_files_of_an_archive_have_the_columns_of_the_schemas(faces, tmp_path):
    from pyarrow import parquet as pq

    archive(tmp_path / "out", faces / "0", work=replace(WORK, people=True))
    [part, *_] = (tmp_path / "out" / "faces").iterdir()
    assert pq.read_schema(part).remove_metadata().equals(row_schema())
    [part, *_] = (tmp_path / "out" / "people").iterdir()
    assert pq.read_schema(part).remove_metadata().equals(person_schema())


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are texts there")
def test_a_name_that_is_no_text_has_a_row(faces, tmp_path):
    source = next((faces / "0").iterdir())
    os.rename(source, os.path.join(os.fsencode(faces / "0"), b"\xff.jpg"))  # noqa: PTH104, PTH118
    archive(tmp_path / "out", faces / "0")
    assert rows_in(tmp_path / "out")[-1]["source"] == f"{faces}/0/\\udcff.jpg"
