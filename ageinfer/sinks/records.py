"""Writes records as JSON Lines or CSV, one whole line at a time (see ``docs/reference/records.md``)."""

import io
import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

try:
    import fcntl
except ModuleNotFoundError:  # Windows, whose locks would keep readers out, too
    fcntl = None  # type: ignore[assignment]

from ageinfer.errors import OutputError
from ageinfer.sinks.base import Sink, Untouchable, cannot_write
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import FrameResult

_UNREAD_S = 2.0  # a run that is to end waits so long for a reader that takes nothing
_TICK_S = 0.5
_POINTS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
_FORMULA_BEGINNINGS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are full-width forms
_QUOTED_IN_CSV = ',;"\t\r\n'  # the separator is a semicolon or a tab in some settings
CSV_COLUMNS = (
    "source", "frame", "time_s", "size_w", "size_h", "box_x", "box_y", "box_w", "box_h", "score",
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    "track", "age", "age_std", "age_smoothed", "age_lag_s", "model", "quality", "over_years", "p_at_least", "over",
    "over_why",
)  # fmt: skip


def record_schema(of: Literal["frames", "people", "audience", "view", "evidence"] = "frames") -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of one line of JSON Lines, with descriptions and units.

    Args:
        of: a record of which kind; ``evidence`` is the whole file of ``ageinfer prove``.

    Example:
        >>> record_schema()["required"]
        ['schema', 'source', 'frame', 'time_s', 'size', 'faces']
    """
    return json.loads(resources.files("ageinfer").joinpath("schemas", f"{of}.json").read_text(encoding="utf-8"))


class _Stream(Protocol):
    """An unbuffered stream of bytes, such as `io.FileIO`."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class _TextStream:
    """Writes to a text stream without a file descriptor, such as an `io.StringIO` as standard output."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", newline="")

    def write(self, data: memoryview) -> int:
        self._stream.write(bytes(data).decode())
        self._stream.flush()
        return len(data)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("no file descriptor")

    def close(self) -> None:
        """Does nothing: the stream belongs to the caller."""


def _standard_output() -> _Stream:
    if sys.stdout is None:
        raise OutputError("standard output is closed; write to a file instead of -")
    try:
        sys.stdout.flush()
        # Unbuffered: Python would try to write the rest of a buffer again at its end.
        return io.FileIO(sys.stdout.fileno(), "w", closefd=False)
    except (OSError, ValueError, AttributeError):
        return _TextStream(sys.stdout)


def _is_standard_output(path: str) -> bool:
    """Tells whether a path leads to the file that standard output is, as ``/dev/stdout`` does."""
    try:
        return sys.stdout is not None and os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _most_at_once(stream: _Stream) -> int | None:
    """How many bytes a pipe or a terminal takes without blocking once it is ready; None: that does not matter."""
    try:
        regular = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # no file descriptor
        return None
    return None if regular or not hasattr(select, "poll") else select.PIPE_BUF


def _locks(number: int) -> bool:
    """Locks a regular file for this run until it is closed; tells whether no other run has locked it."""
    if fcntl is not None and stat.S_ISREG(os.fstat(number).st_mode):
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return True


class TextSink(Sink):
    """Writes whole lines of text to a file, or to standard output for ``-``, each one at once."""

    reads_images = False

    def __init__(
        self, path: str, *, untouchable: Iterable[str | Path] = (), should_end: Callable[[], bool] | None = None
    ) -> None:
        self._path = path
        self._begun = False
        self._should_end = should_end
        self._to_standard_output = path == "-" or _is_standard_output(path)
        if self._to_standard_output:
            self._stream = _standard_output()
            self._most_at_once = _most_at_once(self._stream)
            return
        Untouchable(untouchable).refuse(path)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            # The file is emptied at the first write: a run that fails before it keeps the records of an earlier run.
            # Each line goes to the end, wherever that is by then: others may have emptied the file (logrotate).
            self._stream = io.FileIO(path, "a")
        except OSError as error:
            raise cannot_write(path, error) from error
        self._most_at_once = _most_at_once(self._stream)
        if not _locks(self._stream.fileno()):
            self._stream.close()
            raise OutputError(f"{path}: another run is writing to this file; choose another place")

    def _empty(self) -> None:
        """Empties the file before the first write, but not standard output, which may be a file to append to."""
        if not self._begun and not self._to_standard_output:
            number = self._stream.fileno()
            if stat.S_ISREG(os.fstat(number).st_mode):
                os.ftruncate(number, 0)
        self._begun = True

    def _write(self, text: str) -> None:
        # A file name need not be UTF-8; its other bytes are written as escapes.
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        written = 0
        try:
            self._empty()
            self._refuse_removed()
            while rest:
                if self._most_at_once is not None:
                    self._wait_for_reader()
                count = self._stream.write(rest[: self._most_at_once]) or 0  # None: a non-blocking pipe that is full
                written += count
                rest = rest[count:]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(written)
            raise OutputError(
                f"{self._path}: cannot be written: {error.strerror}; make room or choose another place "
                "(the records so far are kept)"
            ) from error

    def _wait_for_reader(self) -> None:
        """Waits until a pipe or a terminal takes more.

        Raises:
            OutputError: the run is to end, and the reader takes nothing.
        """
        stream = select.poll()
        stream.register(self._stream.fileno(), select.POLLOUT)
        unread_s: float | None = None  # since when the run waits to end
        while not stream.poll(_TICK_S * 1000):
            now_s = time.monotonic()
            if self._should_end is not None and self._should_end():
                unread_s = now_s if unread_s is None else unread_s
                if now_s - unread_s >= _UNREAD_S:
                    name = "standard output" if self._to_standard_output else self._path
                    raise OutputError(
                        f"{name}: nobody reads it; the record at hand is left out, all before it are there"
                    )

    def _refuse_removed(self) -> None:
        """Makes sure that the file can still be found.

        Raises:
            OutputError: somebody has removed it.
        """
        if not self._to_standard_output and os.fstat(self._stream.fileno()).st_nlink == 0:
            raise OutputError(
                f"{self._path}: somebody has removed it during the run; start again, or choose another place"
            )

    def _take_back(self, count: int) -> None:
        """Removes the written part of a broken line if it is the end of a regular file."""
        if count == 0:
            return
        with suppress(OSError):
            number = self._stream.fileno()
            # The position is that of the last write: an appended file gives 0 before its first write.
            end = os.lseek(number, 0, os.SEEK_CUR)
            about = os.fstat(number)
            if stat.S_ISREG(about.st_mode) and about.st_size == end:  # else another program has written after it
                os.ftruncate(number, end - count)

    def close(self) -> None:
        with suppress(OSError):  # the write has reported its own error already
            self._stream.close()


class JsonlSink(TextSink):
    """Writes one JSON object on one line for each frame, as `record_schema` describes it.

    Args:
        path: the path of the file, or ``-`` for standard output.
        untouchable: files that the run reads and that must not be overwritten.
        should_end: tells whether the run is to end; a reader that takes nothing then holds it up for 2 s.

    Raises:
        OutputError: the file cannot be opened for writing, or must not be overwritten.

    Example:
        >>> with JsonlSink("records.jsonl") as sink:  # doctest: +SKIP
        ...     sink.write(annotated)
    """

    def write(self, annotated: AnnotatedFrame) -> None:
        try:
            line = json.dumps(annotated.result.to_record(), ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise OutputError(
                f"{self._path}: frame {annotated.result.index} has a value that JSON cannot hold ({error}); check the "
                "model with python -m ageexport.inspect"
            ) from error
        self._write(line + "\n")


class CsvSink(TextSink):
    """Writes one row for each face, after a row with the names in `CSV_COLUMNS`.

    A frame without a face has no row.

    Args:
        path: the path of the file, or ``-`` for standard output.
        untouchable: files that the run reads and that must not be overwritten.

    Raises:
        OutputError: the file cannot be opened for writing, or must not be overwritten.
    """

    def write(self, annotated: AnnotatedFrame) -> None:
        if not self._begun:
            self._write(",".join(CSV_COLUMNS) + "\r\n")
        if annotated.result.faces:
            self._write("".join(",".join(map(cell, row)) + "\r\n" for row in csv_rows(annotated.result)))


def cell(value: Any) -> str:
    """Returns a value as a cell of a CSV file; in quotes where any spreadsheet would see more than one cell in it."""
    text = "" if value is None else str(value)
    if any(character in text for character in _QUOTED_IN_CSV):
        text = '"' + text.replace('"', '""') + '"'
    return text


def harmless(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose source and model no spreadsheet takes for a formula, as it does with what begins like one.

    Such a source gets ``./`` before it, which names the same file, and such a model an apostrophe.
    """
    source, model = record["source"], record["model"]
    if source.startswith(_FORMULA_BEGINNINGS):
        source = f"./{source}"
    if model is not None and model.startswith(_FORMULA_BEGINNINGS):
        model = f"'{model}"
    return record | {"source": source, "model": model}


def over_cells(record: dict[str, Any]) -> dict[str, Any]:
    """Whether somebody has reached an age: the cells of the record of a face or person; None where nobody asked."""
    over = record.get("over") or {}
    names = {"over_years": "years", "p_at_least": "p_at_least", "over": "answer", "over_why": "why"}
    return {column: over.get(name) for column, name in names.items()}


def csv_rows(result: FrameResult) -> list[list[Any]]:
    """Returns one row of `CSV_COLUMNS` for each face of a frame; None becomes an empty cell."""
    record = harmless(result.to_record())
    source, model = record["source"], record["model"]
    start = [source, record["frame"], record["time_s"], *record["size"]]
    rows = []
    for face in record["faces"]:
        points = [None] * 10 if face["landmarks"] is None else [v for point in face["landmarks"] for v in point]
        end = [
            face["track"],
            face["age"],
            face["age_std"],
            face["age_smoothed"],
            face["age_lag_s"],
            model,
            face["quality"],
            *over_cells(face).values(),
        ]
        rows.append([*start, *face["box"], face["score"], *points, *end])
    return rows
