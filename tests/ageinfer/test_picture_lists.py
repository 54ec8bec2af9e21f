"""Folders, patterns and lists of paths on standard input."""

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from media_files import encode, frames_of, ftyp

from ageinfer.errors import ExitStatus, SourceError
from ageinfer.sources import open_source
from ageinfer.sources.paths import paths_from
from ageinfer.sources.pattern import paths_matching

pytest_plugins = ["media_files"]


@pytest.mark.parametrize("names", [("a.heic", "b.HEIC", "c.heif"), ("a.avif",)])
def test_photos_of_a_folder_that_cannot_be_read_are_named_and_counted(tmp_path, file, small, names, caplog):
    brand = b"heic" if len(names) > 1 else b"avif"
    for name in names:
        file(name, ftyp(brand, b"mif1") + bytes(500))
    file("d.png", encode(".png", small))
    for source in (open_source(tmp_path), open_source(f"{tmp_path}/*")):
        caplog.clear()
        assert [frame.source for frame in source] == [str(tmp_path / "d.png")]
        assert source.failed == len(names)
        assert [name in message for name, message in zip(names, caplog.messages, strict=True)] == [True] * len(names)


def test_a_folder_gives_its_pictures_by_name_and_counts_the_broken_ones(tmp_path, file, small, caplog):
    for name in ("b.png", "a.JPG", "c.webp"):
        file(name, encode(name[-4:].lower() if name != "c.webp" else ".webp", small))
    file("bad.jpg", b"no picture")
    file("notes.txt", b"not even called one")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.png").write_bytes(encode(".png", small))
    (tmp_path / "folder.png").mkdir()
    source = open_source(tmp_path)
    assert [frame.source for frame in source] == [str(tmp_path / name) for name in ("a.JPG", "b.png", "c.webp")]
    assert (source.kind, source.failed, source.frame_count) == ("folder", 1, 4)
    [warning] = caplog.messages
    assert "bad.jpg" in warning


def test_a_folder_can_be_closed_in_the_middle(tmp_path, file, small):
    for name in ("a.png", "b.png", "c.png"):
        file(name, encode(".png", small))
    source = open_source(tmp_path)
    iterator = iter(source)
    assert next(iterator).source == str(tmp_path / "a.png")
    source.close()
    assert list(iterator) == []
    with pytest.raises(SourceError, match="it was read or closed before"):
        list(source)


def test_a_folder_without_a_readable_picture_is_refused(tmp_path, file):
    with pytest.raises(SourceError, match="no picture in this folder"):
        open_source(tmp_path)
    file("a.txt", b"text")
    with pytest.raises(SourceError, match="no picture in this folder"):
        open_source(tmp_path)
    file("a.jpg", b"text")
    with pytest.raises(SourceError, match="none of its 1 pictures"):
        frames_of(tmp_path)


@pytest.fixture
def portraits_of_four(tmp_path, file, small):
    """Four pictures, two of them broken in a different way, and a text."""
    for name in ("a.png", "c.png"):
        file(name, encode(".png", small))
    file("b.png", b"no picture")
    file("d.txt", b"a text")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "e.jpg").write_bytes(encode(".jpg", small))
    file("f", encode(".png", small))
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names", "failed"),
    [
        ("*.png", ["a.png", "c.png"], 1),
        ("*", ["a.png", "c.png", "f"], 1),  # by suffix or by content, and no text
        ("**/*", ["a.png", "below/e.jpg", "c.png", "f"], 1),
        ("[ac].*", ["a.png", "c.png"], 0),
        ("?elow/e.jpg", ["below/e.jpg"], 0),
    ],
)
def test_a_pattern_gives_the_pictures_that_match_it(portraits_of_four, pattern, names, failed, caplog):
    source = open_source(f"{portraits_of_four}/{pattern}")
    assert [frame.source for frame in source] == [str(portraits_of_four / name) for name in names]
    assert (source.kind, source.frame_count, source.failed) == ("folder", len(names) + failed, failed)
    assert [("b.png" in message) for message in caplog.messages] == [True] * failed


def test_a_pattern_that_matches_no_picture_is_refused(portraits_of_four):
    for pattern in ("*.jpg", "d*", "nothing/*.png"):
        with pytest.raises(SourceError, match="no picture matches this pattern"):
            open_source(f"{portraits_of_four}/{pattern}")


def test_a_file_with_the_name_of_a_pattern_is_that_file(file, small):
    path = file("a[1].png", encode(".png", small))
    file("a1.png", encode(".png", small))
    [frame] = open_source(str(path))
    assert frame.source == str(path)


