"""Reads pictures: a single file, a folder, a pattern, or paths that come on standard input."""

import codecs
import io
import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources.base import Source
from ageinfer.sources.pattern import paths_matching
from ageinfer.types import Frame, Image

# HEIC needs a package. It is in this list so that such a photo in a folder is reported and not skipped silently.
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
        ".avif", ".heic", ".heif",
    }
)  # fmt: skip
# JPEG, PNG, BMP, TIFF, PNM. (A GIF and an animated PNG are videos. WebP, AVIF and HEIC have their marks at 4 to 12.)
_PICTURE_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6",
)  # fmt: skip
# Brands of the "ftyp" box with which AVIF and HEIC files begin, as MP4 files do. AVIF files may have the last two, too.
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
_LONGEST_BRANDS = 1024  # bytes; a broken file may announce any length
_LARGEST_FILE = 1 << 30  # bytes; OpenCV refuses pictures of more than 2^30 pixels
_LONGEST_PATH = 4096  # bytes; the limit of Linux
_LONGEST_ODD_NAME = 1 << 20  # bytes between null bytes; more is no list
_ODD_FILES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

# A recording of a camera: JPEG pictures one after the other, of which the first looks like a picture.
MOTION_JPEG_SUFFIXES = (".mjpeg", ".mjpg")

log = logging.getLogger(__name__)


def looks_like_picture(head: bytes) -> bool:
    """Tells from the first bytes of a file (12 or more) whether it is a picture and not a video."""
    # FFmpeg would open a HEIC photo as a video of its first tile.
    is_still = head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS | _HEIC_BRANDS
    return is_still or head[8:12] == b"WEBP" or any(head.startswith(signature) for signature in _PICTURE_SIGNATURES)


def is_animated_png(data: bytes) -> bool:
    """Tells from the first bytes of a file, up to its pixels, whether it is a PNG of several frames."""
    before_pixels = data.partition(b"IDAT")[0] if data.startswith(b"\x89PNG") else b""
    at = before_pixels.find(b"acTL")
    return at > 0 and int.from_bytes(data[at + 4 : at + 8], "big") > 1


def is_heic(data: bytes) -> bool:
    """Tells from the first bytes of a file, with its whole "ftyp" box, whether it is a HEIC photo."""
    # The first brand decides: a video may list brands of pictures after it.
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIC_BRANDS:
        return False
    if data[8:12] not in (b"mif1", b"msf1"):
        return True
    # An AVIF file may begin with these two brands and list its own after them.
    others = data[16 : min(int.from_bytes(data[:4], "big"), _LONGEST_BRANDS)]
    return not any(others[i : i + 4] in _AVIF_BRANDS for i in range(0, len(others), 4))


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


def read_picture(path: str | Path) -> Image:
    """Reads a picture file as a uint8 BGR array ``[height, width, 3]``, with its EXIF orientation applied.

    Grey, 16-bit and transparent pictures are converted to 8-bit BGR.

    Args:
        path: the path of the file. Its content decides the format, not its name.

    Returns:
        uint8 BGR ``[height, width, 3]``.

    Raises:
        SourceError: there is no such file, it is not a picture, it is cut off, or OpenCV cannot decode its format,
            and HEIC without the extra ``heic``.

    Example:
        >>> read_picture("samples/astronaut.jpg").shape
        (512, 512, 3)
    """
    try:
        status = os.stat(path)  # noqa: PTH116, making a Path is slower, for many pictures
        refuse_odd_files(path, status.st_mode)
        if status.st_size > _LARGEST_FILE:
            raise SourceError(f"{path}: the file is larger than 1 GB, too large for a picture; make it smaller")
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:  # a null character
        raise SourceError(f"{path!r}: not a path ({error}); check it") from error
    return decode_picture(data, str(path))


