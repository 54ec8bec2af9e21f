"""A long live run: does its memory grow, do threads or descriptors leak, do its outputs agree?

    python benchmarks/soak.py [FILM] [--minutes 5] [--keep FOLDER]

A camera of this script on 127.0.0.1 sends 30 pictures a second: those of FILM again and again, or portraits of
``samples/`` that move through the picture and leave it. ``ageinfer`` takes them in a process of its own, with all
outputs at once: records (JSONL and CSV), the best picture of each face, a recording, and the page, which three viewers
open and leave, sometimes rudely. Then it is ended by SIGTERM.

Memory is what is resident. Its growth is the median of the last 30 s beside the median of the 30 s after the first
minute. Threads and descriptors are compared while nobody views the page: before the first viewer and after the last.
Linux only. The exit status is 1 where a check fails.
"""

import argparse
import csv
import json
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import cv2
import numpy as np

from ageinfer.sources import open_source, read_picture

ROOT = Path(__file__).parent.parent
FPS, SAMPLE_S, WINDOW_S, FIRST_S = 30, 2.0, 30.0, 60.0
LEAST_FPS = 10  # with fewer, the first minute does not bring what a run has at once in memory
MOST_GROWTH_PERCENT = 2.0
LOOP_S = 40  # after so many seconds the portraits have been everywhere


class Sample(NamedTuple):
    """What the process takes at a time, in seconds since the first record."""

    at_s: float
    memory_mb: float
    threads: int
    descriptors: int
    viewers: int
    records: int


def portraits(size: tuple[int, int] = (640, 480)) -> Iterator[np.ndarray]:
    """Three portraits that cross the picture at their own speeds, and are away now and then."""
    width, height = size
    names = ("astronaut", "obama", "biden")
    faces = [cv2.resize(read_picture(ROOT / "samples" / f"{n}.jpg"), (260 - 40 * i,) * 2) for i, n in enumerate(names)]
    for number in range(FPS * LOOP_S):
        image = np.full((height, width, 3), 96, np.uint8)
        for place, face in enumerate(faces):
            side = len(face)
            turn = 2 * np.pi * number * (place + 2) / (FPS * LOOP_S)
            x = round((width - side) / 2 + 0.8 * width * np.sin(turn + 2 * place))
            y = round((height - side) * (0.1 + 0.4 * place))
            left, right = max(x, 0), min(x + side, width)
            if left < right:
                image[y : y + side, left:right] = face[:, left - x : right - x]
        yield image


