"""Reads the boxes of which AVIF and HEIC files are made (ISO/IEC 14496-12, 23008-12)."""

from collections.abc import Iterator
from itertools import islice

# Brands of the "ftyp" box with which AVIF and HEIC files begin, as MP4 files do. AVIF files may have the last two, too.
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
_LONGEST_BRANDS = 1024  # bytes; a broken file may announce any length
_MOST_BOXES = 1000  # beside each other
_SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # the way to the tables of a track
# By quarter turns against the clock, and the mirror after them: none, top for bottom (0), left for right (1).
_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6, (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7, (0, 1): 2,
    (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


def is_heic(data: bytes) -> bool:
    """Tells from the first bytes of a file, with its whole "ftyp" box, whether it is a HEIC photo."""
    # The first brand decides: a video may list brands of pictures after it.
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC_BRANDS:
        return False
    # An AVIF file may begin with these two brands and list its own after them.
    return data[8:12] not in (b"mif1", b"msf1") or not AVIF_BRANDS & set(_brands(data)[2:])


def is_avif(data: bytes) -> bool:
    """Tells from the first bytes of a file, with its whole "ftyp" box, whether it is an AVIF picture."""
    return data[4:8] == b"ftyp" and data[8:12] in AVIF_BRANDS | HEIC_BRANDS and not is_heic(data)


def is_avif_sequence(data: bytes) -> bool:
    """Tells from the first bytes of a file, with its whole "ftyp" box, whether an AVIF may have several frames."""
    return is_avif(data) and b"avis" in _brands(data)


def _brands(data: bytes) -> list[bytes]:
    """The main brand of a file, four bytes of a version, and the brands that it is compatible with."""
    listed = data[8 : min(int.from_bytes(data[:4], "big"), _LONGEST_BRANDS)]
    return [listed[i : i + 4] for i in range(0, len(listed), 4)]


def largest_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the largest picture that an AVIF or HEIC file announces."""
    properties = _inside(data, b"meta", b"iprp", b"ipco")
    sizes = [
        (_number(data, begin + 4, 4), _number(data, begin + 8, 4))
        for kind, begin, _ in (_boxes(data, *properties) if properties else ())
        if kind == b"ispe"
    ]
    if table := _inside(data, *_SAMPLES, b"stsd"):
        entry = table[0] + 8  # of which 8 bytes are its size and kind
        sizes.append((_number(data, entry + 32, 2), _number(data, entry + 34, 2)))
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def frame_count(data: bytes) -> int:
    """How many frames an AVIF sequence announces."""
    table = _inside(data, *_SAMPLES, b"stsz")
    return _number(data, table[0] + 8, 4) if table else 0


def orientation(data: bytes) -> int:
    """The EXIF number (1 to 8) of the turn and the mirror that the boxes of an AVIF ask for.

    What EXIF itself says in such a file does not count (ISO/IEC 23000-22).
    """
    turns, mirror = 0, None
    for kind, begin in _properties(data):
        if kind == b"irot":
            turns = _number(data, begin, 1) & 3
        elif kind == b"imir":
            mirror = _number(data, begin, 1) & 1
    return _ORIENTATIONS[turns, mirror]


def _properties(data: bytes) -> list[tuple[bytes, int]]:
    """Kind and place of the properties of the main picture."""
    chosen = _inside(data, b"meta", b"pitm")
    parts, uses = (_inside(data, b"meta", b"iprp", kind) for kind in (b"ipco", b"ipma"))
    if not (chosen and parts and uses):
        return []
    main = _number(data, chosen[0] + 4, 4 if _number(data, chosen[0], 1) else 2)
    known = [(kind, begin) for kind, begin, end in _boxes(data, *parts) if begin < end]
    wide_items = 4 if _number(data, uses[0], 1) else 2
    wide_places = 2 if _number(data, uses[0] + 3, 1) & 1 else 1
    at = uses[0] + 8
    for _ in range(min(_number(data, uses[0] + 4, 4), _MOST_BOXES)):
        item, count = _number(data, at, wide_items), _number(data, at + wide_items, 1)
        at += wide_items + 1
        if item == main:
            # The highest bit says that a reader has to know the property.
            places = [_number(data, at + i * wide_places, wide_places) for i in range(count)]
            places = [place & (1 << 8 * wide_places - 1) - 1 for place in places]
            return [known[place - 1] for place in places if 0 < place <= len(known)]
        at += count * wide_places
    return []


def _inside(data: bytes, *path: bytes) -> tuple[int, int] | None:
    """Begin and end of the content of the first box that lies at a path."""
    begin, end = 0, len(data)
    for kind in path:
        found = next((box for box in _boxes(data, begin, end) if box[0] == kind), None)
        if found is None:
            return None
        begin, end = found[1] + (4 if kind == b"meta" else 0), found[2]
    return begin, end


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box of a range."""
    return islice(_all_boxes(data, begin, end), _MOST_BOXES)


def _all_boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while begin + 8 <= end:
        size, head = _number(data, begin, 4), 8
        if size == 1:
            size, head = _number(data, begin + 8, 8), 16
        size = size or end - begin  # 0: to the end
        if size < head:
            return
        yield data[begin + 4 : begin + 8], begin + head, min(begin + size, end)
        begin += size


def _number(data: bytes, at: int, size: int) -> int:
    """The number at a place; where the file ends before it, of what is left."""
    return int.from_bytes(data[at : at + size], "big")
