"""Helpers that write small pictures and videos into files, and damage them."""

import struct
import zlib

import cv2
import pytest

from ageinfer.sources import open_source


def encode(suffix: str, image) -> bytes:
    encoded, data = cv2.imencode(suffix, image)
    assert encoded
    return data.tobytes()


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def exif_of(orientation: int) -> bytes:
    """EXIF data that hold nothing but the orientation (tag 0x0112, one SHORT), as a JPEG has them."""
    return b"Exif\x00\x00II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def several(path, frames, durations_ms=None):
    """Writes an animation, or a TIFF of several pages."""
    if path.suffix == ".tif":
        assert cv2.imwritemulti(str(path), frames)
        return path
    if not hasattr(cv2, "imwriteanimation"):
        pytest.skip("this OpenCV writes no animations")
    animation = cv2.Animation()
    animation.frames, animation.durations = frames, durations_ms or [100] * len(frames)
    assert cv2.imwriteanimation(str(path), animation)
    return path


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


def ftyp(major: bytes, *others: bytes) -> bytes:
    """The box with which HEIC, AVIF, MP4 and MOV files begin: a main brand, and those that it is compatible with."""
    brands = major + bytes(4) + b"".join(others)
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands
