"""Pictures: one, those of a folder or a pattern, and those that standard input names."""

import glob
import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ageinfer.errors import SourceError
from ageinfer.images import cv2
from ageinfer.sources.base import Source
from ageinfer.types import Frame, Image

# HEIC is among them although it cannot be read: a photo in a folder must be named as failed, not passed over.
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
        ".avif", ".heic", ".heif",
    }
)  # fmt: skip
# JPEG, PNG, BMP, TIFF, PNM. (A GIF is a video; WebP, AVIF and HEIC have theirs further in.)
_PICTURE_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6",
)  # fmt: skip
# Brands of the "ftyp" box with which such a file begins, like any MP4. The last two are of both.
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
_LONGEST_BRANDS = 1024  # bytes; a broken file may announce any length
_LARGEST_FILE = 1 << 30  # bytes; OpenCV refuses pictures of more than 2^30 pixels
_LONGEST_PATH = 4096  # bytes, of Linux
_ODD_FILES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

log = logging.getLogger(__name__)


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins so (12 bytes are enough) is a picture rather than a video."""
    # To FFmpeg a HEIC photo is a video of its first tile.
    is_still = head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS | _HEIC_BRANDS
    return is_still or head[8:12] == b"WEBP" or any(head.startswith(signature) for signature in _PICTURE_SIGNATURES)


def is_heic(data: bytes) -> bool:
    """Whether a file that begins so, with its whole "ftyp" box, is a HEIC photo."""
    # The first brand decides: a video, too, may list those of pictures among the others.
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIC_BRANDS:
        return False
    if data[8:12] not in (b"mif1", b"msf1"):
        return True
    # These two may stand before AVIF as well.
    others = data[16 : min(int.from_bytes(data[:4], "big"), _LONGEST_BRANDS)]
    return not any(others[i : i + 4] in _AVIF_BRANDS for i in range(0, len(others), 4))


def refuse_odd_files(path: str | Path, mode: int) -> None:
    """Refuses what could be waited for without an end, by its mode as `os.stat` gives it.

    Raises:
        SourceError: it is a pipe, a socket or a device.
    """
    if kind := _ODD_FILES.get(stat.S_IFMT(mode)):
        raise SourceError(f"{path}: {kind}, not a file; save what it gives into a file first")


def read_picture(path: str | Path) -> Image:
    """Reads a picture as uint8 BGR ``[height, width, 3]``, turned as its EXIF orientation says.

    Grey, 16-bit and transparent pictures are converted.

    Raises:
        SourceError: it is not there, not a picture, cut off, or in a format that OpenCV cannot decode, as HEIC is.
    """
    try:
        status = os.stat(path)  # noqa: PTH116, a Path would cost a second for every million of pictures
        refuse_odd_files(path, status.st_mode)
        if status.st_size > _LARGEST_FILE:
            raise SourceError(f"{path}: larger than 1 GB, too large for a picture; make it smaller")
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
        SourceError: it is not a picture, cut off, or in a format that OpenCV cannot decode, as HEIC is.
    """
    if is_heic(data):  # OpenCV cannot decode it
        raise SourceError(
            f"{path}: a HEIC photo, which cannot be read; convert it to JPEG, and set the phone's camera to "
            '"most compatible" for the next ones'
        )
    if _is_cut_off(data):
        raise SourceError(f"{path}: the picture is cut off before its end; copy it again")
    image = None
    if data:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:  # larger than OpenCV accepts
            raise SourceError(f"{path}: OpenCV refuses the picture ({error.err}); make it smaller") from error
    if image is None:
        raise SourceError(f"{path}: not a picture that can be decoded; copy it again or convert it to JPEG or PNG")
    return image


def _is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; the decoders would fill the rest with grey and say nothing."""
    if data.startswith(b"\xff\xd8"):
        return _is_cut_off_jpeg(data)
    return data.startswith(b"\x89PNG") and b"IEND" not in data


def _is_cut_off_jpeg(data: bytes) -> bool:
    """Follows the segments to the first scan; behind that, only the end mark can be 0xFFD9.

    Neither a thumbnail in a segment nor what some telephones append to a picture is mistaken for it.
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
    """One picture file."""

    kind = "picture"
    frame_count = 1

    def __init__(self, path: Path) -> None:
        self.name = str(path)

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        yield Frame(self.name, 0, None, read_picture(self.name))


class PictureListSource(Source):
    """Pictures by their paths, in the order given.

    A picture that cannot be read is named in a warning and counted in ``failed``.

    Args:
        name: of the whole list.
        files: the paths; may be an iterator that does not know its length.
        frame_count: how many these are, or None.

    Attributes:
        files: the paths, where they are known beforehand; else none.
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
            raise SourceError(f"{self.name}: names no picture; give the path of one on each line")


class FolderSource(PictureListSource):
    """The pictures that lie in one folder, by name; those in its subfolders are not touched.

    Raises:
        SourceError: there is none.
    """

    def __init__(self, path: Path) -> None:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and f.is_file())
        if not files:
            raise SourceError(f"{path}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
        super().__init__(str(path), files, len(files))


def open_pattern(pattern: str) -> PictureListSource:
    """The pictures that match a pattern of the shell (``**`` goes into subfolders), by name.

    A file is one of them by its suffix or by its content: what a shell would have passed may hold other files, too.

    Raises:
        SourceError: there is none.
    """
    matches = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207, as the shell has it
    files = [file for file in matches if file.is_file() and (_has_suffix(file) or _begins_like_picture(file))]
    if not files:
        raise SourceError(f"{pattern}: no picture matches this pattern; check it, and give videos one by one")
    return PictureListSource(pattern, files, len(files))


def open_standard_input() -> PictureListSource:
    """The pictures whose paths come on standard input, one a line or ended by a null byte, as they come.

    Raises:
        SourceError: there is no standard input.
    """
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # None or closed, and replaced by something without a descriptor
        raise SourceError("standard input cannot be read; pipe the paths of pictures into it, one a line") from None
    return PictureListSource("standard input", paths_from(descriptor), None)


def paths_from(descriptor: int) -> Iterator[str]:
    """Paths from an open file, each as soon as it is complete; empty ones are left out.

    Raises:
        SourceError: what comes cannot be paths.
    """
    # Not through sys.stdin: a thread that waits in there while Python ends makes it abort.
    rest, separator = b"", b""
    while chunk := _read(descriptor):
        rest += chunk
        separator = separator or (b"\0" if b"\0" in rest else b"\n" if b"\n" in rest else b"")
        if separator:
            *complete, rest = rest.split(separator)
            yield from filter(None, (_as_path(line, separator) for line in complete))
        if len(rest) > _LONGEST_PATH:
            break
    if path := _as_path(rest, separator):
        yield path


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        raise SourceError(f"standard input cannot be read: {error.strerror}; pipe paths of pictures into it") from error


def _as_path(line: bytes, separator: bytes) -> str:
    line = line if separator == b"\0" else line.removesuffix(b"\r")
    if len(line) > _LONGEST_PATH or any(byte < 32 and byte not in b"\t\r\n" for byte in line):
        raise SourceError("standard input: holds no paths; write one a line, or name the picture itself as the source")
    return os.fsdecode(line)


def _has_suffix(file: Path) -> bool:
    return file.suffix.lower() in PICTURE_SUFFIXES


def _begins_like_picture(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return looks_like_picture(opened.read(12))
    except OSError:  # it has no name of a picture, so nobody expects it
        return False
