"""Reads the bytes of items, on this machine or from an object store, some of them ahead."""

import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ageinfer.archive.items import Item
from ageinfer.archive.store import is_remote, remote_file, tried
from ageinfer.errors import SourceError
from ageinfer.sources.decoding import LARGEST_FILE, read_file

T = TypeVar("T")
_AHEAD = 8  # items that are read at the same time; object stores answer slowly, as networks do


def bytes_of(item: Item) -> bytes:
    """The bytes of a file.

    Raises:
        SourceError: there is no such file, it cannot be read, or it is too large for a picture.
        StoreError: its object store does not answer.
    """
    if not is_remote(item.path):
        return read_file(item.path)
    if item.size > LARGEST_FILE:
        raise SourceError(f"{item.name}: the file is larger than {LARGEST_FILE >> 30} GB, too large for a picture")

    def read() -> bytes:
        system, place = remote_file(item.path)
        with system.open_input_stream(place) as stream:
            return stream.read()

    return _found(read, item)


def _found(action: Callable[[], T], item: Item) -> T:
    try:
        return tried(action, item.name)
    except FileNotFoundError as error:
        raise SourceError(f"{item.name}: no such file") from error


def read_ahead(items: Iterable[Item]) -> Iterator[tuple[Item, "bytes | SourceError"]]:
    """Reads items in their order, several at the same time.

    Yields:
        Each item with its bytes, or with why they cannot be read.

    Raises:
        StoreError: an object store does not answer.
    """

    def read(item: Item) -> "bytes | SourceError":
        try:
            return bytes_of(item)
        except SourceError as error:
            return error

    with ThreadPoolExecutor(_AHEAD) as executor:
        waiting: deque[tuple[Item, Future[bytes | SourceError]]] = deque()
        for item in items:
            waiting.append((item, executor.submit(read, item)))
            if len(waiting) >= _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((each, future.result()) for each, future in waiting)


@contextmanager
def as_file(item: Item) -> Iterator[Path]:
    """The file of an item on this machine: its own, or a copy that is removed again.

    Raises:
        SourceError: there is no such file.
        StoreError: its object store does not answer, or there is no room for a copy.
    """
    if not is_remote(item.path):
        yield Path(item.path)
        return
    with tempfile.TemporaryDirectory(prefix="ageinfer-") as folder:
        copy = Path(folder, f"film{Path(item.path.partition('?')[0]).suffix}")

        def fetch() -> None:
            system, place = remote_file(item.path)
            with system.open_input_stream(place) as stream, copy.open("wb") as target:
                while chunk := stream.read(1 << 22):
                    target.write(chunk)

        _found(fetch, item)
        yield copy


def members_of(item: Item, wanted: Callable[[str], bool]) -> Iterator[tuple[str, "bytes | SourceError"]]:
    """Reads the members of a tar file one after the other, as WebDataset lays pictures in them.

    Args:
        item: the tar file.
        wanted: says by its name whether a member is read.

    Yields:
        The name of each member with its bytes, or with why they cannot be read.

    Raises:
        SourceError: the file is missing, or broken from some place on.
        StoreError: its object store does not answer.
    """
    with as_file(item) as path:
        try:
            with tarfile.open(path, "r:") as opened:
                for member in opened:
                    if not (member.isfile() and wanted(member.name)):
                        continue
                    if member.size > LARGEST_FILE:
                        yield member.name, SourceError(f"{item.name}: too large for a picture")
                        continue
                    stream = opened.extractfile(member)
                    data = b"" if stream is None else stream.read()
                    if len(data) < member.size:
                        raise tarfile.ReadError("unexpected end of data")
                    yield member.name, data
        except FileNotFoundError as error:
            raise SourceError(f"{item.name}: no such file") from error
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise SourceError(f"{item.name}: a broken tar file: {error}") from error