def decode_picture(data: bytes, path: str) -> Image:
    """Decodes a picture file that is in memory, as `read_picture` reads one.

    Args:
        data: the file's bytes.
        path: how messages call it.

    Raises:
        SourceError: it is not a picture, cut off, or in a format that OpenCV cannot decode, as HEIC is
            without the extra ``heic``.
    """
    if is_heic(data):  # OpenCV cannot decode it
        return _decode_heic(data, path)
    if _is_cut_off(data):
        raise SourceError(f"{path}: the picture is cut off before its end; copy it again")
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:  # larger than OpenCV accepts
            raise SourceError(f"{path}: OpenCV refuses the picture ({error.err}); make it smaller") from error
    if image is None:
        raise SourceError(f"{path}: the picture cannot be decoded; copy it again or convert it to JPEG or PNG")
    if more := _of_which_the_first_is_read(data):
        log.warning("%s: only the first of its %s is read; convert it to a GIF or a video to have all", path, more)
    return image


def _decode_heic(data: bytes, path: str) -> Image:
    """Decodes a HEIC photo by pillow-heif (libheif), turned as the file says."""
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise SourceError(
            f"{path}: a HEIC photo needs pip install 'ageinfer[heic]'; or convert it to JPEG, or set the phone's "
            'camera to "most compatible" for new photos'
        ) from error
    try:
        image = np.asarray(pillow_heif.open_heif(io.BytesIO(data), bgr_mode=True))
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError) as error:  # as the package documents
        reason = " ".join(str(error).split())
        raise SourceError(f"{path}: the HEIC photo cannot be decoded ({reason}); copy it again") from error
    if image.dtype != np.uint8:  # a grey one of more than 8 bits
        image = (image >> 8).astype(np.uint8)
    grey = image if image.ndim == 2 else image[:, :, 0] if image.shape[2] < 3 else None
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR) if grey is not None else np.ascontiguousarray(image[:, :, :3])


def _of_which_the_first_is_read(data: bytes) -> str:
    """Names what a file holds several of, from its structure alone: ``frames``, ``pages``, or nothing."""
    if is_animated_png(data):
        return "frames"
    if data[8:16] == b"WEBPVP8X":
        return "frames" if data[20] & 2 else ""
    if data[4:8] == b"ftyp" and b"avis" in data[8 : min(int.from_bytes(data[:4], "big"), _LONGEST_BRANDS)]:
        return "frames"
    if data[:4] in (b"II*\0", b"MM\0*"):
        order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"
        first = int.from_bytes(data[4:8], order)
        after = first + 2 + 12 * int.from_bytes(data[first : first + 2], order)
        return "pages" if int.from_bytes(data[after : after + 4], order) else ""
    return ""


