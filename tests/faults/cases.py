"""The matrix: every fault that is done to a run, when, to which sinks, and what must be left of it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import films
import numpy as np
from harness import SINKS, Outcome, Run, outcome_of, started
from loopback import serving
from mjpeg import network_camera
from portraits import write_portraits

FILM = ("JSONL", "CSV", "mp4", "snapshots")
PICTURES = ("JSONL", "CSV", "pictures", "snapshots")
PAGE = ("JSONL", "page")
STDOUT = ("stdout", "mkv")
STOPPED, UNWRITTEN, GONE = 130, 5, 3


@dataclass(frozen=True, slots=True)
class Case:
    """One fault.

    Attributes:
        fault: what is done.
        stage: when.
        sinks: names of `harness.SINKS`.
        act: does it.
        status: with which the run must end.
        source: "camera", "clip" (a long film), "short", "fetched" (a film that cannot be read as it comes), "pictures"
            or "list" (of pictures, on standard input).
        lost: how many answered frames may be missing in a sink.
        complete: whether every sink must have left something.
        killed: whether nothing could tidy up; what is left must still be readable, under whatever name.
        disk_mb: size of the disk, where it must be a small one.
        core: whether it is part of ``make test``.
        how: further arguments of `harness.started`.
    """

    fault: str
    stage: str
    sinks: tuple[str, ...]
    act: Callable[[Run], object]
    status: int = STOPPED
    source: str = "camera"
    lost: int = 0
    complete: bool = True
    killed: bool = False
    disk_mb: int = 0
    core: bool = False
    how: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.fault}-{self.stage}-{'+'.join(self.sinks)}".replace(" ", "_")


class Material:
    """What runs read, made once.

    Args:
        folder: for it.
        portrait: uint8 BGR.
    """

    def __init__(self, folder: Path, portrait: np.ndarray) -> None:
        self.portrait = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
        moving = lambda count: (np.roll(self.portrait, i % 60, axis=1) for i in range(count))  # noqa: E731
        often = {"preset": "ultrafast", "g": "50"}
        self.clip = films.write_film(folder / "clip.mp4", moving(1500), options=often)
        self.short = films.write_film(folder / "short.mp4", moving(30), options=often)
        self.pictures = folder / "pictures"
        write_portraits(self.pictures, portrait, range(20))
        for i in range(20, 600):
            os.link(self.pictures / f"{i % 20:06}.jpg", self.pictures / f"{i:06}.jpg")

    @contextmanager
    def source(self, kind: str) -> Iterator[tuple[str | Path, object]]:
        """Gives the source of a case, and its `Run.feeder`."""
        if kind == "camera":
            with network_camera(lambda number: self.portrait) as camera:
                yield camera.address, camera
        elif kind == "fetched":
            with serving({"clip.mp4": self.clip.read_bytes()}) as web:
                web.takes_ranges = False
                yield f"{web.address}/clip.mp4", None
        else:
            yield ("-", self.pictures) if kind == "list" else (getattr(self, kind), None)


def outcome(case: Case, material: Material, folder: Path) -> Outcome:
    """Does a fault and tells what is left of the run."""
    disk = small_disk(folder, case.disk_mb) if case.disk_mb else nullcontext()
    with disk, material.source(case.source) as (source, feeder):
        with started(source, case.sinks, folder, **case.how) as run:
            run.feeder = feeder
            case.act(run)
            status = run.end()
        return outcome_of(run, status)


def complaints(case: Case, found: Outcome) -> list[str]:
    """Says what is not as it must be."""
    wrong = []
    if found.status != case.status:
        wrong.append(f"the status is {found.status}")
    if found.has_traceback:
        wrong.append("there is a traceback")
    if found.broken:
        wrong.append(f"not whole: {', '.join(found.broken)}")
    if found.lost > case.lost:
        wrong.append(f"lost: {found.lost}")
    if not case.killed:
        wrong += [f"{name} is left" for name in found.left if "ageinfer-" in name]
    if case.complete:
        places = [SINKS[sink][1] for sink in case.sinks if sink not in ("page", "stdout") and not case.killed]
        wrong += [f"no {place}" for place in places if not any(name.startswith(place) for name in found.left)]
        if found.frames == 0:
            wrong.append("nothing was answered")
    return wrong


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A disk of so many megabytes at this folder.

    Raises:
        PermissionError: this system does not let us mount one.
    """
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", folder]
    with suppress(OSError):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            try:
                yield
            finally:
                subprocess.run(["umount", folder], check=True)
            return
    raise PermissionError("mounting a small disk is not permitted")


