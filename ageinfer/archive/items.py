"""What an archive is made of: pictures, films and tar files, listed in a fixed order."""

import fnmatch
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ageinfer.archive.store import file_system, is_remote, remote_file, shown, tried
from ageinfer.errors import SourceError
from ageinfer.sources.pattern import paths_matching
from ageinfer.sources.pictures import PICTURE_SUFFIXES

Kind = Literal["picture", "film", "tar"]
FILM_SUFFIXES = frozenset(
    {
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
        ".ogv", ".3gp", ".mxf", ".mjpeg", ".mjpg", ".gif",
    }
)  # fmt: skip
TAR_SUFFIX = ".tar"
_LINES, _AT_ONCE = 4096, 16  # of a list: lines that are held, files that are asked for at the same time


@dataclass(frozen=True, slots=True)
class Item:
    """One file that is read.

    Attributes:
        path: absolute path, or address.
        size: in bytes; -1 where there is no such file, which becomes a row with that reason.
        stamp: when it was changed last, in nanoseconds since 1970; 0 where that is not known.
        kind: by its name.
    """

    path: str
    size: int
    stamp: int
    kind: Kind

    @property
    def name(self) -> str:
        """What rows call it, see `ageinfer.archive.store.shown`."""
        return shown(self.path)


def kind_of(name: str) -> Kind | None:
    """What a file is, by its name; None for those that an archive does not hold."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - also of addresses
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    if suffix in FILM_SUFFIXES:
        return "film"
    return "tar" if suffix == TAR_SUFFIX else None


def items_of(sources: Sequence[str]) -> Iterator[Item]:
    """Lists the items of sources, those of a folder by name, each once.

    Args:
        sources: files, folders with all that is below them, patterns, ``@LIST`` (a text file with a path a line),
            ``-`` (such lines on standard input), each on this machine or in an object store.

    Raises:
        SourceError: a source is not there.
        StoreError: an object store does not answer.
    """
    several = len(sources) > 1 or any(source == "-" or source.startswith("@") for source in sources)
    seen: set[str] = set()
    for source in sources:
        for item in _of(source):
            if several:
                if item.path in seen:
                    continue
                seen.add(item.path)
            yield item


def _of(source: str) -> Iterator[Item]:
    if source == "-":
        yield from _listed(sys.stdin.buffer)
    elif source.startswith("@"):
        try:
            with Path(source[1:]).open("rb") as lines:
                yield from _listed(lines)
        except OSError as error:
            raise SourceError(f"{source}: {error.strerror}; name a text file with a path a line") from error
    elif is_remote(source):
        yield from _remote(source)
    else:
        yield from _local(source)


def _listed(lines: Iterable[bytes]) -> Iterator[Item]:
    """The items of a list; one that is not there is an item, too."""
    paths = (os.fsdecode(line.rstrip(b"\r\n")) for line in lines)
    named = (path for path in paths if path)
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        while some := list(islice(named, _LINES)):
            yield from executor.map(_named, some)


def _named(path: str) -> Item:
    if not is_remote(path):
        return _local_item(os.path.abspath(path))  # noqa: PTH100 - a link stays one
    system, place = remote_file(path)
    return _remote_item(tried(lambda: system.get_file_info(place), shown(path)), path)


def _local(source: str) -> Iterator[Item]:
    path = os.path.abspath(source)  # noqa: PTH100 - a link stays one
    if os.path.isdir(path):  # noqa: PTH112 - a null character is no folder
        yield from _folder(path, frozenset())
    elif os.path.isfile(path):  # noqa: PTH113
        yield _local_item(path)
    elif glob.has_magic(source):
        found = False
        for match in sorted(set(paths_matching(path))):
            if kind_of(match) is not None and os.path.isfile(match):  # noqa: PTH113
                found = True
                yield _local_item(match)
        if not found:
            raise SourceError(f"{source}: no picture, film or tar file matches this pattern; check it")
    else:
        raise SourceError(f"{source}: no such file or folder; check the path")


def _folder(path: str, above: frozenset[tuple[int, int]]) -> Iterator[Item]:
    """The items in a folder and below it; a link to a folder above itself is not followed."""
    try:
        status = os.stat(path)  # noqa: PTH116
        with os.scandir(path) as opened:
            entries = sorted(opened, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _folder(entry.path, above | {here})
        elif kind_of(entry.name) is not None:
            yield _local_item(entry.path)


def _local_item(path: str) -> Item:
    kind = kind_of(path) or "picture"
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return Item(path, -1, 0, kind)
    return Item(path, status.st_size, status.st_mtime_ns, kind)


def _remote(source: str) -> Iterator[Item]:
    """The items of an address: of one file, of a folder with all below it, or of what matches a pattern."""
    from pyarrow import fs

    address, mark, options = source.partition("?")  # so a question mark is no wildcard here
    wild = glob.has_magic(address)
    base = re.split(r"[*\[]", address, maxsplit=1)[0].rpartition("/")[0] if wild else address.rstrip("/")
    system, place = file_system(base + mark + options)
    info = tried(lambda: system.get_file_info(place), shown(source))
    if info.type == fs.FileType.File:
        yield _remote_item(info, source)
        return
    found = False
    for item in _remote_folder(system, place, base, mark + options):
        if not wild or _matches(item.name, address):
            found = True
            yield item
    if not found:
        raise SourceError(f"{shown(source)}: no picture, film or tar file there; check the address")


def _matches(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern, folder by folder; ``**`` stands for any of them."""
    if "**" in pattern:
        return fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _remote_folder(system: Any, place: str, prefix: str, options: str) -> Iterator[Item]:
    from pyarrow import fs

    listed = tried(lambda: system.get_file_info(fs.FileSelector(place, allow_not_found=True)), prefix)
    for entry in sorted(listed, key=lambda entry: entry.base_name):
        if entry.base_name.startswith("."):
            continue
        below = f"{prefix}/{quote(entry.base_name)}"
        if entry.type == fs.FileType.Directory:
            yield from _remote_folder(system, entry.path, below, options)
        elif kind_of(entry.base_name) is not None:
            yield _remote_item(entry, below + options)


def _remote_item(info: Any, path: str) -> Item:
    from pyarrow import fs

    kind = kind_of(path.partition("?")[0]) or "picture"
    if info.type != fs.FileType.File:
        return Item(path, -1, 0, kind)
    return Item(path, info.size if info.size is not None else 0, info.mtime_ns or 0, kind)
