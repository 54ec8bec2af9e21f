"""Paths of pictures that come one by one, as on standard input."""

import codecs
import os
import queue
import threading
from collections.abc import Iterable, Iterator

from ageinfer.errors import SourceError

_LONGEST_PATH = 4096  # bytes; the limit of Linux
_LONGEST_ODD_NAME = 1 << 20  # bytes between null bytes; more is no list
_PATHS_AHEAD = 1000


class ComingPaths(Iterator[str]):
    """Reads paths in a thread, so that one can see which are there; the thread starts with the first question.

    Args:
        paths: waits for each path.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = paths
        self._ready: queue.Queue[str | None] = queue.Queue(_PATHS_AHEAD)  # None: it has ended
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def __next__(self) -> str:
        self._start()
        return self._taken(self._ready.get())

    def or_none(self) -> Iterator[str | None]:
        """Yields the paths, and None as long as the next one is not there yet.

        Raises:
            SourceError: as the iterator raises it.
        """
        while True:
            try:
                yield next(self) if self.is_ready else None
            except StopIteration:
                return

    @property
    def is_ready(self) -> bool:
        """Whether the next path is there, or their end."""
        self._start()
        return not self._ready.empty()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="paths that come", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        try:
            for path in self._paths:
                self._ready.put(path)
        except Exception as error:  # raised again where the paths are taken
            self._error = error
        self._ready.put(None)

    def _taken(self, path: str | None) -> str:
        if path is not None:
            return path
        self._ready.put(None)  # for whoever asks again
        if self._error is not None:
            raise self._error
        raise StopIteration


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
