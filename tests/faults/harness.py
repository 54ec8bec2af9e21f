"""Runs ``python -m ageinfer`` in a child process, does a fault to it, and tells what is left behind."""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

_ROOT = Path(__file__).parents[2]
_CHILD = Path(__file__).parent / "child"
_PATIENCE_S = 300.0  # other work on the machine must not fail a case
# What each sink is asked for by, and the name of what it leaves.
SINKS = {
    "JSONL": ("--jsonl", "r.jsonl"),
    "CSV": ("--csv", "r.csv"),
    "mp4": ("--output", "v.mp4"),
    "mkv": ("--output", "v.mkv"),
    "avi": ("--output", "v.avi"),
    "pictures": ("--output", "annotated"),
    "snapshots": ("--faces", "faces"),
    "page": ("--serve-at", "127.0.0.1:0"),
    "stdout": ("--jsonl", "-"),
}
_OF_EACH_FRAME = ("JSONL", "CSV", "mp4", "mkv", "avi", "pictures", "stdout")
_NO_TRACE = re.compile(r"Traceback|Exception ignored|Fatal Python error|terminate called|Segmentation")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run left behind.

    Attributes:
        status: of its exit; the negative number of a signal that ended it; None: it did not end by itself.
        left: files in the folder of its outputs; the random part of a temporary name is ``*``.
        broken: those of them that cannot be read as a whole.
        records: how many results each sink holds that holds one of every frame.
        frames: how many frames were answered: the most that any sink holds.
        lost: answered frames that are missing in one of these sinks, where they miss most.
        stderr: what was said.
    """

    status: int | None
    left: tuple[str, ...]
    broken: tuple[str, ...]
    records: dict[str, int]
    frames: int
    lost: int
    stderr: str

    @property
    def has_traceback(self) -> bool:
        return _NO_TRACE.search(self.stderr) is not None


@dataclass
class Run:
    """A run of the command, to which faults are done.

    Attributes:
        folder: of its outputs, of its temporary files, and where it works.
        sinks: names of `SINKS`.
        process: the child.
        feeder: the camera that it sees, or the folder of the pictures whose names it reads.
        said: its lines on standard error so far.
        taken: what was read of its standard output so far.
    """

    folder: Path
    sinks: tuple[str, ...]
    process: subprocess.Popen
    feeder: Any = None
    said: list[str] = field(default_factory=list)
    taken: bytearray = field(default_factory=bytearray)
    _place: tuple[int, int] = (-1, -1)
    _threads: list[threading.Thread] = field(default_factory=list)

    def at_place(self) -> None:
        """Waits until the run has come to the place that it was started with."""
        with _within(self, "the place was not reached"):
            assert os.read(self._place[0], 1) == b".", f"it ended before: {''.join(self.said)}"

    def go_on(self) -> None:
        """Lets it go on from there."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._place[1], b".")

    def answered(self, count: int = 5) -> None:
        """Waits until so many frames are in the records."""
        deadline = time.monotonic() + _PATIENCE_S
        while self.so_far() < count:
            assert self.process.poll() is None, f"it ended before: {''.join(self.said)}"
            assert time.monotonic() < deadline, f"too few records: {''.join(self.said)}"
            time.sleep(0.005)

    def so_far(self) -> int:
        if "stdout" in self.sinks:
            return self.taken.count(b"\n")
        path = self.folder / SINKS["JSONL" if "JSONL" in self.sinks else "CSV"][1]
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def recorded(self, parts: int = 2) -> None:
        """Waits until so many parts of its recording, each of a second in MP4 and MKV, are on the disk."""
        deadline = time.monotonic() + _PATIENCE_S
        begins = {".mp4": b"moof", ".mkv": b"\x1f\x43\xb6\x75", ".avi": b"00dc"}
        files = lambda: [path for path in self.folder.glob(".ageinfer-*") if path.suffix in begins]  # noqa: E731
        while sum(path.read_bytes().count(begins[path.suffix]) for path in files()) < parts:
            assert self.process.poll() is None, f"it ended before: {''.join(self.said)}"
            assert time.monotonic() < deadline, f"nothing is recorded: {''.join(self.said)}"
            time.sleep(0.02)

    def signal(self, *names: str, apart_s: float = 0.005) -> None:
        """Sends signals, one after the other."""
        for number, name in enumerate(names):
            time.sleep(apart_s if number else 0)
            self.process.send_signal(getattr(signal, f"SIG{name}"))

    def hears(self, text: str) -> str:
        """Waits until it says a line with this text; returns what follows in the line."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (line := next((line for line in list(self.said) if text in line), "")):
            assert time.monotonic() < deadline, f"it does not say {text!r}: {''.join(self.said)}"
            time.sleep(0.01)
        return line.partition(text)[2].strip()

    def fills_pipe(self) -> None:
        """Waits until its standard output, which nobody reads, takes no more."""
        waiting, before = array("i", [0]), 0
        deadline = time.monotonic() + _PATIENCE_S
        while waiting[0] < 50_000 or waiting[0] != before:
            assert time.monotonic() < deadline, "its pipe is not full"
            before = waiting[0]
            time.sleep(1)
            fcntl.ioctl(self.process.stdout, termios.FIONREAD, waiting)

    def end(self, patience_s: float = _PATIENCE_S) -> int | None:
        """Waits for the end; returns the status, or None where it had to be killed."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


