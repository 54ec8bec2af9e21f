"""Files on this machine or in an object store, by one interface: those that are read, and those of the output."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ageinfer.errors import MissingDependencyError, OutputError, SourceError
from ageinfer.sources.address import redacted

if TYPE_CHECKING:
    from pyarrow import fs

# Of a name that begins so, other readers of a folder of Parquet files take no notice.
HIDDEN = "_"


def is_remote(place: str) -> bool:
    """Whether a place is an address, such as ``s3://bucket/folder``, and no path of this machine."""
    return "://" in place


def file_system(place: str) -> "tuple[fs.FileSystem, str]":
    """The file system of a place, and the place in it.

    Args:
        place: a path, or an address that pyarrow or fsspec opens: ``s3://``, ``gs://``, ``abfs://``, ``hdfs://``.

    Raises:
        MissingDependencyError: pyarrow is not installed, or what an address of this kind needs.
        SourceError: there are no addresses of this kind.
    """
    try:
        import pyarrow
        from pyarrow import fs
    except ImportError as error:
        raise MissingDependencyError("archives need pyarrow: pip install 'ageinfer[archive]'") from error
    if not is_remote(place):
        return fs.LocalFileSystem(), os.path.abspath(place)  # noqa: PTH100 - a link stays one
    try:
        found, path = fs.FileSystem.from_uri(place)
        return found, str(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        reason = str(error)
    try:
        import fsspec

        opened, path = fsspec.core.url_to_fs(place)
        return fs.PyFileSystem(fs.FSSpecHandler(opened)), str(path)
    except ImportError as error:
        raise MissingDependencyError(f"{redacted(place)}: {error}; install it") from error
    except ValueError as error:
        raise SourceError(f"{redacted(place)}: cannot be opened: {reason or error}; check the address") from error


class Store:
    """A folder that files are put into, whole or not at all.

    Args:
        place: a path, or an address, see `file_system`.

    Raises:
        AgeError: it cannot be opened.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.shown = redacted(place)
        self._system, self._root = file_system(place)

    def __reduce__(self) -> Any:
        return Store, (self.place,)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Writes a file: others see it when it is complete, or never.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._path(name)
        try:
            if is_remote(self.place):
                with self._system.open_output_stream(path) as stream:
                    stream.write(data)
                if self._system.get_file_info(path).size != len(data):
                    raise OSError(f"{len(data)} bytes were sent, and others arrived")
            else:
                _put_here(Path(path), data)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise OutputError(f"{self.shown}/{name}: cannot be written: {reason}; make room, then --resume") from error

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read.
        """
        with self._system.open_input_stream(self._path(name)) as stream:
            return stream.read()

    def opened(self, name: str) -> Any:
        """A file, opened for reading at any place.

        Raises:
            OSError: it cannot be read.
        """
        return self._system.open_input_file(self._path(name))

    def names(self, folder: str) -> list[str]:
        """The names of the files in one of its folders, sorted; without those that were not completed."""
        from pyarrow import fs

        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        found = self._system.get_file_info(selector)
        return sorted(f.base_name for f in found if f.type == fs.FileType.File and not f.base_name.startswith("."))

    def is_empty(self) -> bool:
        """Whether nothing lies there."""
        from pyarrow import fs

        return not self._system.get_file_info(fs.FileSelector(self._root, allow_not_found=True))

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        try:
            self._system.delete_file(self._path(name))
        except FileNotFoundError:
            return


def _put_here(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
