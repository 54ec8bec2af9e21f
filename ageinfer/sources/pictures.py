"""Sources of pictures: a single file, a folder, a pattern, or paths that come on standard input."""

import codecs
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ageinfer.errors import SourceError
from ageinfer.sources import formats
from ageinfer.sources.animation import AnimationSource
from ageinfer.sources.base import Source
from ageinfer.sources.decoding import CAN_ANIMATE, Picture, damage_of, decode, decode_page, pages_of, read_file
from ageinfer.sources.pattern import paths_matching
from ageinfer.types import Frame

# HEIC needs a package. It is in this list so that such a photo in a folder is reported and not skipped silently.
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
        ".avif", ".heic", ".heif",
    }
)  # fmt: skip
_LONGEST_PATH = 4096  # bytes; the limit of Linux
_LONGEST_ODD_NAME = 1 << 20  # bytes between null bytes; more is no list

# A recording of a camera: JPEG pictures one after the other, of which the first looks like a picture.
MOTION_JPEG_SUFFIXES = (".mjpeg", ".mjpg")

log = logging.getLogger(__name__)


class _Pictures(Source):
    def _frame(self, name: str, number: int, picture: Picture) -> Frame:
        """The frame of a picture, which is named and counted where it is damaged."""
        if picture.damaged:
            self.damaged += 1
            log.warning("%s", damage_of(name))
        return Frame(name, number, None, picture.image, damaged=picture.damaged)


class PictureSource(_Pictures):
    """Gives the picture of one file as a single frame, uint8 BGR.

    A damaged picture is named in a warning, and its frame has ``damaged`` set.

    Args:
        path: the path of the file; with data, the name of the source.
        data: the bytes of the file, where they were read already.
    """

    kind = "picture"
    frame_count = 1

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        self.name = str(path)
        self._data = data

    def __iter__(self) -> Iterator[Frame]:
        self._begin()
        picture = decode(read_file(self.name) if self._data is None else self._data, self.name)
        self._data = None
        yield self._frame(self.name, 0, picture)


class PictureListSource(_Pictures):
    """Gives the pictures of a list of paths in its order, each as a frame, uint8 BGR.

    The pages of a TIFF are frames of their own, numbered from 0. A picture that cannot be read is named in a warning
    and counted in ``failed``. A damaged one is named, counted in ``damaged``, and its frame has ``damaged`` set.

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
            for frame in self._frames_of(str(file)):
                if self._closed:
                    return
                done += 1
                yield frame
            if self._closed:
                return
        if done == 0:
            if self.failed:
                raise SourceError(f"{self.name}: none of its {self.failed} pictures can be read; copy them again")
            raise SourceError(f"{self.name}: no picture was named; give one path on each line")

    def _read(self, file: str) -> bytes:
        return read_file(file)

    def _frames_of(self, file: str) -> Iterator[Frame]:
        """The pictures of a file that can be decoded."""
        try:
            data = self._read(file)
            pages = pages_of(data, file)
        except SourceError as error:
            self._fail(error)
            return
        for number in range(max(len(pages), 1)):
            try:
                picture = decode_page(data, pages[number], file) if len(pages) > 1 else decode(data, file)
            except SourceError as error:
                self._fail(error)
                continue
            yield self._frame(file, number, picture)

    def _fail(self, error: SourceError) -> None:
        self.failed += 1
        log.warning("%s", error)


class PagesSource(PictureListSource):
    """Gives the pages of a TIFF, each as a frame, uint8 BGR.

    Args:
        name: the path of the file, or what it is called where it has none.
        data: the bytes of the file.
        page_count: how many pages it has.
    """

    def __init__(self, name: str, data: bytes, page_count: int) -> None:
        super().__init__(name, [name], page_count)
        self._data = data

    def _read(self, file: str) -> bytes:
        data, self._data = self._data, b""
        return data


def open_picture(path: str | Path, data: bytes | None = None) -> Source:
    """Opens a picture file: the frames of an animated WebP or AVIF, the pages of a TIFF, or one picture.

    Args:
        path: the path of the file; with data, the name of the source.
        data: the bytes of the file, where they were read already.

    Raises:
        SourceError: the file cannot be read, or an animation is too large.
    """
    if not formats.may_hold_several(begins(Path(path), 4096) if data is None else data):
        return PictureSource(path, data)
    data = read_file(path) if data is None else data
    if formats.is_tiff(data):
        pages = len(pages_of(data, str(path)))
        return PagesSource(str(path), data, pages) if pages > 1 else PictureSource(path, data)
    frames = formats.frame_count(data)
    moves = CAN_ANIMATE and frames > 1
    return AnimationSource(str(path), data, frames) if moves else PictureSource(path, data)


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
        if len(rest) > _longest(separator):
            break
    if path := _as_path(rest, separator):
        yield path


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        raise SourceError(f"standard input cannot be read: {error.strerror}; pipe paths of pictures into it") from error


def _longest(separator: bytes) -> int:
    return _LONGEST_ODD_NAME if separator == b"\0" else _LONGEST_PATH


def _as_path(line: bytes, separator: bytes) -> str:
    if separator == b"\0":  # any name may stand there, and who reads it says what is wrong; but not a picture
        is_no_path = line.startswith((b"\xff\xd8\xff", b"\x89PNG"))
    else:
        line = line.removesuffix(b"\r")
        is_no_path = any(byte < 32 and byte not in b"\t\r\n" for byte in line)
    if is_no_path or len(line) > _longest(separator):
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
            return formats.looks_like_picture(opened.read(12))
    except OSError:  # its name is not that of a picture, so it may be skipped silently
        return False


def begins(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)
