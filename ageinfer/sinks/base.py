"""What all sinks have in common: the protocol, and how a file comes into its place."""

import errno
import itertools
import os
from collections.abc import Hashable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from ageinfer.errors import OutputError
from ageinfer.sinks.draw import AnnotatedFrame

_numbers = itertools.count()


class Sink(AbstractContextManager["Sink", None]):
    """Takes every frame's result.

    Attributes:
        stop_requested: the person at the sink wants no more.
    """

    stop_requested = False

    def write(self, annotated: AnnotatedFrame) -> None:
        """Takes the next frame.

        Raises:
            OutputError: it cannot be written.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Completes what was written; called once, after an error too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Untouchable:
    """Files that no output may take the place of: those that are read, under whatever name."""

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._files = {file_identity(path) for path in paths}

    def refuse(self, path: str | Path, source: str = "") -> None:
        """Makes sure that a file is neither one of them nor the source at hand.

        Raises:
            OutputError: it is.
        """
        file = file_identity(path)
        if file in self._files or (source and file == file_identity(source)):
            raise OutputError(f"{path}: would overwrite a picture that is read; choose another place")


def file_identity(path: str | Path) -> Hashable:
    """The same for all names of a file, links of both kinds among them; of one that is not there, its real path."""
    try:
        status = os.stat(path)  # noqa: PTH116, Path raises for names that are too long
    except OSError:
        return os.path.realpath(path)  # Path.resolve raises for links in a circle
    except ValueError:  # a null character: no file has such a name
        return str(path)
    return status.st_dev, status.st_ino


def unfinished_beside(path: Path) -> Path:
    """A name in the same folder for a file that will be moved to ``path`` when it is complete.

    It keeps the suffix, by which OpenCV chooses the format, and nothing else of the name, which may be as long as a
    name can be, or not UTF-8.
    """
    return path.with_name(f".ageinfer-{os.getpid()}-{next(_numbers)}{path.suffix}")


def cannot_write(path: Path | str, error: OSError) -> OutputError:
    """The error for a place that the system refuses."""
    return OutputError(f"{path}: cannot be written: {error.strerror}; choose another place")


def make_folder(folder: Path) -> None:
    """Makes an output folder if it is not there.

    Raises:
        OutputError: it cannot be made, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made a folder: {error.strerror}; name a folder, or a place where one can be made"
        ) from error


def prepare_place(path: Path) -> None:
    """Makes the folder of a file that will be moved into place, and makes sure that it can be.

    Raises:
        OutputError: it cannot.
    """
    trial = unfinished_beside(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
