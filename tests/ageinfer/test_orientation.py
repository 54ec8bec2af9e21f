"""Every picture is upright, whatever its format and however it says which side is up."""

import io
import struct

import cv2
import numpy as np
import pytest
from media_files import encode, exif_of, jpeg_segment, png_chunk

from ageinfer.sources import boxes, read_picture

pytest_plugins = ["media_files"]

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
# Quarter turns against the clock and the mirror after them: top for bottom (0), left for right (1).
TURNS = {1: (0, None), 2: (0, 1), 3: (2, None), 4: (0, 0), 5: (1, 0), 6: (3, None), 7: (3, 0), 8: (1, None)}


def turned_jpeg(image, orientation):
    data = encode(".jpg", image)
    return data[:2] + jpeg_segment(0xE1, exif_of(orientation)) + data[2:]


def turned_png(image, orientation):
    data = encode(".png", image)
    return data[:33] + png_chunk(b"eXIf", exif_of(orientation)[6:]) + data[33:]


def turned_webp(image, orientation, mark=b""):
    pixels = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()[12:]
    exif = mark + exif_of(orientation)[6:]
    size = b"".join((side - 1).to_bytes(3, "little") for side in image.shape[1::-1])
    parts = [(b"VP8X", b"\x08\0\0\0" + size), (b"EXIF", exif)]
    header, block = (kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in parts)
    return b"RIFF" + struct.pack("<I", 4 + len(header + pixels + block)) + b"WEBP" + header + pixels + block


def turned_webp_of_other_programs(image, orientation):
    return turned_webp(image, orientation, b"Exif\0\0")


def turned_tiff(image, orientation):
    """A TIFF whose first directory is written anew, behind its pixels, with an orientation in it."""
    data = encode(".tif", image)
    at = int.from_bytes(data[4:8], "little")
    end = at + 2 + 12 * int.from_bytes(data[at : at + 2], "little")
    entries = [data[i : i + 12] for i in range(at + 2, end, 12) if data[i : i + 2] != b"\x12\x01"]
    entries = sorted([*entries, struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)], key=lambda e: e[1::-1])
    return (
        data[:4]
        + struct.pack("<I", len(data))
        + data[8:]
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + bytes(4)
    )


def turned_avif(image, orientation, **exif):
    """An AVIF with the boxes "irot" and "imir" among the properties of its picture."""
    if not cv2.haveImageWriter("a.avif"):
        pytest.skip("this OpenCV has no AVIF")
    data = encode(".avif", image)
    turn, mirror = TURNS[orientation]
    added = ([b"\0\0\0\x09irot" + bytes([turn])] if turn else []) + (
        [b"\0\0\0\x09imir" + bytes([mirror])] if mirror is not None else []
    )
    (parts, parts_end), (uses, uses_end) = (boxes._inside(data, b"meta", b"iprp", k) for k in (b"ipco", b"ipma"))
    count = sum(1 for _ in boxes._boxes(data, parts, parts_end))
    assert (data[uses + 4 : uses + 8], data[uses + 3] & 1) == (b"\0\0\0\1", 0)
    used = data[uses + 10]
    grown = 9 * len(added) + len(added)

    def larger(data, begin, by):
        """The data with the size of the box whose content begins here increased."""
        size = int.from_bytes(data[begin - 8 : begin - 4], "big")
        return data[: begin - 8] + struct.pack(">I", size + by) + data[begin - 4 :]

    (place, _), (meta, _), (group, _) = (
        boxes._inside(data, *path) for path in ((b"meta", b"iloc"), (b"meta",), (b"meta", b"iprp"))
    )
    for begin, by in ((meta - 4, grown), (group, grown), (parts, 9 * len(added)), (uses, len(added))):
        data = larger(data, begin, by)
    # Version 0, offsets and lengths of 4 bytes, one picture of one piece: its offset moves.
    assert data[place : place + 6] == b"\0\0\0\0\x44\0"
    offset = place + 14
    moved = struct.pack(">I", int.from_bytes(data[offset : offset + 4], "big") + grown)
    data = data[:offset] + moved + data[offset + 4 :]
    ends = bytes(0x80 | count + 1 + i for i in range(len(added)))
    data = data[: uses + 10] + bytes([used + len(added)]) + data[uses + 11 : uses_end] + ends + data[uses_end:]
    return data[:parts_end] + b"".join(added) + data[parts_end:]


MAKERS = [turned_jpeg, turned_png, turned_webp, turned_webp_of_other_programs, turned_tiff, turned_avif]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_picture_is_turned_as_it_says(file, small, make, orientation):
    stored = read_picture(file("stored", make(small, 1)))
    turned = read_picture(file("turned", make(small, orientation)))
    np.testing.assert_array_equal(turned, UPRIGHT[orientation](stored))
    assert np.abs(stored.astype(int) - small).mean() < 8


@pytest.mark.parametrize("orientation", [5, 6, 8])
def test_an_avif_of_another_program_is_turned_once(file, small, orientation):
    """It writes the turn into the boxes and into EXIF; by the standard only the first counts."""
    pil = pytest.importorskip("PIL.Image")
    if not cv2.haveImageWriter("a.avif"):
        pytest.skip("this OpenCV has no AVIF")
    picture, exif, data = pil.fromarray(np.ascontiguousarray(small[..., ::-1])), pil.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    try:
        picture.save(data, "AVIF", quality=90, exif=exif)
    except (KeyError, OSError):
        pytest.skip("this PIL has no AVIF")
    found = read_picture(file("a.avif", data.getvalue()))
    assert np.abs(found.astype(int) - UPRIGHT[orientation](small)).mean() < 8


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("make", [turned_jpeg, turned_png, turned_webp])
def test_an_orientation_that_there_is_not_turns_nothing(file, small, make, orientation):
    found = read_picture(file("odd", make(small, orientation)))
    assert found.shape == small.shape
