"""A TIFF of several pages gives every page as a picture of its own."""

import json

import cv2
import numpy as np
import pytest
from media_files import encode, several

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus
from ageinfer.pipeline import Pipeline
from ageinfer.sources import open_source, open_sources, read_picture
from ageinfer.sources.formats import tiff_pages

pytest_plugins = ["media_files"]


@pytest.fixture
def pages(small):
    return [small, np.ascontiguousarray(small[:32, ::-1]), cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)]


@pytest.fixture
def scan(tmp_path, pages):
    return several(tmp_path / "scan.tif", pages)


def _entries(data, tag):
    """Where the entries with a tag begin, in the directory of each page."""
    at = int.from_bytes(data[4:8], "little")
    while at:
        end = at + 2 + 12 * int.from_bytes(data[at : at + 2], "little")
        yield next(entry for entry in range(at + 2, end, 12) if data[entry : entry + 2] == tag)
        at = int.from_bytes(data[end : end + 4], "little")


def test_every_page_is_a_frame(scan, pages):
    source = open_source(scan)
    assert (source.kind, source.frame_count, source.fps) == ("folder", 3, None)
    for number, (frame, page) in enumerate(zip(source, pages, strict=True)):
        assert (frame.source, frame.index, frame.time_s, frame.damaged) == (str(scan), number, None, False)
        np.testing.assert_array_equal(frame.image, page if page.ndim == 3 else cv2.cvtColor(page, cv2.COLOR_GRAY2BGR))


def test_pages_are_read_in_a_folder_and_in_a_list_too(tmp_path, scan, small):
    (tmp_path / "a.png").write_bytes(encode(".png", small))
    expected = [(str(tmp_path / "a.png"), 0), *((str(scan), number) for number in range(3))]
    for source in (open_source(tmp_path), open_sources([tmp_path / "a.png", scan])):
        assert [(frame.source, frame.index) for frame in source] == expected


def test_a_broken_page_is_named_and_the_others_are_read(scan, caplog):
    data = bytearray(scan.read_bytes())
    entry = list(_entries(data, b"\x11\x01"))[1]  # where the pixels of the second page lie
    data[entry + 8 : entry + 12] = b"\xf0\xff\xff\xff"
    scan.write_bytes(data)
    source = open_source(scan)
    assert [frame.index for frame in source] == [0, 2]
    assert source.failed == 1
    assert [str(scan) in message for message in caplog.messages] == [True]


def test_a_preview_among_the_pages_is_none(scan):
    data = bytearray(scan.read_bytes())
    data[list(_entries(data, b"\xfe\x00"))[1] + 8] |= 1  # "reduced-resolution version of another image in this file"
    scan.write_bytes(data)
    assert [frame.image.shape[:2] for frame in open_source(scan)] == [(48, 64), (48, 64)]


def test_a_page_is_turned_as_it_says(scan):
    data = bytearray(scan.read_bytes())
    entry = list(_entries(data, b"\x1c\x01"))[1]  # PlanarConfig, whose default is what it says
    data[entry : entry + 2], data[entry + 8] = b"\x12\x01", 6
    scan.write_bytes(data)
    assert [frame.image.shape[:2] for frame in open_source(scan)] == [(48, 64), (64, 32), (48, 64)]


def test_directories_that_lead_in_a_circle_end(scan):
    data = bytearray(scan.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    after = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[after : after + 4] = data[4:8]
    assert len(tiff_pages(bytes(data))) == 1


def test_a_single_read_gives_the_first_page_and_says_so(scan, small, caplog):
    np.testing.assert_array_equal(read_picture(scan), small)
    assert caplog.messages == [f"{scan}: only the first of its pages is read; open it as a source to have all"]
    assert Pipeline.default(provider="cpu")(scan).index == 0


def test_a_run_writes_a_record_and_a_picture_for_each_page(scan, tmp_path, capsys):
    out, records = tmp_path / "out", tmp_path / "r.jsonl"
    assert main([str(scan), "--output", str(out), "--jsonl", str(records), "--provider", "cpu"]) == ExitStatus.OK
    found = [json.loads(line) for line in records.read_text().splitlines()]
    assert [(r["source"], r["frame"], r["time_s"]) for r in found] == [(str(scan), i, None) for i in range(3)]
    assert sorted(path.name for path in out.iterdir()) == ["scan-2.tif", "scan-3.tif", "scan.tif"]
    capsys.readouterr()
    for name in ("out.jpg", "out.mp4"):
        assert main([str(scan), "--output", str(tmp_path / name), "--provider", "cpu"]) == ExitStatus.USAGE
        assert "the source has several pictures; for them, --output takes a folder" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
