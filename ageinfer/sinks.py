"""Where results go: JSONL, CSV, annotated pictures and video, a window. Each is a context manager.

Records are written as they come, one whole line each, so that a crash loses none of them. Pictures and videos are
written under a temporary name and moved into place when they are complete.
"""

import csv
import errno
import io
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ageinfer._opencv import cv2
from ageinfer.draw import AnnotatedFrame
from ageinfer.errors import MissingDependencyError, OutputError, UsageError
from ageinfer.types import FrameResult, Image

# MPEG-4 and Motion JPEG are in every build of OpenCV; H.264 is not.
VIDEO_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
DEFAULT_FPS = 25.0

_POINTS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
CSV_COLUMNS = (
    "source", "frame", "time_s", "size_w", "size_h", "box_x", "box_y", "box_w", "box_h", "score",
    *(f"{point}_{axis}" for point in _POINTS for axis in "xy"),
    "track", "age", "age_std", "age_smoothed",
)  # fmt: skip


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


class _TextSink(Sink):
    """Lines of text into a file, or into standard output for ``-``; each line is flushed at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        if path == "-":
            if sys.stdout is None:
                raise OutputError("standard output is closed; write to a file instead of -")
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
            self._stream: IO[str] = sys.stdout
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._stream = Path(path).open(  # noqa: SIM115
                "w",
                encoding="utf-8",
                errors="backslashreplace",  # a file name need not be UTF-8; in JSON this is its escape
                newline="",
                buffering=1,
            )
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}; records so far are kept") from error

    def close(self) -> None:
        if self._path != "-":
            with suppress(OSError):  # what could not be written was already reported by the write itself
                self._stream.close()


class JsonlSink(_TextSink):
    """One JSON object a frame and line (see ``docs/records.md``).

    Args:
        path: of the file, or ``-`` for standard output.

    Raises:
        OutputError: it cannot be opened for writing.
    """

    def write(self, annotated: AnnotatedFrame) -> None:
        self._write(json.dumps(annotated.result.to_record(), ensure_ascii=False) + "\n")


class CsvSink(_TextSink):
    """One row a face, under a row of names; a frame without a face has no row.

    Args:
        path: of the file, or ``-`` for standard output.

    Raises:
        OutputError: it cannot be opened for writing.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._write(",".join(CSV_COLUMNS) + "\r\n")

    def write(self, annotated: AnnotatedFrame) -> None:
        for row in csv_rows(annotated.result):
            csv.writer(_Rows(self._write)).writerow(row)


class _Rows:
    """What `csv.writer` writes to."""

    def __init__(self, write: Any) -> None:
        self.write = write


def csv_rows(result: FrameResult) -> list[list[Any]]:
    """The faces of a frame as rows of `CSV_COLUMNS`; None becomes an empty cell."""
    record = result.to_record()
    start = [record["source"], record["frame"], record["time_s"], *record["size"]]
    rows = []
    for face in record["faces"]:
        points = [None] * 10 if face["landmarks"] is None else [v for point in face["landmarks"] for v in point]
        end = [face["track"], face["age"], face["age_std"], face["age_smoothed"]]
        rows.append([*start, *face["box"], face["score"], *points, *end])
    return rows


class PictureSink(Sink):
    """The annotated picture of a single picture.

    Args:
        path: of the picture; its suffix chooses the format.

    Raises:
        UsageError: OpenCV cannot write that format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.suffix or not cv2.haveImageWriter(path.name):
            raise UsageError(f"{path}: not a name for a picture; for a picture, --output takes .jpg or .png")
        _prepare_place(path)

    def write(self, annotated: AnnotatedFrame) -> None:
        write_picture(self._path, annotated.image)


class FolderSink(Sink):
    """Annotated pictures of a folder's pictures, under their own names.

    Args:
        folder: made if it is not there.

    Raises:
        OutputError: it cannot be made, or is a file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be made a folder: {error.strerror}; for a folder, --output takes a folder"
            ) from error

    def write(self, annotated: AnnotatedFrame) -> None:
        write_picture(self._folder / Path(annotated.frame.source).name, annotated.image)