@contextlib.contextmanager
def _within(run: Run, what: str) -> Iterator[None]:
    """Kills a run that takes too long, so that whoever waits for its pipe wakes up."""
    timer = threading.Timer(_PATIENCE_S, run.process.kill)
    timer.start()
    try:
        yield
    finally:
        assert timer.is_alive(), what
        timer.cancel()


@contextlib.contextmanager
def started(
    source: str | Path, sinks: tuple[str, ...], folder: Path, *, at: str = "", options: tuple[str, ...] = (),
    stdout: str = "read", stderr: str = "read", before: str = "",
) -> Iterator[Run]:  # fmt: skip
    """Starts a run; whatever happens, it does not outlive the block.

    Args:
        source: what it reads.
        sinks: names of `SINKS`.
        folder: for outputs and temporary files.
        at: a pattern of the place where it stops, see ``child/sitecustomize.py``.
        options: further ones.
        stdout: "read"; "unread": a pipe that nobody reads before the end.
        stderr: likewise; "full": a pipe that nobody reads and that has no room.
        before: what a shell does with the command, such as ``ulimit -f 100; exec``.
    """
    arguments = [word for sink in sinks for word in SINKS[sink]]
    command = [sys.executable, "-m", "ageinfer", str(source), *arguments, *options]
    if before:
        command = ["sh", "-c", f'{before} "$@"', "sh", *command]
    (say, place), (hear, free) = os.pipe()[::-1], os.pipe()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(_CHILD), str(_ROOT)]), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1",
        "FAULT_AT": at, "FAULT_SAY": str(say), "FAULT_HEAR": str(hear),
    }  # fmt: skip
    errors = subprocess.PIPE
    if stderr == "full":
        unread, errors = _full_pipe()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=environment,
        pass_fds=(say, hear),
    ) as process:  # fmt: skip
        for end in (say, hear):
            os.close(end)
        if stderr == "full":
            os.close(errors)
        run = Run(folder, sinks, process, _place=(place, free))
        if stdout == "read":
            _listen(run, lambda: process.stdout.read1(4096), run.taken.extend)
        if stderr == "read":
            _listen(run, process.stderr.readline, lambda line: run.said.append(line.decode(errors="replace")))
        try:
            yield run
        finally:
            process.kill()
            process.wait()
            for thread in run._threads:
                thread.join(_PATIENCE_S)
            if stdout == "unread" and not process.stdout.closed:
                run.taken.extend(process.stdout.read())
            for number in (place, free, *([unread] if stderr == "full" else ())):
                os.close(number)


def _listen(run: Run, read: Callable[[], bytes], take: Callable[[bytes], object]) -> None:
    def work() -> None:
        with contextlib.suppress(ValueError, OSError):  # it was closed as a part of the fault
            for data in iter(read, b""):
                take(data)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    run._threads.append(thread)


def _full_pipe() -> tuple[int, int]:
    """A pipe without room: its end to read from, and its end to write to."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.write(write, bytes(1 << 20))  # of which it takes what it holds
    os.set_blocking(write, True)
    return read, write


def outcome_of(run: Run, status: int | None) -> Outcome:
    """Looks at what a run has left in its folder; it has ended."""
    files = sorted(path for path in run.folder.rglob("*") if path.is_file())
    broken = [_name(path, run.folder) for path in files if not is_whole(path)]
    if not _whole_records(bytes(run.taken)):
        broken.append("stdout")
    records = {sink: _count(run, sink) for sink in run.sinks if sink in _OF_EACH_FRAME}
    frames = max(records.values(), default=0)
    return Outcome(
        status, tuple(_name(path, run.folder) for path in files), tuple(broken), records, frames,
        frames - min(records.values(), default=0), "".join(run.said),
    )  # fmt: skip


def _name(path: Path, folder: Path) -> str:
    return re.sub(r"ageinfer-\w+", "ageinfer-*", path.relative_to(folder).as_posix())


def _count(run: Run, sink: str) -> int:
    """How many frames a sink holds, also in a recording that was not completed."""
    path = run.folder / SINKS[sink][1]
    if not path.exists() and path.suffix:
        path = next(run.folder.glob(f".ageinfer-*{path.suffix}"), path)
    if sink == "stdout":
        return run.taken.count(b"\n")
    if not path.exists() or path.is_fifo():
        return 0
    if path.is_dir():
        return sum(1 for _ in path.glob("[!.]*"))
    if sink in ("JSONL", "CSV"):  # with one face in each frame; a table begins with the names of its columns
        return max(0, path.read_bytes().count(b"\n") - (sink == "CSV"))
    return count_frames(path)


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    return sum(1 for _ in iter(lambda: capture.read()[0], False))


def is_whole(path: Path) -> bool:
    """Whether a file can be read to its end."""
    data = path.read_bytes()
    match path.suffix:
        case ".jsonl":
            return _whole_records(data)
        case ".csv":
            rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
            return not data or (data.endswith(b"\r\n") and len(set(map(len, rows))) == 1)
        case ".jpg":
            return data.endswith(b"\xff\xd9") and cv2.imread(str(path)) is not None
        case ".mp4" | ".mkv" | ".avi":
            return count_frames(path) > 0
    return True


def _whole_records(data: bytes) -> bool:
    """Whether all lines are records, none of them missing before another."""
    try:
        records = [json.loads(line) for line in data.splitlines()]
    except ValueError:
        return False
    of_pictures = len({record["source"] for record in records}) == len(records)
    numbers = [record["frame"] for record in records]
    return data[-1:] in (b"", b"\n") and (of_pictures or numbers == list(range(len(numbers))))
