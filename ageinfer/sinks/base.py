"""The base class of all sinks, and helpers that put a complete file in its place."""

import errno
import io
import os
import secrets
from collections.abc import Hashable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ageinfer.errors import OutputError
from ageinfer.sinks.draw import AnnotatedFrame


class Sink(AbstractContextManager["Sink", None]):
    """A sink writes or shows the result of every frame.

    Attributes:
        stop_requested: whether a person at the sink wants the run to end.
        stays: whether a person may still look at it when the source has ended.
        reads_images: whether it needs the images of frames, and not the results alone.

    Example:
        >>> with JsonlSink("records.jsonl") as sink:  # doctest: +SKIP
        ...     for frame, result in pipeline.run(source):
        ...         sink.write(AnnotatedFrame(frame, result))
    """

    stop_requested = False
    stays = False
    reads_images = True

    def write(self, annotated: AnnotatedFrame) -> None:
        """Writes or shows the next frame.

        Raises:
            OutputError: the frame cannot be written.
        """
        raise NotImplementedError

    def idle(self) -> None:
        """Attends to a person at the sink; it is called many times a second while no frame is due."""

    def close(self) -> None:
        """Completes the output; it is called once, also after an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Untouchable:
    """Knows the files that a run reads, so that no output overwrites one of them under any name."""

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._files = {file_identity(path) for path in paths}

    def refuse(self, path: str | Path, source: str = "") -> None:
        """Checks that an output would not overwrite a file that is read.

        Args:
            path: the path of the output.
            source: the source of the frame that is written; it must not be overwritten either.

        Raises:
            OutputError: the output is one of these files.
        """
        file = file_identity(path)
        if file in self._files or (source and file == file_identity(source)):
            raise OutputError(f"{path}: would overwrite a picture that is read; choose another place")


def file_identity(path: str | Path) -> Hashable:
    """Returns a value that is equal for all names of the same file, hard links and symbolic links included.

    For a file that does not exist it is the real path.
    """
    try:
        status = os.stat(path)  # noqa: PTH116, Path raises for names that are too long
    except OSError:
        return os.path.realpath(path)  # Path.resolve raises for circular links
    except ValueError:  # a null character: no file has such a name
        return str(path)
    return status.st_dev, status.st_ino


class WholeFile(io.FileIO):
    """An unbuffered file whose `write` takes all that it is given, as FFmpeg expects it.

    Attributes:
        failure: why the first write that failed did; None if none did. FFmpeg does not hand that on.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = self.failure or error
            raise
        return len(data)


def create_beside(path: Path, suffix: str | None = None) -> WholeFile:
    """Creates a temporary file in the folder of ``path``, to be moved there when it is complete.

    Nobody can foresee its name, and nothing that lies there is opened. Only the suffix of the name is kept, because it
    tells the format: the rest may be too long to be extended, or not UTF-8.

    Args:
        path: the path that the file will have.
        suffix: of the temporary name; None for that of ``path``.

    Raises:
        OSError: the file cannot be created.
    """
    name = f".ageinfer-{secrets.token_hex(8)}{path.suffix if suffix is None else suffix}"
    return WholeFile(path.absolute().with_name(name), "x")  # FFmpeg would take "http:x.mp4" for an address


def cannot_write(path: Path | str, error: OSError) -> OutputError:
    """Makes the error for a path that the system does not let us write."""
    return OutputError(f"{path}: cannot be written: {error.strerror}; choose another place")


def make_folder(folder: Path) -> None:
    """Makes an output folder, with its parents, if it does not exist.

    Raises:
        OutputError: the folder cannot be made, or a file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: this folder cannot be made: {error.strerror}; name a folder, or a place where one can be made"
        ) from error


def prepare_place(path: Path) -> Path:
    """Makes the folder of an output file and checks that a file can be written there.

    Returns:
        The path at which to write it: where ``path`` is a symbolic link, that of its target.

    Raises:
        OutputError: no file can be written there.
    """
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        if place.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if place.exists() and not place.is_file():
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise OutputError(f"{path}: a pipe or a device, which only records can be written to; name a file")
        place.parent.mkdir(parents=True, exist_ok=True)
        with create_beside(place, "") as trial:
            Path(trial.name).unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
    return place