@pytest.fixture
def standard_input(monkeypatch):
    """Replaces standard input by a pipe; gives a function that writes into it, and one that ends it."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reading:
        monkeypatch.setattr("sys.stdin", reading)
        yield lambda data: os.write(write, data), lambda: os.close(write)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\0"])
def test_standard_input_names_pictures(portraits_of_four, standard_input, ending, caplog):
    write, end = standard_input
    names = ["c.png", "b.png", "gone.png", "a.png", "below/e.jpg"]
    write(ending.join(os.fsencode(portraits_of_four / name) for name in names) + ending)
    end()
    source = open_source("-")
    assert (source.kind, source.frame_count, source.name) == ("folder", None, "standard input")
    found = [frame.source for frame in source]
    assert found == [str(portraits_of_four / name) for name in ("c.png", "a.png", "below/e.jpg")]
    assert source.failed == 2
    assert [name in message for name, message in zip(("b.png", "gone.png"), caplog.messages, strict=True)] == [True] * 2


def test_names_are_read_as_they_come(file, small, standard_input):
    write, end = standard_input
    path = bytes(file("süß \t[1].png", encode(".png", small)))
    iterator = iter(open_source("-"))
    write(path + b"\n\n" + path[:9])
    assert next(iterator).source == os.fsdecode(path)  # although the next name is not complete
    write(path[9:])
    end()  # without an end of the line
    assert next(iterator).source == os.fsdecode(path)
    assert list(iterator) == []


def test_a_name_may_hold_a_line_break_where_names_end_with_a_null(file, small, standard_input):
    write, end = standard_input
    path = file("two\nlines.png", encode(".png", small))
    write(bytes(path) + b"\0")
    end()
    assert [frame.source for frame in open_source("-")] == [str(path)]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\0"])
def test_standard_input_without_a_name_is_refused(standard_input, data):
    write, end = standard_input
    write(data)
    end()
    with pytest.raises(SourceError, match=r"^standard input: no picture was named; give one path on each line$"):
        list(open_source("-"))


def test_a_picture_on_standard_input_is_no_list(astronaut_path, tmp_path):
    for data in (astronaut_path.read_bytes(), b"x" * 10_000, b"gone.png\n\x1b[2J"):
        (tmp_path / "data").write_bytes(data)
        descriptor = os.open(tmp_path / "data", os.O_RDONLY)
        with pytest.raises(SourceError, match=r"^standard input holds no paths; write one on each line"):
            list(paths_from(descriptor))
        os.close(descriptor)
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        list(paths_from(folder))
    os.close(folder)


@pytest.mark.parametrize("stdin", [None, SimpleNamespace()])
def test_a_missing_standard_input_is_refused(monkeypatch, stdin):
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(SourceError, match="standard input cannot be read"):
        open_source("-")


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a permission")
def test_links_to_folders_lead_a_pattern_nowhere(tmp_path, astronaut_path):
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    for name in ("a.jpg", "below/b.jpg"):
        shutil.copyfile(astronaut_path, photos / name)
    for loop in ("loop", "again", "below/up"):
        (photos / loop).symlink_to(photos)
    with open_source(str(photos / "**" / "*.jpg")) as source:
        assert source.files == [photos / "a.jpg", photos / "below" / "b.jpg"]
    with open_source(str(photos / "loop" / "*.jpg")) as source:  # a link that is named is followed
        assert source.files == [photos / "loop" / "a.jpg"]
    (photos / "c.jpg").symlink_to(astronaut_path)  # and so is a link to a picture
    with open_source(str(tmp_path / "**" / "**" / "*.jpg")) as source:
        assert source.files == [photos / "a.jpg", photos / "below" / "b.jpg", photos / "c.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="file names of bytes")
@pytest.mark.parametrize("odd", [b"esc\x1b[2J.jpg", b"line\nbreak.jpg", b"x" * 5000, b"caf\xe9\x07.jpg", b"\x1b"])
def test_an_odd_name_between_null_bytes_costs_only_itself(run_cli, astronaut_path, odd):
    good = os.fsencode(astronaut_path)
    command = [sys.executable, "-m", "ageinfer", "-", "--jsonl", "-", "--quiet"]
    done = subprocess.run(command, input=b"\0".join([odd, good, odd, good, b""]), capture_output=True, check=False)
    assert done.returncode == ExitStatus.SOME_FAILED
    assert done.stdout.count(b"astronaut.jpg") == 2
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="file names of bytes")
def test_a_picture_whose_name_holds_a_control_character_is_read(tmp_path, astronaut_path):
    path = tmp_path / "esc\x1b[2J\n.jpg"
    shutil.copyfile(astronaut_path, path)
    (tmp_path / "list").write_bytes(os.fsencode(path) + b"\0")
    descriptor = os.open(tmp_path / "list", os.O_RDONLY)
    assert list(paths_from(descriptor)) == [str(path)]
    os.close(descriptor)


@settings(max_examples=200)
@given(st.one_of(st.binary(max_size=300), st.lists(st.binary(max_size=20)).map(b"\n".join)))
@example(b"\xef\xbb")
@example(b"\0\0\xff\xd8\xff\0")
def test_any_bytes_are_a_list_of_paths_or_refused(data):
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    found, refused = [], ""
    with os.fdopen(read, "rb") as reading:
        try:
            for path in paths_from(reading.fileno()):
                found.append(path)
        except SourceError as error:
            refused = str(error)
    assert all(found)
    assert "\n" not in refused
    assert not refused or refused.startswith("standard input")


@given(st.lists(st.text(st.characters(blacklist_characters="\0\r\n", blacklist_categories=["Cs", "Cc"]), min_size=1)))
@example(["\ufeffa", "b"])
def test_paths_that_are_written_are_read(paths):
    for separator in (b"\n", b"\0"):
        read, write = os.pipe()
        os.write(write, b"".join(path.encode() + separator for path in paths))
        os.close(write)
        with os.fdopen(read, "rb") as reading:
            assert list(paths_from(reading.fileno())) == [
                path.removeprefix("\ufeff") if i == 0 else path for i, path in enumerate(paths) if i or path != "\ufeff"
            ]


@given(st.text("*?[]!a/.\\-", max_size=12))
@example("**/**/[")
@example("**")
@example("**/a")
@example("a/**/b/*")
@example("[]")
def test_any_pattern_matches_paths_or_nothing(pattern):
    assume(not pattern.startswith("/") and ".." not in pattern)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("a", "b").mkdir(parents=True)
        Path("a", "b", "a").touch()
        Path("a", "up").symlink_to("..")
        found = set(map(os.path.normpath, paths_matching(pattern)))
        assert all(map(os.path.lexists, found))
        # All that Python finds, but by way of links.
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207
        expected = {os.path.normpath(path) for path in matches if Path(path).is_file()}
        assert found >= {path for path in expected if "up" not in path}
