"""Sources of pictures: a single file, a folder, a pattern, or paths that come on standard input."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ageinfer.errors import SourceError
from ageinfer.sources import formats
from ageinfer.sources.animation import AnimationSource
from ageinfer.sources.base import Source
from ageinfer.sources.decoding import Picture, damage_of, decode, decode_page, pages_of, read_file
from ageinfer.sources.paths import ComingPaths, paths_from
from ageinfer.sources.pattern import paths_matching
from ageinfer.types import Frame

# HEIC needs a package. It is in this list so that such a photo in a folder is reported and not skipped silently.
PICTURE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
        ".avif", ".heic", ".heif",
    }
)  # fmt: skip

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
        coming: the paths if they come while they are read, else None.

    Raises:
        SourceError: while iterating: the list is empty, or none of its pictures can be read.
    """

    kind = "folder"

    def __init__(self, name: str, files: Iterable[str | Path], frame_count: int | None) -> None:
        self.name = name
        self.files: Sequence[str | Path] = files if isinstance(files, Sequence) else ()
        self.coming = files if isinstance(files, ComingPaths) else None
        self.frame_count = frame_count
        self._files = files

    def __iter__(self) -> Iterator[Frame]:
        done = 0
        for frame in self.frames():
            done += 1
            yield frame
        if not self._closed:
            self.refuse_none(done)

    def frames(self) -> Iterator[Frame]:
        """Yields the frames as the source itself does; that there is none is no error.

        Raises:
            SourceError: the source was read or closed before.
        """
        self._begin()
        for file in self._files:
            for frame in self._frames_of(str(file)):
                if self._closed:
                    return
                yield frame
            if self._closed:
                return

    def refuse_none(self, done: int) -> None:
        """Refuses a list of which no picture could be read.

        Args:
            done: how many pictures could be.

        Raises:
            SourceError: it is 0.
        """
        if done == 0 and self.failed:
            raise SourceError(f"{self.name}: none of its {self.failed} pictures can be read; copy them again")
        if done == 0:
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
    return AnimationSource(str(path), data, frames) if frames > 1 else PictureSource(path, data)


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
    return PictureListSource("standard input", ComingPaths(paths_from(descriptor)), None)


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
