"""Annotated pictures: one file, and a folder with a file for each picture."""

import os
import time

import cv2
import numpy as np
import pytest
from sink_frames import PLAIN, annotated, write_all

from ageinfer.errors import OutputError, UsageError
from ageinfer.sinks import FolderSink, PictureSink, write_picture
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.sources import PICTURE_SUFFIXES
from ageinfer.types import Frame, FrameResult


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
    with pytest.raises(UsageError, match=r"this is not the name of a picture; .* takes \.jpg or \.png$"):
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
    with pytest.raises(OutputError, match="this folder cannot be made: File exists; name a folder"):
        FolderSink(path)
    assert path.read_text() == "mine"


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


def test_a_picture_that_cannot_come_into_its_place_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "p.png").mkdir()
    with pytest.raises(OutputError, match=r"p\.png: cannot be written: Is a directory; choose another place"):
        write_picture(tmp_path / "p.png", np.zeros((4, 6, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_a_pgm_holds_the_brightness_of_the_colours(tmp_path):
    write_picture(tmp_path / "p.pgm", np.full((4, 6, 3), (255, 0, 0), np.uint8))
    assert (cv2.imread(str(tmp_path / "p.pgm"), cv2.IMREAD_UNCHANGED) == 29).all()  # the share of blue


def test_the_longest_name_that_a_file_can_have_is_no_obstacle(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    write_all(PictureSink(path), grey_picture(50, "in/p.png"))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
