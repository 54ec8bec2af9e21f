"""Sources that cannot be read are refused by name, whatever bytes they hold."""

import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import encode, frames_of

from ageinfer.errors import SourceError
from ageinfer.sources import open_camera, open_source, read_picture

pytest_plugins = ["media_files"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jpg", b""), ("empty.mp4", b""), ("notes.txt", b"Dear diary,\n" * 50), ("page.jpg", b"<html></html>"),
        ("noise.mp4", np.random.default_rng(2).bytes(5000)), ("noise_001.jpg", np.random.default_rng(3).bytes(5000)),
        ("head.jpg", b"\xff\xd8\xff"), ("head.png", b"\x89PNG\r\n\x1a\n"), ("records.csv", b"a,b\r\n1,2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_neither_picture_nor_video_is_refused_by_name(file, name, data):
    path = file(name, data)
    with pytest.raises(SourceError, match=name) as caught:
        frames_of(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gone.jpg", "no/folder/here.mp4", "x" * 300])
def test_a_missing_file_is_refused(tmp_path, name):
    with pytest.raises(SourceError, match=name):
        open_source(tmp_path / name)


def test_every_source_goes_through_once(tmp_path, file, small, write_video):
    picture = file("a.png", encode(".png", small))
    for path in (picture, tmp_path, write_video(tmp_path / "v.avi", [small] * 3)):
        source = open_source(path)
        assert list(source)
        with pytest.raises(SourceError, match="open it again"):
            list(source)
        source.close()
        source.close()


def test_a_name_that_looks_like_an_address_is_still_a_file(tmp_path, write_video, small, monkeypatch):
    write_video(tmp_path / "v.mp4", [small] * 3).rename(tmp_path / "tcp:1.mp4")
    monkeypatch.chdir(tmp_path)
    [*frames] = open_source("tcp:1.mp4")
    assert [frame.source for frame in frames] == ["tcp:1.mp4"] * 3


def test_a_missing_camera_is_refused_by_number():
    with pytest.raises(SourceError, match="camera 97 cannot be opened"):
        open_camera(97)


def test_a_file_that_may_not_be_read_is_named(astronaut_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # file modes mean nothing to root
    with pytest.raises(SourceError, match="Permission denied; check its permissions"):
        open_source(astronaut_path)


@pytest.fixture
def odd_files(tmp_path):
    """A pipe, a socket and a link to a device that never ends."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    here = Path.cwd()
    os.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.jpg")
    os.chdir(here)
    return tmp_path


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_and_never_waited_for(odd_files, kind):
    path = odd_files / f"{kind}.jpg"
    with pytest.raises(SourceError, match=rf"{kind}\.jpg: this is a {kind}, not a file; save"):
        read_picture(path)
    with pytest.raises(
        SourceError, match=rf"{kind}\.jpg: (this is a {kind}, not a file; save|this device is not a camera)"
    ):
        open_source(path)
    with pytest.raises(SourceError, match="no picture"):
        open_source(odd_files)
    with pytest.raises(SourceError, match="no picture"):
        open_source(f"{odd_files}/*.jpg")


@pytest.mark.parametrize("path", ["a\0b.jpg", "a/b\0.mp4"])
def test_a_null_in_a_path_is_refused(path):
    for function in (open_source, read_picture):
        with pytest.raises(SourceError, match="not a path"):
            function(path)


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path, file):
    path = file("large.jpg", b"\xff\xd8\xff")
    os.truncate(path, 5 << 30)  # takes no space
    with pytest.raises(SourceError, match="larger than 1 GB"):
        list(open_source(path))


@pytest.mark.parametrize("size", [(1, 1), (7680, 4320)])
def test_the_smallest_and_the_largest_pictures_and_videos_are_read(file, tmp_path, write_video, astronaut, size):
    picture = cv2.resize(astronaut, size, interpolation=cv2.INTER_NEAREST)
    sources = [open_source(file("a.jpg", encode(".jpg", picture)))]
    if size != (1, 1):  # no codec takes that
        sources.append(open_source(write_video(tmp_path / "v.avi", [picture])))
    for source in sources:
        [frame] = source
        assert frame.image.shape == picture.shape
        assert np.abs(frame.image[::9, ::9].astype(int) - picture[::9, ::9]).mean() < 4


@pytest.fixture(scope="module")
def real_files(tmp_path_factory, write_video, astronaut_path):
    """A small file of each form that is read."""
    folder = tmp_path_factory.mktemp("real")
    picture = cv2.resize(read_picture(astronaut_path), (64, 48))
    data = {suffix: encode(suffix, picture) for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm")}
    animation = cv2.Animation()
    animation.frames, animation.durations = [picture] * 5, [40] * 5
    assert cv2.imwriteanimation(str(folder / "v.gif"), animation)
    data[".gif"] = (folder / "v.gif").read_bytes()
    for suffix in (".avi", ".mkv", ".mp4"):
        data[suffix] = write_video(folder / f"v{suffix}", [picture] * 5).read_bytes()
    return data


def check_frames_or_source_error(path):
    """Opens and reads it all; anything but frames and a `SourceError` is a defect."""
    refused, frames = "", []
    try:
        frames = list(open_source(path))
    except SourceError as error:
        refused = str(error)
    assert bool(frames) != (str(path) in refused)
    assert "\n" not in refused
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        assert frame.image.shape[2] == 3


SIGNATURES = [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"P6 ", b"GIF89a", b"RIFF\0\0\0\0AVI "]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path, signature, data):
    path = tmp_path / "file"
    path.write_bytes(signature + data)
    check_frames_or_source_error(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm", ".gif", ".avi", ".mkv", ".mp4"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=6),
    st.one_of(st.just(1.0), st.floats(0.01, 1)),
)
def test_damaged_files_give_frames_or_an_error(tmp_path, real_files, suffix, flips, share):
    data = bytearray(real_files[suffix])
    for place, bits in flips:
        data[int(place * len(data))] ^= bits
    path = tmp_path / f"file{suffix}"
    path.write_bytes(data[: max(1, int(share * len(data)))])
    check_frames_or_source_error(path)


PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXTINF:10,\nother.avi\n#EXT-X-ENDLIST\n",
    "ffmpeg": b"ffconcat version 1.0\nfile other.avi\n",
    "dash": b"<?xml version='1.0'?>\n<mpd type='static'></mpd>\n",
    "sdp": b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("end", [b"", b"\0"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_does_not_lead_to_other_files(tmp_path, kind, end):
    path = tmp_path / "list.m3u8"
    path.write_bytes(PLAYLISTS[kind] + end)
    with pytest.raises(SourceError, match="neither a picture nor a video"):
        open_source(path)