def _is_cut_off(data: bytes) -> bool:
    """Tells whether a JPEG or PNG lacks its end; decoders fill the missing part with grey and report nothing."""
    if data.startswith(b"\xff\xd8"):
        return _is_cut_off_jpeg(data)
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _is_cut_off_jpeg(data: bytes) -> bool:
    """Tells whether a JPEG has no end mark (0xFFD9) after the start of its first scan.

    It skips the segments before the scan, because a thumbnail in one of them has an end mark of its own.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan
            return b"\xff\xd9" not in data[position:]
        if marker == 0xFF:  # padding
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True


class PictureSource(Source):
    """Gives the picture of one file as a single frame, uint8 BGR.

    Args:
        path: the path of the file; with data, the name of the source.
        data: the bytes of the file, where they were fetched already.
    """

    kind = "picture"
    frame_count = 1

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        self.name = str(path)
        self._data = data

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        image = read_picture(self.name) if self._data is None else decode_picture(self._data, self.name)
        yield Frame(self.name, 0, None, image)


class PictureListSource(Source):
    """Gives the pictures of a list of paths in its order, each as a frame, uint8 BGR.

    A picture that cannot be read is named in a warning and counted in ``failed``.

    Args:
        name: the name of the list in messages.
        files: the paths; an iterator is read while the frames are.
        frame_count: the number of paths, or None if it is unknown.

    Attributes:
        files: the paths if they are known before reading, else an empty tuple.

    Raises:
        SourceError: while iterating: the list is empty, or none of its pictures can be read.
    """

    kind = "folder"

    def __init__(self, name: str, files: Iterable[str | Path], frame_count: int | None) -> None:
        self.name = name
        self.files: Sequence[str | Path] = files if isinstance(files, Sequence) else ()
        self.frame_count = frame_count
        self._files = files

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        done = 0
        for file in self._files:
            if self._closed:
                return
            try:
                image = read_picture(file)
            except SourceError as error:
                self.failed += 1
                log.warning("%s", error)
                continue
            done += 1
            yield Frame(str(file), 0, None, image)
        if done == 0 and not self._closed:
            if self.failed:
                raise SourceError(f"{self.name}: none of its {self.failed} pictures can be read; copy them again")
            raise SourceError(f"{self.name}: no picture was named; give one path on each line")


class FolderSource(PictureListSource):
    """Gives the pictures of a folder, sorted by name, without those in its subfolders.

    Args:
        path: the path of the folder.

    Raises:
        SourceError: the folder holds no picture.
    """

    def __init__(self, path: Path) -> None:
        files = sorted(f for f in path.iterdir() if _is_meant(f) and _has_suffix(f) and f.is_file())
        if not files:
            raise SourceError(f"{path}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        super().__init__(str(path), files, len(files))


def open_pattern(pattern: str) -> PictureListSource:
    """Opens the pictures whose paths match a pattern of the shell, sorted by path.

    A file counts as a picture by its suffix or by its first bytes; other files are skipped.

    Args:
        pattern: such as ``photos/*.jpg``; ``**`` also matches subfolders, but not those behind a link.

    Raises:
        SourceError: no picture matches the pattern.
    """
    matches = sorted({Path(name) for name in paths_matching(pattern)})
    meant = [file for file in matches if _is_meant(file) and file.is_file()]
    files = [file for file in meant if _has_suffix(file) or _begins_like_picture(file)]
    if not files:
        raise SourceError(f"{pattern}: no picture matches this pattern; check it, and give videos one by one")
    return PictureListSource(pattern, files, len(files))


def open_standard_input() -> PictureListSource:
    """Opens the pictures whose paths come on standard input, one on each line or each ended by a null byte.

    A picture is read as soon as its path is complete.

    Raises:
        SourceError: there is no standard input.
    """
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # it is None, closed, or an object without a descriptor
        raise SourceError("standard input cannot be read; pipe paths of pictures into it, one on each line") from None
    return PictureListSource("standard input", paths_from(descriptor), None)


def paths_from(descriptor: int) -> Iterator[str]:
    """Yields the paths from an open file, each as soon as it is complete, and skips empty lines.

    Args:
        descriptor: the descriptor of the file. A null byte in it separates paths, else a line break does.

    Raises:
        SourceError: the data cannot be paths.
    """
    # Not through sys.stdin: Python aborts at its end if a thread still waits in there.
    rest, separator, begun = b"", b"", False
    while chunk := _read(descriptor):
        rest += chunk
        if not begun and len(rest) >= len(codecs.BOM_UTF8):
            begun = True
            if rest.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise SourceError("standard input: the list is in UTF-16; save it in UTF-8")
            rest = rest.removeprefix(codecs.BOM_UTF8)
        separator = separator or (b"\0" if b"\0" in rest else b"\n" if b"\n" in rest else b"")
        if separator:
            *complete, rest = rest.split(separator)
            yield from filter(None, (_as_path(line, separator) for line in complete))
        if len(rest) > (_LONGEST_ODD_NAME if separator == b"\0" else _LONGEST_PATH):
            break
    if path := _as_path(rest, separator):
        yield path


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        raise SourceError(f"standard input cannot be read: {error.strerror}; pipe paths of pictures into it") from error


def _as_path(line: bytes, separator: bytes) -> str:
    if separator == b"\0":  # any name may stand there, and who reads it says what is wrong; but not a picture
        is_no_path = line.startswith((b"\xff\xd8\xff", b"\x89PNG"))
    else:
        line = line.removesuffix(b"\r")
        is_no_path = len(line) > _LONGEST_PATH or any(byte < 32 and byte not in b"\t\r\n" for byte in line)
    if is_no_path:
        raise SourceError("standard input holds no paths; write one on each line, or give the picture as the source")
    return os.fsdecode(line)


def _is_meant(file: Path) -> bool:
    """Whether a file is not hidden. (Other systems lay a hidden ``._IMG_1.jpg`` beside each picture.)"""
    return not file.name.startswith(".")


def _has_suffix(file: Path) -> bool:
    return file.suffix.lower() in PICTURE_SUFFIXES


def _begins_like_picture(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return looks_like_picture(opened.read(12))
    except OSError:  # its name is not that of a picture, so it may be skipped silently
        return False


def begins(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)
