"""Annotated pictures: a single one, or a folder of them."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ageinfer.errors import OutputError, UsageError
from ageinfer.images import cv2
from ageinfer.sinks.base import Sink, Untouchable, cannot_write, make_folder, prepare_place, unfinished_beside
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Image


class PictureSink(Sink):
    """The annotated picture of a single picture.

    Args:
        path: of the picture; its suffix chooses the format.

    Raises:
        UsageError: OpenCV cannot write that format.
        OutputError: the folder is not there and cannot be made, or cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not can_encode(path.suffix):
            raise UsageError(f"{path}: not a name for a picture; for a picture, --output takes .jpg or .png")
        prepare_place(path)

    def write(self, annotated: AnnotatedFrame) -> None:
        Untouchable().refuse(self._path, annotated.frame.source)
        write_picture(self._path, annotated.image)


class FolderSink(Sink):
    """Annotated pictures of many pictures, under their own names.

    Pictures of the same name from different folders get ``-2``, ``-3`` and so on behind it, also where the names differ
    in upper and lower case only, which some file systems do not tell apart. A name without a suffix that OpenCV can
    write gets ``.png`` behind it.

    Args:
        folder: made if it is not there.
        untouchable: pictures that must not be overwritten, for example all that the run will read. The picture that a
            frame comes from never is.

    Raises:
        OutputError: it cannot be made, or is a file.
    """

    def __init__(self, folder: Path, *, untouchable: Iterable[str | Path] = ()) -> None:
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
    """Whether OpenCV can write pictures of a suffix such as ``.jpg``; not black and white ones, as ``.pbm`` are."""
    # It is asked for the suffix alone: a name that is not UTF-8 would crash it.
    return suffix.isascii() and len(suffix) > 1 and suffix.lower() != ".pbm" and cv2.haveImageWriter(f"picture{suffix}")


def write_picture(path: Path, image: Image) -> None:
    """Writes a uint8 BGR picture in one piece, in the format of the path's suffix (see `can_encode`).

    Raises:
        OutputError: it cannot be written.
    """
    unfinished = unfinished_beside(path)
    if path.suffix.lower() == ".pgm":  # has no colours
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    try:
        encoded, data = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise OutputError(f"{path}: OpenCV cannot encode it ({error.err}); use .png") from error
    if not encoded:
        height, width = image.shape[:2]
        raise OutputError(f"{path}: {path.suffix} cannot hold a picture of {width} x {height} pixels; use .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data.tobytes())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


class Names:
    """Gives every file of a folder a name of its own."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # the last number behind each name, in lower case

    def unique(self, name: str) -> str:
        """The name itself while nobody has it, else with the next free number behind its stem."""
        key, candidate = name.casefold(), name
        number = self._numbers.get(key, 1)
        while candidate.casefold() in self._numbers:
            number += 1
            candidate = f"{Path(name).stem}-{number}{Path(name).suffix}"
        self._numbers[candidate.casefold()] = 1
        self._numbers[key] = number
        return candidate