# What is done to a run. Each is a function that makes an action.


def signals(*names: str, after: int = 5) -> Callable[[Run], None]:
    return lambda run: (run.answered(after), run.signal(*names))


def signals_there(*names: str) -> Callable[[Run], None]:
    """Signals at the place where the run waits."""
    return lambda run: (run.at_place(), run.signal(*names), time.sleep(0.02), run.go_on())


def stop_then(*names: str) -> Callable[[Run], None]:
    """A stop, and signals while it is obeyed."""
    return lambda run: (run.answered(), run.signal("TERM"), signals_there(*names)(run))


def camera_becomes(mode: str, *, then: Callable[[Run], object]) -> Callable[[Run], None]:
    return lambda run: (run.answered(), setattr(run.feeder, "mode", mode), then(run))


def term(run: Run) -> None:
    run.signal("TERM")


def goes_on(run: Run) -> None:
    """Five more frames are answered, then the run is stopped."""
    run.answered(run.so_far() + 5)
    run.signal("TERM")


def camera_restarts(run: Run) -> None:
    run.answered()
    run.feeder.stop()
    run.hears("trying to reconnect")
    run.feeder.start()
    goes_on(run)


def camera_turns(run: Run) -> None:
    """Other pictures come, in another size."""
    run.answered()
    picture = run.feeder.picture
    run.feeder.picture = lambda number: cv2.resize(picture(number), (320, 180))
    goes_on(run)


def reads_slowly(run: Run) -> None:
    for _ in range(20):
        run.taken.extend(run.process.stdout.read1(300))
        time.sleep(0.05)
    run.signal("TERM")
    while data := run.process.stdout.read1(300):
        run.taken.extend(data)
        time.sleep(0.01)


def closes(stream: str, *, after_bytes: int) -> Callable[[Run], None]:
    def act(run: Run) -> None:
        pipe = getattr(run.process, stream)
        pipe.read(after_bytes)
        pipe.close()

    return act


def viewer_never_reads(run: Run) -> None:
    place = urlsplit(run.hears("the page: "))
    with socket.socket() as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        viewer.connect((place.hostname, place.port))
        viewer.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        run.answered(20)
        run.signal("TERM")
        run.end()


def removes(pattern: str, *, then: Callable[[Run], object] = lambda run: None) -> Callable[[Run], None]:
    def act(run: Run) -> None:
        run.answered()
        for path in run.folder.glob(pattern):
            path.unlink()
        then(run)

    return act


def folder_goes(run: Run) -> None:
    run.answered()
    shutil.rmtree(run.folder)
    run.end()
    run.folder.mkdir()


def disk_fills(run: Run) -> None:
    """Another program takes all that is left of a small disk."""
    run.answered()
    if {"mp4", "mkv", "avi"} & {*run.sinks}:
        run.recorded()
    with (run.folder / "other").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))


def sleeps(run: Run) -> None:
    """A laptop is closed for longer than a stream may be silent."""
    run.answered()
    run.signal("STOP")
    time.sleep(6)
    run.signal("CONT")
    goes_on(run)


def first_process(run: Run) -> None:
    """The run is the first process of a container, which the system protects from signals without a handler."""
    run.answered()
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)


def list_stays_open(run: Run) -> None:
    """Whoever writes the list of pictures stops in the middle."""
    for path in sorted(run.feeder.iterdir())[:6]:
        run.process.stdin.write(f"{path}\n".encode())
    run.process.stdin.flush()
    run.answered(6)
    run.signal("TERM")
