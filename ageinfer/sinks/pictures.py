"""Writes annotated pictures: a single file, or a folder with a file for each picture."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ageinfer.errors import OutputError, UsageError
from ageinfer.images import cv2
from ageinfer.sinks.base import Sink, Untouchable, cannot_write, create_beside, make_folder, prepare_place
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Image

_VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


class PictureSink(Sink):
    """Writes the annotated picture of a single picture.

    Args:
        path: the path of the output; its suffix chooses the format.

    Raises:
        UsageError: OpenCV cannot write this format.
        OutputError: the folder cannot be made or written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not can_encode(path.suffix):
            raise UsageError(f"{path}: this is not the name of a picture; for a picture, --output takes .jpg or .png")
        self._place = prepare_place(path)

    def write(self, annotated: AnnotatedFrame) -> None:
        Untouchable().refuse(self._path, annotated.frame.source)
        write_picture(self._place, annotated.image, self._path.suffix)


class FolderSink(Sink):
    """Writes annotated pictures into a folder under the names of their sources.

    If pictures from different folders have the same name, the second gets ``-2``, the third ``-3`` and so on. Names
    that differ only in upper and lower case count as the same, because some file systems cannot tell them apart. A name
    without a suffix that OpenCV can write gets ``.png`` at its end.

    Args:
        folder: the folder; it is made if it does not exist.
        untouchable: pictures that must not be overwritten, for example all that the run reads. The source of a frame
            is never overwritten.

    Raises:
        UsageError: the folder is not there, and has the name of a picture or a video.
        OutputError: the folder cannot be made, or a file has its name.
    """

    def __init__(self, folder: Path, *, untouchable: Iterable[str | Path] = ()) -> None:
        if not folder.exists() and (can_encode(folder.suffix) or folder.suffix.lower() in _VIDEO_SUFFIXES):
            raise UsageError(f"{folder}: the source has several pictures; for them, --output takes a folder")
        self._folder = folder
        self._names = Names()
        self._untouchable = Untouchable(untouchable)
        make_folder(folder)

    def write(self, annotated: AnnotatedFrame) -> None:
        name = Path(annotated.frame.source).name or "picture"
        path = self._folder / self._names.unique(name if can_encode(Path(name).suffix) else f"{name}.png")
        self._untouchable.refuse(path, annotated.frame.source)
        write_picture(path, annotated.image)


def can_encode(suffix: str) -> bool:
    """Tells whether OpenCV can write colour or grey pictures with a suffix such as ``.jpg``."""
    # OpenCV gets the suffix only: a name that is not UTF-8 would crash it.
    return suffix.isascii() and len(suffix) > 1 and suffix.lower() != ".pbm" and cv2.haveImageWriter(f"picture{suffix}")


def write_picture(path: Path, image: Image, suffix: str | None = None) -> None:
    """Writes a picture to a file; the file appears under its name when it is complete.

    Args:
        path: the path of the file; a link there is replaced.
        image: uint8 BGR ``[height, width, 3]``.
        suffix: chooses the format; None for that of ``path``.

    Raises:
        OutputError: the format cannot hold the picture, or the file cannot be written.
    """
    suffix = path.suffix if suffix is None else suffix
    if suffix.lower() == ".pgm":  # has no colours
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    try:
        encoded, data = cv2.imencode(suffix, image)
    except cv2.error as error:
        raise OutputError(f"{path}: OpenCV cannot encode the picture ({error.err}); use .png") from error
    if not encoded:
        height, width = image.shape[:2]
        raise OutputError(f"{path}: {suffix} cannot hold a picture of {width} x {height} pixels; use .png")
    unfinished: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with create_beside(path) as file:
            unfinished = Path(file.name)
            file.write(data)
        unfinished.replace(path)
    except OSError as error:
        if unfinished is not None:
            with suppress(OSError):
                unfinished.unlink()
        raise cannot_write(path, error) from error


class Names:
    """Gives every file of a folder a different name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # the last number after each name, in lower case

    def unique(self, name: str) -> str:
        """Returns the name if it is free, else the name with the next free number after its stem.

        Example:
            >>> names = Names()
            >>> [names.unique("photo.jpg") for _ in range(3)]
            ['photo.jpg', 'photo-2.jpg', 'photo-3.jpg']
        """
        key, candidate = name.casefold(), name
        number = self._numbers.get(key, 1)
        while candidate.casefold() in self._numbers:
            number += 1
            candidate = f"{Path(name).stem}-{number}{Path(name).suffix}"
        self._numbers[candidate.casefold()] = 1
        self._numbers[key] = number
        return candidate
