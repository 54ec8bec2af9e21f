import itertools
import os
import socket
import struct
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ageinfer.engine.sessions import usable_cores
from ageinfer.errors import SourceError
from ageinfer.sources import open_camera, open_source, read_picture
from ageinfer.sources.pictures import paths_from


def encode(suffix: str, image) -> bytes:
    encoded, data = cv2.imencode(suffix, image)
    assert encoded
    return data.tobytes()


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that holds nothing but the orientation (tag 0x0112, one SHORT)."""
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + jpeg_segment(0xE1, b"Exif\x00\x00" + tiff) + jpeg[2:]


@pytest.fixture
def small(astronaut):
    """64 x 48, so that width and height cannot be mistaken for each other."""
    return cv2.resize(astronaut[60:180, 150:310], (64, 48), interpolation=cv2.INTER_AREA)


@pytest.fixture
def file(tmp_path):
    """Writes bytes into a file and gives its path."""

    def write(name: str, data: bytes):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


frames_of = lambda path: list(open_source(path))  # noqa: E731


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".jpg", ".webp", ".JPG"])
def test_a_picture_is_one_frame_of_its_own_pixels(file, small, suffix):
    path = file("a" + suffix, encode(suffix.lower(), small))
    source = open_source(path)
    [frame] = source
    assert (source.kind, source.frame_count, source.fps) == ("picture", 1, None)
    assert (frame.source, frame.index, frame.time_s) == (str(path), 0, None)
    loss = np.abs(frame.image.astype(int) - small)
    assert frame.image.dtype == np.uint8
    assert loss.mean() < 5 if suffix in (".jpg", ".JPG", ".webp") else loss.max() == 0


def test_grey_sixteen_bit_and_transparent_pictures_become_eight_bit_bgr(file, small):
    grey = small[:, :, 1]
    assert (read_picture(file("grey.png", encode(".png", grey))) == grey[:, :, None]).all()
    deep = small.astype(np.uint16) * 257
    assert np.abs(read_picture(file("deep.png", encode(".png", deep))).astype(int) - small).max() <= 1
    alpha = np.dstack([small, np.full(small.shape[:2], 40, np.uint8)])
    assert (read_picture(file("alpha.png", encode(".png", alpha))) == small).all()


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_turned_as_its_exif_says(file, small, orientation):
    jpeg = encode(".jpg", small)
    stored = read_picture(file("plain.jpg", jpeg))
    turned = read_picture(file("turned.jpg", with_exif(jpeg, orientation)))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](stored))


def test_the_content_decides_what_a_file_is_not_its_name(file, small, tmp_path, write_video):
    for name in ("picture.txt", "picture", "picture.mp4", "picture.gif"):
        path = file(name, encode(".png", small))
        assert open_source(path).kind == "picture", name
        assert len(frames_of(path)) == 1
    video = write_video(tmp_path / "v.avi", [small] * 3).rename(tmp_path / "video.jpg")
    assert len(frames_of(video)) == 3


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


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm", "exif thumbnail", "progressive"])
def test_a_cut_picture_is_refused_and_never_half_grey(file, small, suffix):
    if suffix == "exif thumbnail":  # which brings an end-of-image mark of its own
        thumbnail = encode(".jpg", cv2.resize(small, (16, 12)))
        jpeg = encode(".jpg", small)
        whole = jpeg[:2] + jpeg_segment(0xE1, b"Exif\x00\x00" + thumbnail) + jpeg[2:]
    elif suffix == "progressive":
        whole = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    else:
        whole = encode(suffix, small)
    expected = read_picture(file("whole", whole))
    refused = 0
    lengths = [*range(1, len(whole), max(1, len(whole) // 50)), *range(len(whole) - 20, len(whole))]
    for length in lengths:
        path = file("cut", whole[:length])
        try:
            np.testing.assert_array_equal(read_picture(path), expected)
        except SourceError:
            refused += 1
    assert refused >= len(lengths) - 20  # only padding at the very end may be missing


def test_a_cut_picture_is_called_cut(file, small):
    # By our own look at it: OpenCV before 5 fills the rest of a JPEG with grey and says nothing.
    for data in (encode(".jpg", small), encode(".png", small)):
        with pytest.raises(SourceError, match="cut off before its end"):
            read_picture(file("half", data[: len(data) // 2]))


@pytest.mark.parametrize("trailer", [b"\x00ftypmp42 \xff\xda \xff\xd9 \xff\xda \x00", b"\xff\xda", b"\x00" * 9])
def test_a_whole_jpeg_with_something_behind_it_is_not_cut(file, small, trailer):
    # Telephones append a short film to a photo ("motion photo"); its bytes hold any two-byte sequence.
    jpeg = encode(".jpg", small)
    found = read_picture(file("motion.jpg", jpeg + trailer))
    np.testing.assert_array_equal(found, read_picture(file("plain.jpg", jpeg)))


def test_a_picture_too_large_to_decode_is_refused(file):
    def chunk(kind, body=b""):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT") + chunk(b"IEND")
    with pytest.raises(SourceError, match=r"bomb\.png.*smaller"):
        read_picture(file("bomb.png", bomb))


def ftyp(major: bytes, *others: bytes) -> bytes:
    """The box with which HEIC, AVIF, MP4 and MOV files begin: a main brand, and those that it is compatible with."""
    brands = major + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands


HEIC_STARTS = [
    ftyp(b"heic", b"mif1", b"heic"),
    ftyp(b"heix", b"mif1", b"MiHE"),
    ftyp(b"hevc", b"msf1"),
    ftyp(b"mif1", b"mif1", b"heic", b"miaf"),
    ftyp(b"mif1", b"miaf"),
    ftyp(b"msf1", b"hevc"),
    ftyp(b"heic", b"avif"),
]


@pytest.mark.parametrize("start", HEIC_STARTS, ids=lambda start: start[8:].decode().replace("\0", " "))
def test_a_heic_photo_is_refused_and_never_opened_as_a_video(file, tmp_path, write_video, small, start):
    # FFmpeg decodes the first tile of such a photo and calls it a video: behind the mark there is one here, too.
    video = write_video(tmp_path / "v.mp4", [small] * 3).read_bytes()
    for name in ("photo.heic", "photo.jpg", "photo"):
        path = file(name, start + video[int.from_bytes(video[:4], "big") :])
        source = open_source(path)
        assert source.kind == "picture"
        with pytest.raises(SourceError, match=rf"{name}: a HEIC photo.*convert it to JPEG.*most compatible") as caught:
            list(source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"M4V ", b"qt  ", b"iso5"])
def test_a_video_that_lists_a_brand_of_pictures_is_a_video(file, tmp_path, write_video, small, brand):
    video = write_video(tmp_path / "v.mp4", [small] * 3).read_bytes()
    start = ftyp(brand, b"mif1", b"heic", b"avif")
    assert len(start) == int.from_bytes(video[:4], "big")  # else the index would no longer point to the frames
    assert len(frames_of(file("w.mp4", start + video[len(start) :]))) == 3


needs_avif = pytest.mark.skipif(not cv2.haveImageWriter("a.avif"), reason="this OpenCV has no AVIF")


@needs_avif
@pytest.mark.parametrize("others", [b"avif mif1 miaf MA1B", b"mif1 avif miaf MA1B", b"miaf MA1B mif1 avif"])
@pytest.mark.parametrize("major", [b"avif", b"mif1"])
def test_an_avif_is_a_picture_as_its_brands_say(file, small, major, others):
    data = encode(".avif", small)
    start = ftyp(major, *others.split())
    assert len(start) == int.from_bytes(data[:4], "big")
    data = start + data[len(start) :]
    source = open_source(file("a.avif", data))
    [frame] = source
    assert source.kind == "picture"
    assert np.abs(frame.image.astype(int) - small).mean() < 8


def test_an_avif_that_cannot_be_decoded_is_refused_like_any_picture(file):
    path = file("a.avif", ftyp(b"avif", b"mif1", b"miaf") + bytes(500))
    with pytest.raises(SourceError, match=r"a\.avif: not a picture that can be decoded; .*convert it to JPEG"):
        frames_of(path)


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


def test_a_folder_without_a_readable_picture_is_refused(tmp_path, file):
    with pytest.raises(SourceError, match="no picture in this folder"):
        open_source(tmp_path)
    file("a.txt", b"text")
    with pytest.raises(SourceError, match="no picture in this folder"):
        open_source(tmp_path)
    file("a.jpg", b"text")
    with pytest.raises(SourceError, match="none of its 1 pictures"):
        frames_of(tmp_path)


def numbered(count: int):
    """Pictures with their number as eight black or white bars, so that a frame lost, doubled or moved shows."""
    pictures = np.random.default_rng(4).integers(0, 255, (count, 96, 64, 3), dtype=np.uint8)
    for i, picture in enumerate(pictures):  # the noise below gives every frame about the same share of the file
        for bit in range(8):
            picture[:48, 8 * bit : 8 * bit + 8] = 255 * (i >> bit & 1)
    return list(pictures)


def number_of(frame) -> int:
    return sum(1 << bit for bit in range(8) if frame.image[12:36, 8 * bit + 2 : 8 * bit + 6].mean() > 127)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".mov", ".gif"])
def test_every_frame_of_a_video_comes_in_order_with_its_time(tmp_path, write_video, suffix):
    path = tmp_path / f"v{suffix}"
    if suffix == ".gif":
        animation = cv2.Animation()
        animation.frames, animation.durations = numbered(100), [40] * 100
        assert cv2.imwriteanimation(str(path), animation)
    else:
        write_video(path, numbered(100), fps=25)
    source = open_source(path)
    frames = list(source)
    assert (source.kind, source.frame_count, source.truncated, source.failed) == ("video", 100, False, 0)
    assert source.fps == pytest.approx(25, abs=0.1)
    assert [frame.index for frame in frames] == list(range(100))
    assert [number_of(frame) for frame in frames] == list(range(100))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(100) / 25, atol=0.011)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_a_cut_video_gives_what_is_left_and_says_so(tmp_path, write_video, suffix, share, caplog):
    path = write_video(tmp_path / f"v{suffix}", numbered(100))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    source = open_source(path)
    numbers = [number_of(frame) for frame in source]
    assert source.truncated
    assert abs(len(numbers) - 100 * share) < 10
    assert numbers[:-1] == list(range(len(numbers) - 1))  # the last one may be half a picture
    assert f"{len(numbers)} of 100" in caplog.text


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".ts"])
@pytest.mark.parametrize("share", [0.003, 0.15])
def test_damage_in_the_middle_does_not_end_a_video(tmp_path, write_video, suffix, share):
    path = write_video(tmp_path / f"v{suffix}", numbered(100))
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, int(share * len(data))
    data[middle : middle + length] = np.random.default_rng(5).bytes(length)
    path.write_bytes(data)
    source = open_source(path)
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    numbers = [number_of(frame) for frame in frames]
    assert numbers[:40] == list(range(40))
    assert numbers[-15:] == list(range(85, 100))
    assert source.truncated == (len(frames) <= 90)


def test_a_video_whose_pictures_change_their_size_goes_on(tmp_path, write_video, astronaut):
    sizes = [(128, 96), (256, 192), (64, 48)]
    parts = [[cv2.resize(astronaut[:384], size)] * 20 for size in sizes]
    whole = b"".join(write_video(tmp_path / "part.ts", part).read_bytes() for part in parts)
    (tmp_path / "v.ts").write_bytes(whole)
    frames = frames_of(tmp_path / "v.ts")
    assert len(frames) == 60
    for frame in frames:  # OpenCV keeps to the first size
        assert np.abs(frame.image.astype(int) - parts[0][0]).mean() < 14


def test_small_frames_are_decoded_by_one_thread_and_large_ones_by_many(tmp_path, write_video, small, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", [small] * 3)
    for pixels, few in ((small.shape[0] * small.shape[1], True), (small.shape[0] * small.shape[1] - 1, False)):
        monkeypatch.setattr("ageinfer.sources.video._ONE_THREAD_PIXELS", pixels)
        with open_source(path) as source:
            threads = source._capture.get(cv2.CAP_PROP_N_THREADS)
            assert (threads == 1) == (few or usable_cores() == 1)
            assert len(list(source)) == 3


def test_a_video_can_be_closed_in_the_middle(tmp_path, write_video, small):
    path = write_video(tmp_path / "v.avi", [small] * 50)
    with open_source(path) as source:
        iterator = iter(source)
        assert len(list(itertools.islice(iterator, 3))) == 3
        source.close()
        assert list(iterator) == []
        assert not source._capture.isOpened()
    assert not source.truncated  # nobody wanted more
    with pytest.raises(SourceError, match="open it again"):
        list(source)


def test_a_video_that_is_being_read_is_released_by_who_reads_it(tmp_path, write_video, small):
    """OpenCV crashes when a capture is released under a thread that reads it."""
    source = open_source(write_video(tmp_path / "v.avi", [small] * 50))
    capture, reading, go_on = source._capture, threading.Event(), threading.Event()
    events = []

    def read():
        reading.set()
        go_on.wait()
        events.append("read")
        return capture.read()

    source._capture = SimpleNamespace(read=read, get=capture.get, release=lambda: events.append("released"))
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    reading.wait()
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 0.5
    assert not events
    go_on.set()
    thread.join()
    assert events[:2] == ["read", "released"]
    assert len(frames) <= 1


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


def test_a_cut_mp4_has_lost_its_index_and_is_refused(tmp_path, write_video):
    path = write_video(tmp_path / "v.mp4", numbered(50))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"v\.mp4"):
        frames_of(path)


def test_a_missing_camera_is_refused_by_number():
    with pytest.raises(SourceError, match="camera 97 cannot be opened"):
        open_camera(97)


def test_a_file_that_may_not_be_read_is_named(astronaut_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # file modes mean nothing to root
    with pytest.raises(SourceError, match="Permission denied; check its permissions"):
        open_source(astronaut_path)


# Lists of pictures


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
    with pytest.raises(SourceError, match="standard input: names no picture"):
        list(open_source("-"))


def test_a_picture_on_standard_input_is_no_list(astronaut_path, tmp_path):
    for data in (astronaut_path.read_bytes(), b"x" * 10_000, b"gone.png\n\x1b[2J"):
        (tmp_path / "data").write_bytes(data)
        descriptor = os.open(tmp_path / "data", os.O_RDONLY)
        with pytest.raises(SourceError, match="holds no paths; write one a line"):
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


# What is no file


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
    with pytest.raises(SourceError, match=rf"{kind}\.jpg: a {kind}, not a file; save"):
        read_picture(path)
    with pytest.raises(SourceError, match=rf"{kind}\.jpg: a {kind}, (not a file|but not a camera)"):
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


# Anything at all


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


@pytest.mark.parametrize("suffix", [".mjpeg", ".MJPG"])
def test_jpegs_one_behind_the_other_are_a_video_by_their_name(tmp_path, astronaut_path, suffix):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(astronaut_path.read_bytes() * 12)
    with open_source(path) as source:
        assert source.kind == "video"
        assert len(list(source)) == 12
