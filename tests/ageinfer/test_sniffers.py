"""What tells of a picture what it is believes nothing: any bytes give an answer, soon, and no error of Python."""

import re
import struct
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from media_files import encode, ftyp, jpeg_segment, png_chunk

from ageinfer.errors import SourceError
from ageinfer.sources import boxes, formats
from ageinfer.sources.animation import AnimationSource
from ageinfer.sources.decoding import decode
from ageinfer.sources.jpeg import Jpeg
from ageinfer.sources.salvage import decoded_in_spite, is_faultless

pytest_plugins = ["media_files"]

SIGNATURES = (
    b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"P5 ",
    b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0", b"RIFF\0\0\0\0WEBPVP8L", ftyp(b"avif", b"mif1"),
    ftyp(b"mif1", b"avis"), ftyp(b"heic"), b"#?RADIANCE\n", b"P7\n", b"\0\0\0\x0cjP  ",
)  # fmt: skip
SMALL = st.integers(0, 40)


def box(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", 8 + len(content) if size is None else size) + kind + content


KINDS = (b"meta", b"iprp", b"ipco", b"ipma", b"pitm", b"ispe", b"irot", b"imir", b"moov", b"trak", b"mdia", b"minf",
         b"stbl", b"stsd", b"stsz", b"free")  # fmt: skip
SIZES = st.one_of(st.none(), st.sampled_from([0, 1, 7, 8, 9, 2**31, 2**32 - 1]))
BOXES = st.recursive(
    st.builds(box, st.sampled_from(KINDS), st.binary(max_size=24), SIZES),
    lambda inner: st.builds(
        lambda kind, parts, size: box(kind, (bytes(4) if kind == b"meta" else b"") + b"".join(parts), size),
        st.sampled_from(KINDS), st.lists(inner, max_size=4), SIZES,
    ),
    max_leaves=12,
)  # fmt: skip
BYTES = st.one_of(
    st.builds(lambda head, data: head + data, st.sampled_from(SIGNATURES), st.binary(max_size=200)),
    st.builds(lambda parts: ftyp(b"avif", b"avis") + b"".join(parts), st.lists(BOXES, max_size=5)),
)
WITHOUT_END = ftyp(b"avif") + box(
    b"meta", bytes(4) + box(b"iprp", box(b"ipco") + box(b"ipma", bytes(8))) + box(b"pitm")
)


@settings(max_examples=250)
@given(BYTES)
@example(WITHOUT_END)  # the content of the last box would begin where the file ends
@example(ftyp(b"avif") + box(b"meta", bytes(4) + box(b"pitm", bytes(6)) + box(b"iprp", box(b"ipco") + box(b"ipma"))))
def test_any_bytes_have_an_answer(data):
    sizes = [formats.picture_size(data), boxes.largest_size(data)]
    assert all(size is None or min(size) >= 0 for size in sizes)
    assert 1 <= formats.orientation(data) <= 8
    assert 1 <= boxes.orientation(data) <= 8
    assert formats.frame_count(data) >= 0
    assert all(isinstance(answer(data), bool) for answer in (
        formats.looks_like_picture, formats.is_animated_png, formats.may_hold_several, boxes.is_heic, boxes.is_avif,
    ))  # fmt: skip
    assert all(0 <= page.begin < max(len(data), 1) for page in formats.tiff_pages(data))


def test_a_turn_without_its_property_is_none():
    assert boxes.orientation(WITHOUT_END) == 1


@given(st.integers(1, 8), st.sampled_from(["little", "big"]))
def test_an_orientation_that_is_written_is_read(number, order):
    mark, code = (b"II*\0", "<") if order == "little" else (b"MM\0*", ">")
    entry = struct.pack(f"{code}IHHHIHHI", 8, 1, 0x0112, 3, 1, number, 0, 0)
    assert formats.exif_orientation(b"Exif\0\0" + mark + entry) == number
    assert formats.orientation(b"\x89PNG\r\n\x1a\n" + png_chunk(b"eXIf", mark + entry)) == number


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0\x08\0\0\0" + b"\xff\xff" * 500_000,  # tags without end
        b"II*\0" + b"".join(struct.pack("<IHI", 8 + 6 * i, 0, 0)[:6] for i in range(100_000)),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02" + bytes(1 << 20),  # chunks of no length
        b"\x89PNG\r\n\x1a\n" + bytes(1 << 20), ftyp(b"avis") + box(b"free") * 100_000,
        b"\xff\xd8" + b"\xff" * (1 << 20),
        b"\xff\xd8" + jpeg_segment(0xDA, b"\1\1\0\0\x3f\0") + b"\xff\xd0" * (1 << 19),
        b"P5" + b" #\n" * 300_000, b"P5" + b"#" * (1 << 20),
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_a_megabyte_of_nonsense_is_read_in_no_time(data):
    began = time.process_time()
    for read in (formats.picture_size, formats.orientation, formats.frame_count):
        with suppress(ValueError):  # more pages than are read
            read(data)
    if data.startswith(b"\xff\xd8"):
        Jpeg.parse(data)
    assert time.process_time() - began < 5


SEGMENTS = st.builds(
    lambda mark, content: jpeg_segment(mark, content),
    st.sampled_from([0xC0, 0xC1, 0xC2, 0xC4, 0xC8, 0xDA, 0xDD, 0xE1, 0xFE, 0x01]), st.binary(max_size=24),
)  # fmt: skip
FRAME = struct.pack(">BHHB", 8, 16, 16, 3)  # announces three colours, and names none
SCAN = jpeg_segment(0xDA, b"\3\1\0\0\x3f\0") + b"\x28\xff\xd9"


@settings(max_examples=250)
@given(st.lists(st.one_of(SEGMENTS, st.binary(max_size=12)), max_size=8), st.booleans())
@example([jpeg_segment(0xDD, b"\0\1"), jpeg_segment(0xC0, FRAME), SCAN], False)
@example([jpeg_segment(0xDD, b"\0\1"), jpeg_segment(0xC0, FRAME + b"\1"), SCAN], True)
def test_any_segments_of_a_jpeg_have_a_structure(segments, ends):
    data = b"\xff\xd8" + b"".join(segments) + (b"\xff\xd9" if ends else b"")
    jpeg = Jpeg.parse(data)
    assert 0 <= jpeg.width <= 0xFFFF
    assert 0 <= jpeg.height <= 0xFFFF
    assert jpeg.end < len(data)
    if jpeg.end >= 0:
        assert isinstance(jpeg.cleaned(data), bytes)


def test_a_jpeg_whose_header_lacks_its_colours_is_damaged():
    assert Jpeg.parse(b"\xff\xd8" + jpeg_segment(0xC0, FRAME) + SCAN).broken


@settings(max_examples=100)
@given(BYTES)
def test_any_bytes_are_a_picture_or_a_source_error(data):
    refused = ""
    try:
        assert decode(data, "p.jpg").image.dtype == np.uint8
    except SourceError as error:
        refused = str(error)
    assert not refused or re.fullmatch(r"p\.jpg: [^\n]+", refused)


@settings(max_examples=100)
@given(st.binary(max_size=300), st.integers(2, 2**32 - 1))
def test_any_bytes_are_an_animation_or_a_source_error(data, frames):
    head = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x09\0\0\x09\0\0"
    with pytest.raises(SourceError, match=r"^a\.webp: "):
        list(AnimationSource("a.webp", head + data, frames))


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=300))
def test_what_looks_at_damage_survives_it(data):
    jpeg = encode(".jpg", np.full((16, 16, 3), 90, np.uint8))
    for damaged in (data, jpeg[: len(jpeg) // 2] + data, jpeg[:-2] + data + jpeg[-2:]):
        assert isinstance(is_faultless(damaged), bool)
        for codec in ("mjpeg", "png"):
            image = decoded_in_spite(damaged, codec)
            assert image is None or image.dtype == np.uint8