@contextmanager
def camera(pictures: list[bytes], *, fps: float = FPS, port: int = 0) -> Iterator[str]:
    """Sends JPEG pictures as a network camera does; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due_s, number = time.monotonic(), 0
            with suppress(OSError):  # the other side has gone
                while True:
                    data = pictures[number % len(pictures)]
                    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                    self.wfile.write(head + data + b"\r\n")
                    number, due_s = number + 1, due_s + 1 / fps
                    time.sleep(max(0.0, due_s - time.monotonic()))

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live"
    finally:
        server.shutdown()


class Viewers:
    """Three viewers of a page who come and go until they are told to stay away."""

    def __init__(self, port: int) -> None:
        self.here = self.visits = 0
        self.received = 0  # bytes
        self._port, self._lock, self._over = port, threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._come_and_go, args=(n,), daemon=True) for n in range(3)]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _come_and_go(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311, repeatable, and no secret
        while not self._over.wait(chance.uniform(1, 4)):
            with self._lock:
                self.here, self.visits = self.here + 1, self.visits + 1
            with suppress(OSError):
                self._visit(f"v{number}", chance.uniform(2, 10), chance.choice(("politely", "rudely", "asleep")))
            with self._lock:
                self.here -= 1

    def _visit(self, view: str, seconds: float, way: str) -> None:
        """Asks for page, pictures and state, reads them for some seconds, and leaves in one of three ways."""
        self._asked("/").close()
        streams = [self._asked(f"/stream.mjpg?view={view}"), self._asked(f"/events?view={view}")]
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not self._over.is_set():
            for stream in streams:
                with suppress(TimeoutError):
                    self.received += len(stream.recv(1 << 16))
        if way == "asleep":  # reads nothing any more, but stays
            self._over.wait(3)
        for stream in streams:
            if way == "rudely":
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # breaks it off
            stream.close()

    def _asked(self, path: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), 5)
        connection.settimeout(0.05)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        return connection


def looked_at(process: subprocess.Popen, began_s: float, viewers: int, records: BinaryIO, before: int = 0) -> Sample:
    """Takes a sample; ``records`` is read from where it was read to, and ``before`` is what was counted so far."""
    about = Path(f"/proc/{process.pid}/status").read_text()
    facts = dict(line.split(":", 1) for line in about.splitlines())
    descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    memory_mb, threads = int(facts["VmRSS"].split()[0]) / 1024, int(facts["Threads"])
    count = before + sum(block.count(b"\n") for block in iter(lambda: records.read(1 << 20), b""))
    return Sample(time.monotonic() - began_s, memory_mb, threads, descriptors, viewers, count)


def watched(process: subprocess.Popen, port: int, records: BinaryIO, minutes: float) -> tuple[list[Sample], Viewers]:
    """Lets a run go on for some minutes; the first and the last sample are without a viewer."""
    began_s = time.monotonic()
    time.sleep(5)
    samples = [looked_at(process, began_s, 0, records)]
    viewers = Viewers(port)
    while (at_s := time.monotonic() - began_s) < 60 * minutes and process.poll() is None:
        samples.append(looked_at(process, began_s, viewers.here, records, samples[-1].records))
        time.sleep(min(SAMPLE_S, max(60 * minutes - at_s, 0.1)))
    viewers.leave()
    time.sleep(5)
    if process.poll() is None:
        samples.append(looked_at(process, began_s, 0, records, samples[-1].records))
    return samples, viewers


def growth_percent(samples: list[Sample]) -> float:
    last_s = samples[-2].at_s  # of those with viewers
    first_s = min(FIRST_S, last_s / 2)
    first = [s.memory_mb for s in samples if first_s <= s.at_s < first_s + WINDOW_S]
    last = [s.memory_mb for s in samples[:-1] if s.at_s > last_s - WINDOW_S]
    return 100 * (statistics.median(last) / statistics.median(first) - 1)


def outputs(folder: Path) -> dict[str, int]:
    """How many of each there are in the files of a run."""
    records = [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]
    with (folder / "r.csv").open(newline="") as file:
        rows = sum(1 for _ in csv.DictReader(file))
    with av.open(str(folder / "o.mp4")) as film:
        frames = sum(1 for packet in film.demux(video=0) if packet.size)
    return {
        "records": len(records), "faces in them": sum(len(r["faces"]) for r in records), "rows": rows,
        "frames": frames, "pictures of faces": sum(1 for _ in (folder / "faces").iterdir()),
    }  # fmt: skip


def run(film: Path | None, minutes: float, folder: Path) -> bool:
    images = portraits() if film is None else (frame.image for frame in open_source(film))
    pictures = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    records = folder / "r.jsonl"
    with camera(pictures) as address:
        process = subprocess.Popen(
            [sys.executable, "-m", "ageinfer", address, "--jsonl", str(records), "--csv", str(folder / "r.csv"),
             "--faces", str(folder / "faces"), "--output", str(folder / "o.mp4"), "--serve-at", f"127.0.0.1:{port}",
             "--quiet"]
        )  # fmt: skip
        try:
            while not (records.exists() and records.stat().st_size) and process.poll() is None:
                time.sleep(0.1)
            with records.open("rb") as lines:
                samples, viewers = watched(process, port, lines, minutes)
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
        finally:
            process.kill()
    return judged(samples, viewers, status, outputs(folder))


def judged(samples: list[Sample], viewers: Viewers, status: int, found: dict[str, int]) -> bool:
    """Prints the table and the verdict."""
    first, *between, last = samples
    print("| s | memory, MB | threads | descriptors | viewers | records |\n|---|---|---|---|---|---|")
    for s in (first, *between[:: max(1, len(between) // 10)], last):
        cells = (s.at_s, s.memory_mb, s.threads, s.descriptors, s.viewers, s.records)
        print("| " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")
    grown, rate = growth_percent(samples), last.records / last.at_s
    named = ", ".join(f"{name} {count:,}" for name, count in found.items())
    checks = {
        f"{rate:.1f} of {FPS} pictures a second are taken (at least {LEAST_FPS}, else the machine is too busy)":
            rate >= LEAST_FPS,
        f"memory grows by {grown:+.1f} % (at most {MOST_GROWTH_PERCENT:g} %)": grown <= MOST_GROWTH_PERCENT,
        f"threads without a viewer: {first.threads}, then {last.threads}": last.threads <= first.threads,
        f"descriptors without a viewer: {first.descriptors}, then {last.descriptors}":
            last.descriptors <= first.descriptors,
        f"{named}": found["records"] == found["frames"] and found["faces in them"] == found["rows"] > 0,
        f"the page: {viewers.visits} visits, {viewers.received / 1e6:.0f} MB": viewers.received > 0,
        f"status after SIGTERM: {status}": status == 130,
    }  # fmt: skip
    print()
    for text, passed in checks.items():
        print(f"- {'passed' if passed else 'FAILED'}: {text}")
    return all(checks.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        return not run(options.film, options.minutes, options.keep)
    with tempfile.TemporaryDirectory() as folder:
        return not run(options.film, options.minutes, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
