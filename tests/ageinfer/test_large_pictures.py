"""Pictures and films that would fill the memory are refused by their header, before anything is decoded."""

import struct
import subprocess
import sys
import zlib
from fractions import Fraction

import numpy as np
import pytest
from films import write_film
from media_files import encode, frames_of, ftyp, jpeg_segment, png_chunk

from ageinfer.commands.main import main
from ageinfer.errors import ExitStatus, SourceError
from ageinfer.sources import open_source, read_picture
from ageinfer.sources.formats import picture_size

pytest_plugins = ["media_files"]


def png(width, height):
    """A whole PNG of one colour, one bit a pixel: it decodes to 3000 times its size."""
    packer, line = zlib.compressobj(9), bytes(1 + -(-width // 8))
    pixels = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND")


def gif(width, height, frames=200):
    """A GIF whose frames change one pixel of a large screen."""
    frame = b"\x21\xf9\x04\0\x0a\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def webp(width, height):
    body = bytes(4) + b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + body


def webp_lossless(width, height):
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF" + struct.pack("<I", 20) + b"WEBPVP8L" + struct.pack("<I", 8) + b"\x2f" + bits.to_bytes(4, "little")


def webp_lossy(width, height):
    return (
        b"RIFF"
        + struct.pack("<I", 22)
        + b"WEBPVP8 "
        + struct.pack("<I", 10)
        + b"\0\0\0\x9d\x01\x2a"
        + struct.pack("<HH", width, height)
    )


def tiff(width, height):
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (273, 4, 1, 8), (279, 4, 1, 1)]
    return (
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    )


def bmp(width, height):
    return b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, width, -height, 1, 1, 0) + bytes(40)


def old_bmp(width, height):
    return b"BM" + bytes(12) + struct.pack("<IHHHH", 12, width, height, 1, 1) + bytes(40)


def ppm(width, height):
    return b"P5 # a comment\n%d\n# another\n%d 255\n" % (width, height)


def jpeg(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\0"
    return b"\xff\xd8" + jpeg_segment(0xC0, frame) + jpeg_segment(0xDA, b"\x01\x01\0\0\x3f\0") + b"\x28\xa0\xff\xd9"


def box(kind, *content):
    body = b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def avif(width, height, brand=b"avif"):
    size = box(b"ispe", bytes(4), struct.pack(">II", width, height))
    return ftyp(brand, b"mif1") + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", size)))


def heic(width, height):
    return avif(width, height, b"heic")


MAKERS = [png, gif, webp, tiff, bmp, old_bmp, ppm, jpeg, avif, heic]
SMALL_SIDES = [webp_lossless, webp_lossy]  # whose numbers have 14 bits: these formats hold no more


@pytest.mark.parametrize("make", MAKERS + SMALL_SIDES)
def test_the_size_is_read_from_the_header(make):
    data = make(801, 640)
    if make is jpeg:
        assert data[2:4] == b"\xff\xc0"
        return
    assert picture_size(data) == (801, 640)


@pytest.mark.parametrize("make", MAKERS)
def test_too_many_pixels_are_refused_by_the_header_alone(file, make):
    path = file(f"bomb.{make.__name__}", make(16_000, 16_000))
    with pytest.raises(SourceError, match=r"16000 x 16000 pixels are more than the 250 million that are read"):
        frames_of(path)


def test_a_page_that_is_too_large_is_left_out(file, small, caplog):
    data = bytearray(encode(".tif", small))
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[end : end + 4] = struct.pack("<I", len(data))
    other = tiff(40_000, 40_000)[8:]
    source = open_source(file("scan.tif", bytes(data) + other))
    assert source.frame_count == 2
    assert [frame.index for frame in source] == [0]
    assert "40000 x 40000 pixels" in caplog.text


def test_a_picture_of_the_largest_camera_is_not_refused(file):
    assert read_picture(file("large.png", png(16_384, 12_288))).shape == (12_288, 16_384, 3)


MEASURED = """
import resource, sys
from ageinfer.commands.main import main
from ageinfer.images import cv2
from ageinfer.sources import open_source, video  # what a run loads is loaded
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(open_source(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the module resource")
@pytest.mark.parametrize("make", [png, gif, tiff])
def test_a_bomb_takes_no_memory(file, make):
    path = file(f"bomb.{make.__name__}", make(32_000, 32_000))
    assert path.stat().st_size < 200_000
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True)
    name, grown_kb = done.stdout.split()
    assert name == "SourceError"
    assert int(grown_kb) < 50_000 * (1024 if sys.platform == "darwin" else 1)


def test_a_bomb_is_one_line_and_a_source_that_cannot_be_read(file, capfd):
    path = file("bomb.png", png(32_000, 32_000))
    assert main([str(path), "--jsonl", "-", "--provider", "cpu", "--quiet"]) == ExitStatus.SOURCE
    [line] = capfd.readouterr().err.splitlines()
    assert "32000 x 32000 pixels" in line


def test_a_film_that_grows_beyond_the_limit_gives_what_is_within(tmp_path, monkeypatch):
    """A frame may be larger than the film announced."""
    from ageinfer.sources import decoder

    monkeypatch.setattr(decoder, "MOST_PIXELS", 100 * 100)
    pictures = [encode(".jpg", np.full((side, side, 3), 90, np.uint8)) for side in (64, 64, 240, 64)]
    (tmp_path / "film.mjpeg").write_bytes(b"".join(pictures))
    source = open_source(tmp_path / "film.mjpeg")
    assert {frame.image.shape for frame in source} == {(64, 64, 3)}
    assert source.damaged >= 1


@pytest.mark.parametrize("head", [b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 20000 +X 20000\n", b"PF\n8 8\n-1.0\n",
                                  b"P7\nWIDTH 8\nHEIGHT 8\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"])  # fmt: skip
def test_a_picture_of_a_format_whose_size_is_unknown_is_never_decoded(file, head, monkeypatch):
    """OpenCV would read them, of any size, and one of them by way of a temporary file."""
    monkeypatch.setattr("cv2.imdecode", None)
    with pytest.raises(SourceError, match=r"cannot be decoded; copy it again or convert it to JPEG"):
        read_picture(file("a.jpg", head + bytes(800)))


def test_what_ffmpeg_salvages_is_within_the_limit_too(monkeypatch):
    """Another header may count for it than the one that was read."""
    from ageinfer.sources import salvage

    data = encode(".jpg", np.full((64, 64, 3), 90, np.uint8))
    assert salvage.decoded_in_spite(data, "mjpeg").shape == (64, 64, 3)
    monkeypatch.setattr(salvage, "MOST_PIXELS", 60 * 60)
    assert salvage.decoded_in_spite(data, "mjpeg") is None


def test_pixels_that_are_not_square_do_not_lead_beyond_the_limit(tmp_path, monkeypatch):
    from ageinfer.sources import decoder

    path = write_film(tmp_path / "film.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3, aspect=Fraction(3))
    assert {frame.image.shape for frame in open_source(path)} == {(64, 192, 3)}
    monkeypatch.setattr(decoder, "MOST_PIXELS", 100 * 100)
    assert {frame.image.shape for frame in open_source(path)} == {(64, 64, 3)}