def write_picture(path: Path, image: Image) -> None:
    """Writes a uint8 BGR picture in one piece, in the format of the path's suffix.

    Raises:
        OutputError: it cannot be written.
    """
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    if path.suffix.lower() == ".pgm":  # has no colours
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    try:
        encoded, data = cv2.imencode(path.suffix, image)
        if not encoded:
            raise OutputError(f"{path}: OpenCV cannot encode {path.suffix}; use .jpg or .png")
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data.tobytes())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


class VideoSink(Sink):
    """The annotated video. The first frame's size is the video's.

    Args:
        path: of the video; its suffix chooses container and codec (`VIDEO_CODECS`).
        fps: frames a second.

    Raises:
        UsageError: there is no codec for the suffix.
        OutputError: the folder is not there or cannot be written to.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        self._path = path
        self._fps = fps or DEFAULT_FPS
        self._unfinished = path.with_name(f".{os.getpid()}.{path.name}")
        self._writer: Any = None
        self._size = (0, 0)
        self._frames = 0
        if path.suffix.lower() not in VIDEO_CODECS:
            raise UsageError(f"{path}: for a video, --output takes {', '.join(VIDEO_CODECS)}")
        _prepare_place(path)

    def write(self, annotated: AnnotatedFrame) -> None:
        image = annotated.image
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._unfinished), codec, self._fps, self._size)
            if not self._writer.isOpened():
                raise OutputError(f"{self._path}: this OpenCV cannot write {self._path.suffix}; try .avi")
        if (image.shape[1], image.shape[0]) != self._size:  # a video has one size, its source may not
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(image)
        self._frames += 1

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        try:
            if not self._is_complete():
                raise OutputError(f"{self._path}: the video could not be completed; is the disk full?")
            self._unfinished.replace(self._path)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written: {error.strerror}; choose another place") from error
        finally:
            with suppress(OSError):
                self._unfinished.unlink(missing_ok=True)

    def _is_complete(self) -> bool:
        """Whether the last frame can be read back: the writer does not say when a disk is full."""
        written = cv2.VideoCapture(str(self._unfinished))
        try:
            # Some containers announce one frame less than they hold.
            if not written.isOpened() or written.get(cv2.CAP_PROP_FRAME_COUNT) < self._frames - 1:
                return False
            written.set(cv2.CAP_PROP_POS_FRAMES, max(0, self._frames - 2))
            return bool(written.read()[0])
        finally:
            written.release()


def _prepare_place(path: Path) -> None:
    """Makes the folder of a file that will be moved into place, and makes sure that it can be.

    Raises:
        OutputError: it cannot.
    """
    trial = path.with_name(f".{os.getpid()}.trial.{path.name}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another place") from error


class WindowSink(Sink):
    """A window on the desktop; ``q`` or Escape, or closing it, ends the run.

    Raises:
        MissingDependencyError: there is no display.
    """

    _TITLE = "ageinfer (q ends)"

    def __init__(self) -> None:
        if not display_works():
            raise MissingDependencyError(
                "no display for a window; leave --window out and use --output, --jsonl or --csv"
            )

    def write(self, annotated: AnnotatedFrame) -> None:
        cv2.imshow(self._TITLE, annotated.image)
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(self._TITLE, cv2.WND_PROP_VISIBLE) < 1
        self.stop_requested = key in (ord("q"), 27) or closed

    def close(self) -> None:
        with suppress(cv2.error):  # it was never shown
            cv2.destroyWindow(self._TITLE)


def display_works() -> bool:
    """Whether a window can be opened here.

    Without a reachable display OpenCV ends the whole process, so another process tries it first.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    trial = "import cv2; cv2.namedWindow('trial'); cv2.destroyAllWindows()"
    try:
        return subprocess.run([sys.executable, "-c", trial], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
