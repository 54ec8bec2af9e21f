"""Files on this machine or in an object store, by one interface: those that are read, and those of the output."""

import os
import re
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from ageinfer.errors import MissingDependencyError, OutputError, SourceError, UsageError
from ageinfer.sources.address import redacted

if TYPE_CHECKING:
    from pyarrow import fs

T = TypeVar("T")
# Of a name that begins so, other readers of a folder of Parquet files take no notice.
HIDDEN = "_"
_PAUSES_S = (0.5, 1.0, 2.0)  # between the tries of a request to an object store
_PASSWORD = re.compile(r"://[^/?#]*:[^/?#]*@|[?&][^=&]*(key|token|secret|pass|sig|cred)[^=&]*=", re.IGNORECASE)


class StoreError(OutputError):
    """An object store does not answer, so nobody can say what is in it."""


def is_remote(place: str) -> bool:
    """Whether a place is an address, such as ``s3://bucket/folder``, and no path of this machine."""
    return "://" in place


def shown(place: str) -> str:
    """What messages and rows call a place: an address without its options, and only what can be written as UTF-8."""
    return (place.partition("?")[0] if is_remote(place) else place).encode("utf-8", "backslashreplace").decode()


def file_system(place: str) -> "tuple[fs.FileSystem, str]":
    """The file system of a place, and the place in it.

    Args:
        place: a path, or an address that pyarrow or fsspec opens: ``s3://``, ``gs://``, ``abfs://``, ``hdfs://``.

    Raises:
        MissingDependencyError: pyarrow is not installed, or what an address of this kind needs.
        SourceError: there are no addresses of this kind.
        UsageError: it holds a password or a key, which would be kept in the plan.
    """
    try:
        import pyarrow
        from pyarrow import fs
    except ImportError as error:
        raise MissingDependencyError("archives need pyarrow: pip install 'ageinfer[archive]'") from error
    if not is_remote(place):
        return fs.LocalFileSystem(), os.path.abspath(place)  # noqa: PTH100 - a link stays one
    if _PASSWORD.search(place):
        raise UsageError(f"{redacted(place)}: holds a password or a key; give it in the environment (AWS_* and so on)")
    try:
        found, path = fs.FileSystem.from_uri(place)
        return found, str(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        reason = str(error)
    except OSError as error:
        raise StoreError(f"{shown(place)}: cannot be opened: {_reason(error)}; check address and access") from error
    try:
        import fsspec

        opened, path = fsspec.core.url_to_fs(place)
        return fs.PyFileSystem(fs.FSSpecHandler(opened)), str(path)
    except ImportError as error:
        raise MissingDependencyError(f"{shown(place)}: {error}; install it") from error
    except ValueError as error:
        raise SourceError(f"{shown(place)}: cannot be opened: {reason or error}; check the address") from error


@lru_cache(maxsize=64)
def _folder(place: str) -> "tuple[fs.FileSystem, str]":
    return file_system(place)


def remote_file(address: str) -> "tuple[fs.FileSystem, str]":
    """The file system of the address of a file, which is opened once for a folder, and the place in it."""
    path, mark, options = address.partition("?")
    parent, _, name = path.rpartition("/")
    system, place = _folder(parent + mark + options)
    return system, f"{place.rstrip('/')}/{unquote(name)}"


def tried(action: Callable[[], T], name: str) -> T:
    """Does what needs a store, again where that fails.

    Args:
        action: what is done.
        name: of what it is done with, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        StoreError: it has failed too often.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            return action()
        except FileNotFoundError:
            raise
        except OSError as error:
            if pause_s is None:
                raise StoreError(f"{name}: {_reason(error)}; --resume goes on") from error
            time.sleep(pause_s)
    raise AssertionError


def _reason(error: OSError) -> str:
    return error.strerror or (str(error).splitlines() or [type(error).__name__])[0]


class Store:
    """A folder that files are put into, whole or not at all.

    Args:
        place: a path, or an address, see `file_system`.

    Attributes:
        place: the same, with the whole path.
        shown: what messages call it.

    Raises:
        AgeError: it cannot be opened.
    """

    def __init__(self, place: str) -> None:
        self.shown = shown(place)
        self._system, self._root = file_system(place)
        self._remote = is_remote(place)
        self.place = place if self._remote else self._root

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Writes a file: others see it when it is complete, or never.

        Raises:
            OutputError: it cannot be written.
        """
        if self._remote:
            tried(lambda: self._send(self._path(name), data), f"{self.shown}/{name}")
            return
        try:
            _put_here(Path(self._path(name)), data)
        except OSError as error:
            message = f"{self.shown}/{name}: cannot be written: {_reason(error)}; make room, then --resume"
            raise OutputError(message) from error

    def _send(self, path: str, data: bytes) -> None:
        with self._system.open_output_stream(path) as stream:
            stream.write(data)
        if self._system.get_file_info(path).size != len(data):
            raise OSError(f"{len(data)} bytes were sent, and others arrived")

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it cannot be read.
        """

        def read() -> bytes:
            with self._system.open_input_stream(self._path(name)) as stream:
                return stream.read()

        return tried(read, f"{self.shown}/{name}")

    def opened(self, name: str) -> Any:
        """A file, opened for reading at any place.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it cannot be opened.
        """
        return tried(lambda: self._system.open_input_file(self._path(name)), f"{self.shown}/{name}")

    def names(self, folder: str = "", *, begun: bool = False) -> list[str]:
        """The names in one of its folders, sorted.

        Args:
            folder: the name of the folder; empty: all of it.
            begun: those of files that were begun and never completed, instead of all others.

        Raises:
            StoreError: it cannot be listed.
        """
        from pyarrow import fs

        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        found = tried(lambda: self._system.get_file_info(selector), f"{self.shown}/{folder}")
        return sorted(f.base_name for f in found if f.base_name.startswith(".") == begun)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there.

        Raises:
            StoreError: it cannot be removed.
        """
        try:
            tried(lambda: self._system.delete_file(self._path(name)), f"{self.shown}/{name}")
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
