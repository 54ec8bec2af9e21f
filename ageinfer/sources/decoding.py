"""Decodes picture files into upright BGR pictures, and tells of damage."""

import io
import logging
import os
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources import boxes, formats
from ageinfer.sources.formats import MOST_PIXELS
from ageinfer.sources.jpeg import Jpeg, largest_break
from ageinfer.types import Image

LARGEST_FILE = 1 << 30  # bytes
_ODD_FILES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
# Since this version a JPEG whose data end too early is refused and not filled with grey.
_REFUSES_SHORT = tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 12)
_READ_AHEAD = bytes(16)  # libjpeg asks for up to 8 bytes more than it needs
_SPARE = 16  # bytes that may be left over at the end of the data of a JPEG
_BREAK, _STRONG_BREAK = 2.5, 3.5  # see `largest_break`
_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

log = logging.getLogger(__name__)


class Picture(NamedTuple):
    """A decoded picture: uint8 BGR ``[height, width, 3]``, upright; and whether data of it are missing or wrong."""

    image: Image
    damaged: bool


def refuse_odd_files(path: str | Path, mode: int) -> None:
    """Refuses pipes, sockets and devices, because reading them may never end.

    Args:
        path: the path of the file, for the message.
        mode: its mode, as `os.stat` gives it.

    Raises:
        SourceError: the file is a pipe, a socket or a device.
    """
    if kind := _ODD_FILES.get(stat.S_IFMT(mode)):
        raise SourceError(f"{path}: this is {kind}, not a file; save its data in a file first")


def refuse_large(name: str, width: int, height: int) -> None:
    """Refuses what would fill the memory when it is decoded; a file of some kB may announce that.

    Raises:
        SourceError: a picture of this size has more than `MOST_PIXELS`.
    """
    if width * height > MOST_PIXELS:
        raise SourceError(
            f"{name}: {width} x {height} pixels are more than the {MOST_PIXELS // 10**6} million that are read; "
            "make it smaller"
        )


