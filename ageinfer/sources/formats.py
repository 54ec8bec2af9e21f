"""Tells from the bytes of a picture file what it is, how large, how many, and which side is up. It decodes nothing."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

from ageinfer.sources import boxes

# JPEG, PNG, BMP, TIFF, PNM. (A GIF and an animated PNG are videos. WebP, AVIF and HEIC have their marks at 4 to 12.)
_PICTURE_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6",
)  # fmt: skip
# Width and height of a PNM come after its mark, with spaces and comments between them.
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})")
MOST_PIXELS = 250_000_000  # of a picture or a frame; the largest cameras have 200 million
MOST_PAGES = 10_000  # of a TIFF, previews among them
# Tags are sorted, and those that are read here have low numbers. A file of some kB can announce millions.
_MOST_TAGS = 500
_KIND, _WIDTH, _HEIGHT, _ORIENTATION = 254, 256, 257, 274
_TAGS = (_KIND, _WIDTH, _HEIGHT, _ORIENTATION)


class Page(NamedTuple):
    """A page of a TIFF: where its directory begins in the file, width and height in pixels."""

    begin: int
    width: int
    height: int


def looks_like_picture(head: bytes) -> bool:
    """Tells from the first bytes of a file (12 or more) whether it is a picture and not a video."""
    # FFmpeg would open a HEIC photo as a video of its first tile.
    is_still = head[4:8] == b"ftyp" and head[8:12] in boxes.AVIF_BRANDS | boxes.HEIC_BRANDS
    return is_still or is_webp(head) or any(head.startswith(signature) for signature in _PICTURE_SIGNATURES)


def is_webp(head: bytes) -> bool:
    """Tells from the first bytes of a file whether it is a WebP."""
    return head[8:12] == b"WEBP"


def is_tiff(head: bytes) -> bool:
    """Tells from the first bytes of a file whether it is a TIFF."""
    return head[:4] in (b"II*\0", b"MM\0*")


def is_animated_png(data: bytes) -> bool:
    """Tells from the first bytes of a file, up to its pixels, whether it is a PNG of several frames."""
    before_pixels = data.partition(b"IDAT")[0] if data.startswith(b"\x89PNG") else b""
    at = before_pixels.find(b"acTL")
    return at > 0 and int.from_bytes(data[at + 4 : at + 8], "big") > 1


def may_hold_several(head: bytes) -> bool:
    """Tells from the first bytes of a file whether it may hold frames or pages, other than a GIF or a PNG."""
    return is_tiff(head) or _is_animated_webp(head) or boxes.is_avif_sequence(head)


def frame_count(data: bytes) -> int:
    """How many frames an animated WebP or AVIF has; 1 for every other picture."""
    if _is_animated_webp(data):
        return sum(kind == b"ANMF" for kind, _, _ in _riff_chunks(data))
    return max(boxes.frame_count(data), 1) if boxes.is_avif_sequence(data) else 1


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the header says; None where the format is unknown. (`ageinfer.sources.jpeg` reads JPEG.)"""
    if data.startswith(b"\x89PNG"):
        return _pair(data, 16, 4, "big")
    if data.startswith(b"GIF8"):
        return _pair(data, 6, 2, "little")
    if data.startswith(b"BM"):
        if data[14:18] == b"\x0c\0\0\0":  # the header of OS/2
            return _pair(data, 18, 2, "little")
        # A negative height: the first line is the uppermost one.
        return tuple(abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))  # type: ignore[return-value]
    if is_webp(data):
        return _webp_size(data)
    if is_tiff(data):
        return max(((page.width, page.height) for page in tiff_pages(data)), key=lambda s: s[0] * s[1], default=None)
    if data[4:8] == b"ftyp":
        return boxes.largest_size(data)
    found = _PNM.match(data)
    return (int(found[1]), int(found[2])) if found else None


def orientation(data: bytes) -> int:
    """Which side of a PNG, WebP or AVIF is up: 1 to 8 as EXIF counts them (1: it is upright); 1 for all others."""
    if data.startswith(b"\x89PNG"):
        return next((exif_orientation(data[a:b]) for kind, a, b in png_chunks(data) if kind == b"eXIf"), 1)
    if is_webp(data):
        return next((exif_orientation(data[a:b]) for kind, a, b in _riff_chunks(data) if kind == b"EXIF"), 1)
    return boxes.orientation(data) if boxes.is_avif(data) else 1


def exif_orientation(exif: bytes) -> int:
    """The orientation that a block of EXIF data says; 1 where it says none."""
    exif = exif.removeprefix(b"Exif\0\0")  # programs write it in WebP, too, where it does not belong
    found = next((tags.get(_ORIENTATION, 1) for _, tags in _directories(exif)), 1) if is_tiff(exif) else 1
    return found if 1 <= found <= 8 else 1


def tiff_pages(data: bytes) -> list[Page]:
    """The pages of a TIFF in order, without its previews and masks, unless there is nothing else.

    Raises:
        ValueError: there are more than `MOST_PAGES`.
    """
    found = list(islice(_directories(data), MOST_PAGES + 1))
    if len(found) > MOST_PAGES:
        raise ValueError(f"more than the {MOST_PAGES:,} pages that are read")
    all_pages = [(Page(begin, tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)), tags) for begin, tags in found]
    pages = [page for page, tags in all_pages if not tags.get(_KIND, 0) & 0b101]
    return pages or [page for page, _ in all_pages[:1]]


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each chunk of a PNG, the last of which may lack its end."""
    at = 8
    while at + 8 <= len(data):
        begin = at + 8
        at = begin + int.from_bytes(data[at : at + 4], "big") + 4
        yield data[begin - 4 : begin], begin, at - 4


def _is_animated_webp(data: bytes) -> bool:
    return data[8:16] == b"WEBPVP8X" and len(data) > 20 and bool(data[20] & 2)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        width, height = _pair(data, 24, 3, "little")
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = _pair(data, 26, 2, "little")
    return width & 0x3FFF, height & 0x3FFF


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each chunk of a WebP."""
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, at + 8 + size
        at += 8 + size + size % 2


def tiff_order(data: bytes) -> Literal["little", "big"]:
    """The order in which a TIFF writes the bytes of a number."""
    return "little" if data[:1] == b"I" else "big"


def _directories(data: bytes) -> Iterator[tuple[int, dict[int, int]]]:
    """Where each directory of a TIFF begins, and what its `_TAGS` say, as far as that is in it."""
    order = tiff_order(data)

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    at, seen = number(4, 4), set[int]()
    while 8 <= at <= len(data) - 2 and at not in seen:
        seen.add(at)
        after = at + 2 + 12 * number(at, 2)
        tags = {}
        for entry in range(at + 2, min(after, at + 2 + 12 * _MOST_TAGS, len(data)), 12):
            if (tag := number(entry, 2)) in _TAGS:
                tags[tag] = number(entry + 8, 2 if number(entry + 2, 2) == 3 else 4)
        yield at, tags
        at = number(after, 4)


def _pair(data: bytes, at: int, size: int, order: Literal["little", "big"]) -> tuple[int, int]:
    return int.from_bytes(data[at : at + size], order), int.from_bytes(data[at + size : at + 2 * size], order)
