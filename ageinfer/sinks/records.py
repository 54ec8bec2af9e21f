"""Records as text: JSONL and CSV, one whole line at a time (see ``docs/records.md``)."""

import csv
import io
import json
import os
import select
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from ageinfer.errors import OutputError
from ageinfer.sinks.base import Sink, Untouchable, cannot_write
from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import FrameResult

_POINTS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
CSV_COLUMNS = (
    "source", "frame", "time_s", "size_w", "size_h", "box_x", "box_y", "box_w", "box_h", "score",
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    "track", "age", "age_std", "age_smoothed", "age_lag_s",
)  # fmt: skip


def record_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line of JSONL, with descriptions and units."""
    return json.loads(resources.files("ageinfer").joinpath("record.schema.json").read_text(encoding="utf-8"))


class _Stream(Protocol):
    """An unbuffered stream of bytes, as `io.FileIO` is one."""

    def write(self, data: memoryview, /) -> int | None: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class _TextStream:
    """A text stream that has no file descriptor, as an `io.StringIO` in the place of standard output."""

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
        """Leaves it open: it is not ours."""


def _standard_output() -> _Stream:
    if sys.stdout is None:
        raise OutputError("standard output is closed; write to a file instead of -")
    try:
        sys.stdout.flush()
        # Unbuffered: what could not be written must not be tried again when Python ends.
        return io.FileIO(sys.stdout.fileno(), "w", closefd=False)
    except (OSError, ValueError, AttributeError):
        return _TextStream(sys.stdout)


class _TextSink(Sink):
    """Lines of text into a file, or into standard output for ``-``; each goes to the system at once, and whole."""

    def __init__(self, path: str, *, untouchable: Iterable[str | Path] = ()) -> None:
        self._path = path
        self._begun = False
        if path == "-":
            self._stream = _standard_output()
            return
        Untouchable(untouchable).refuse(path)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Not emptied before there is something to write: a run that fails leaves the records of the one before.
            self._stream = io.FileIO(path, "w", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666))
        except OSError as error:
            raise cannot_write(path, error) from error

    def _empty(self) -> None:
        """Removes what a file held before; standard output may be a file that is appended to, and keeps it."""
        if not self._begun and self._path != "-":
            number = self._stream.fileno()
            if stat.S_ISREG(os.fstat(number).st_mode):
                os.ftruncate(number, 0)
        self._begun = True

    def _write(self, text: str) -> None:
        # A file name need not be UTF-8; in JSON, what takes the place of such a byte is its escape.
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        written = 0
        try:
            self._empty()
            while rest:
                count = self._stream.write(rest)
                if count is None:  # whoever gave us the pipe made it non-blocking
                    select.select([], [self._stream.fileno()], [])
                    continue
                written += count
                rest = rest[count:]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(written)
            raise OutputError(
                f"{self._path}: cannot be written: {error.strerror}; make room or choose another place, "
                "the records so far are kept"
            ) from error

    def _take_back(self, count: int) -> None:
        """Removes the part of a line that still fitted, where it is the end of a regular file."""
        if count == 0:
            return
        with suppress(OSError):
            number = self._stream.fileno()
            # Counted from where the part ended: before its first write, a file that is appended to says 0.
            end = os.lseek(number, 0, os.SEEK_CUR)
            about = os.fstat(number)
            if stat.S_ISREG(about.st_mode) and about.st_size == end:  # else another program has written behind it
                os.ftruncate(number, end - count)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written was already reported by the write itself
            self._stream.close()


class JsonlSink(_TextSink):
    """One JSON object a frame and line, as `record_schema` describes it.

    Args:
        path: of the file, or ``-`` for standard output.
        untouchable: files that must not be overwritten, see `ageinfer.sinks.FolderSink`.

    Raises:
        OutputError: it cannot be opened for writing, or must not be overwritten.
    """

    def write(self, annotated: AnnotatedFrame) -> None:
        try:
            line = json.dumps(annotated.result.to_record(), ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise OutputError(
                f"{self._path}: frame {annotated.result.index} has a value that is no number ({error}), which JSON "
                "cannot hold; check the model with python -m ageexport.inspect"
            ) from error
        self._write(line + "\n")


class CsvSink(_TextSink):
    """One row a face, under a row of names; a frame without a face has no row.

    Args:
        path: of the file, or ``-`` for standard output.
        untouchable: files that must not be overwritten, see `ageinfer.sinks.FolderSink`.

    Raises:
        OutputError: it cannot be opened for writing, or must not be overwritten.
    """

    def write(self, annotated: AnnotatedFrame) -> None:
        if not self._begun:
            self._write(",".join(CSV_COLUMNS) + "\r\n")
        if annotated.result.faces:
            text = io.StringIO(newline="")
            csv.writer(text).writerows(csv_rows(annotated.result))
            self._write(text.getvalue())


def csv_rows(result: FrameResult) -> list[list[Any]]:
    """The faces of a frame as rows of `CSV_COLUMNS`; None becomes an empty cell."""
    record = result.to_record()
    start = [record["source"], record["frame"], record["time_s"], *record["size"]]
    rows = []
    for face in record["faces"]:
        points = [None] * 10 if face["landmarks"] is None else [v for point in face["landmarks"] for v in point]
        end = [face["track"], face["age"], face["age_std"], face["age_smoothed"], face["age_lag_s"]]
        rows.append([*start, *face["box"], face["score"], *points, *end])
    return rows