def read_file(path: str | Path) -> bytes:
    """Reads the file of a picture.

    Raises:
        SourceError: there is no such file, it is none, or it is larger than a picture is.
    """
    try:
        status = os.stat(path)  # noqa: PTH116, making a Path is slower, for many pictures
        refuse_odd_files(path, status.st_mode)
        if status.st_size > LARGEST_FILE:
            raise SourceError(
                f"{path}: the file is larger than {LARGEST_FILE >> 30} GB, too large for a picture; make it smaller"
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:  # a null character
        raise SourceError(f"{path!r}: not a path ({error}); check it") from error


def read_picture(path: str | Path) -> Image:
    """Reads a picture file as a uint8 BGR array ``[height, width, 3]``, with its orientation applied.

    Grey, 16-bit and transparent pictures are converted to 8-bit BGR. Of several frames or pages the first is read, and
    a warning says so.

    Args:
        path: the path of the file. Its content decides the format, not its name.

    Returns:
        uint8 BGR ``[height, width, 3]``.

    Raises:
        SourceError: there is no such file, it is not a picture, it is cut off or damaged, it has more than 250 million
            pixels, or OpenCV cannot decode its format, and HEIC without the extra ``heic``.

    Example:
        >>> read_picture("samples/astronaut.jpg").shape
        (512, 512, 3)
    """
    picture = decode(read_file(path), str(path))
    if picture.damaged:
        raise SourceError(damage_of(str(path)))
    return picture.image


def damage_of(name: str) -> str:
    """The message about a damaged picture."""
    return f"{name}: the picture is damaged; copy it again"


def decode(data: bytes, name: str) -> Picture:
    """Decodes a picture file that is in memory; of several frames or pages the first, with a warning.

    Args:
        data: the file's bytes.
        name: how messages call it.

    Raises:
        SourceError: it is not a picture, cut off, too large, damaged so that nothing can be seen, or in a format that
            OpenCV cannot decode, as HEIC is without the extra ``heic``.
    """
    if data.startswith(b"\xff\xd8"):
        return _decode_jpeg(data, name)
    if formats.is_tiff(data):
        pages = pages_of(data, name)
        if len(pages) > 1:
            log.warning("%s: only the first of its pages is read; open it as a source to have all", name)
        return decode_page(data, pages[0], name) if pages else _undecoded(name)
    size = formats.picture_size(data)
    refuse_large(name, *(size or (0, 0)))
    if boxes.is_heic(data):  # OpenCV cannot decode it
        return Picture(_decode_heic(data, name), damaged=False)
    if data.startswith(b"\x89PNG") and not _is_whole_png(data, name):
        return _salvaged(data, "png", formats.orientation(data), name)
    # Of other formats nobody knows the size before they fill the memory, and for some OpenCV writes a temporary file.
    image = _decoded(data, name) if size is not None else None
    if image is None:
        return _undecoded(name)
    if formats.is_animated_png(data) or formats.frame_count(data) > 1:
        log.warning("%s: only the first of its frames is read; give it alone as the source to have all", name)
    return Picture(upright(image, formats.orientation(data)), damaged=False)


def pages_of(data: bytes, name: str) -> list[formats.Page]:
    """The pages of a TIFF; of any other file none.

    Raises:
        SourceError: there are too many.
    """
    try:
        return formats.tiff_pages(data) if formats.is_tiff(data) else []
    except ValueError as error:
        raise SourceError(f"{name}: {error}; split it") from error


def decode_page(data: bytes, page: formats.Page, name: str) -> Picture:
    """Decodes a page of a TIFF.

    Raises:
        SourceError: it cannot be decoded, or is too large.
    """
    refuse_large(name, page.width, page.height)
    begin = page.begin.to_bytes(4, formats.tiff_order(data))
    # OpenCV decodes the first page, and turns it as it says. (Its decoder of several fails with the first broken one.)
    image = _decoded(data if data[4:8] == begin else b"".join((data[:4], begin, memoryview(data)[8:])), name)
    return Picture(image, damaged=False) if image is not None else _undecoded(name)


def upright(image: Image, orientation: int) -> Image:
    """Turns and mirrors a picture as EXIF counts orientations (1 to 8)."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = cv2.transpose(image)
    if orientation in (3, 7):
        return cv2.rotate(image, cv2.ROTATE_180)
    if orientation in (2, 6):
        return cv2.flip(image, 1)
    return cv2.flip(image, 0) if orientation in (4, 8) else image


def _decoded(data: bytes, name: str, flags: int = _AS_STORED) -> Image | None:
    """Lets OpenCV decode a file, without turning it; None if it cannot."""
    if not data:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _refused(name, error) from error


def _refused(name: str, error: cv2.error) -> SourceError:
    return SourceError(f"{name}: OpenCV refuses the picture ({error.err}); copy it again or make it smaller")


def _undecoded(name: str) -> Picture:
    raise SourceError(f"{name}: the picture cannot be decoded; copy it again or convert it to JPEG or PNG")


def _cut_off(name: str) -> SourceError:
    return SourceError(f"{name}: the picture is cut off before its end; copy it again")


def _decode_jpeg(data: bytes, name: str) -> Picture:
    jpeg = Jpeg.parse(data)
    if jpeg.end < 0:
        raise _cut_off(name)
    refuse_large(name, jpeg.width, jpeg.height)
    orientation = formats.exif_orientation(jpeg.exif) if jpeg.exif else 1
    if jpeg.broken:
        return _salvaged(jpeg.cleaned(data), "mjpeg", orientation, name)
    if not jpeg.sequential and _fails_strictly(data):
        return _salvaged(jpeg.cleaned(data), "mjpeg", orientation, name)
    shortens = jpeg.plain and _REFUSES_SHORT
    stored = _decoded(data[: jpeg.end] + _READ_AHEAD if shortens else data, name)
    if stored is None:
        return _salvaged(jpeg.cleaned(data), "mjpeg", orientation, name) if shortens else _undecoded(name)
    return Picture(upright(stored, orientation), jpeg.sequential and _is_broken_within(stored, data, jpeg))


def _is_broken_within(stored: Image, data: bytes, jpeg: Jpeg) -> bool:
    """Whether a JPEG of one scan is damaged. Few are looked at closely, because that takes as long as decoding them."""
    strength = largest_break(stored)
    if strength > _BREAK and jpeg.plain and _REFUSES_SHORT and _has_too_many_data(data, jpeg):
        return True
    return strength > (_STRONG_BREAK if jpeg.plain else _BREAK) and _fails_strictly(data)


def _has_too_many_data(data: bytes, jpeg: Jpeg) -> bool:
    """Whether a plain JPEG can be decoded without the last of its data, as one whose blocks were shifted."""
    # Some programs fill the data up with zeros or ones.
    needed = data[: jpeg.end].rstrip(b"\0\xff")[:-_SPARE]
    return len(needed) > jpeg.scan and _decoded(needed, "", cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None


def _fails_strictly(data: bytes) -> bool:
    """Whether FFmpeg can decode a JPEG, but only if it overlooks errors."""
    from ageinfer.sources.salvage import decoded_in_spite, is_faultless

    return not is_faultless(data) and decoded_in_spite(data, "mjpeg") is not None


def _salvaged(data: bytes, codec: str, orientation: int, name: str) -> Picture:
    """What can be seen of a damaged picture. FFmpeg decodes it, because OpenCV prints lines about what it meets."""
    from ageinfer.sources.salvage import decoded_in_spite  # loads FFmpeg, which pictures have no use for

    image = decoded_in_spite(data, codec)
    if image is None:
        raise SourceError(damage_of(name))
    return Picture(upright(image, orientation), damaged=True)


def _is_whole_png(data: bytes, name: str) -> bool:
    """Whether the checksums of a PNG are right, of all that its pixels need.

    Raises:
        SourceError: it is cut off.
    """
    view = memoryview(data)
    for kind, begin, end in formats.png_chunks(data):
        needed = kind[:1].isupper() and kind.isalpha()  # small letters: such as texts and times
        if not kind.isalpha() or (needed and zlib.crc32(view[begin - 4 : end]) != _crc_at(data, end)):
            break
        if kind == b"IEND":
            return True
    if b"IEND" not in data:
        raise _cut_off(name)
    return False


def _crc_at(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _decode_heic(data: bytes, name: str) -> Image:
    """Decodes a HEIC photo by pillow-heif (libheif), turned as the file says."""
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise SourceError(
            f"{name}: a HEIC photo needs pip install 'ageinfer[heic]'; or convert it to JPEG, or set the phone's "
            'camera to "most compatible" for new photos'
        ) from error
    try:
        image = np.asarray(pillow_heif.open_heif(io.BytesIO(data), bgr_mode=True))
    # As the package documents, and IndexError where none of its pictures is the main one.
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{name}: the HEIC photo cannot be decoded ({reason}); copy it again") from error
    if image.dtype != np.uint8:  # a grey one of more than 8 bits
        image = (image >> 8).astype(np.uint8)
    grey = image if image.ndim == 2 else image[:, :, 0] if image.shape[2] < 3 else None
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) if grey is not None else np.ascontiguousarray(image[:, :, :3])
