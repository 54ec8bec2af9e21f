"""A web sink on loopback, frames to show in it, and viewers that ask it over HTTP."""

import http.client
import itertools
import json
import socket
import threading
import time
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from ageinfer.sinks.draw import AnnotatedFrame
from ageinfer.types import Age, Detection, Face, Frame, FrameResult
from ageinfer.web import WebInfo, WebSink, make_token

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("starlette", reason="the extra serve is not installed")


INFO = WebInfo("age-small", "apparent", "CPUExecutionProvider", "yunet", "<script>alert(1)</script>.mp4", "1.2.3")
TOKEN = make_token()
ANY_ADDRESS = "0.0.0.0"  # noqa: S104


def face(track, raw, smoothed, std=4.2):
    return Face(Detection((220.0, 80.0, 110.0, 140.0), 0.93), Age(raw, std), track, smoothed)


FACES = (face(7, 60.4, 67.2, 5.6), face(3, 38.5, 41.7))


@pytest.fixture
def picture(astronaut):
    """The portrait, 640 x 480."""
    return cv2.resize(astronaut, (640, 480), interpolation=cv2.INTER_AREA)


@pytest.fixture
def make_frame(picture):
    """Makes the next frame of a clip; its first rows are as bright as its number says."""
    numbers = itertools.count()

    def make(faces=FACES, source="clip.mp4", latency_s=None) -> AnnotatedFrame:
        index = next(numbers)
        image = picture.copy()
        image[:16] = index % 64 * 4
        captured_s = None if latency_s is None else time.monotonic() - latency_s
        frame = Frame(source, index, index / 25, image, captured_s)
        return AnnotatedFrame(frame, FrameResult(source, index, index / 25, (640, 480), tuple(faces)))

    return make


@pytest.fixture
def serve():
    """Makes a `WebSink` on a free port of 127.0.0.1, closed at the end."""
    sinks = []

    def make(**options) -> WebSink:
        sinks.append(WebSink(**{"port": 0, "about": INFO, **options}))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@contextmanager
def writing(sink, make, fps=25, **options):
    """Writes frames as a camera gives them, as long as the block runs."""
    done = threading.Event()

    def work():
        while not done.wait(1 / fps):
            sink.write(make(**options))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def place_of(sink) -> tuple[str, int]:
    parts = urlsplit(sink.url)
    return parts.hostname, parts.port


def ask(sink, path="/", method="GET", **headers):
    """Asks once; gives the answer, of which the body may go on without end."""
    connection = http.client.HTTPConnection(*place_of(sink), timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def status_of(sink, path="/", method="GET", **headers) -> int:
    with closing(ask(sink, path, method, **headers)) as answer:
        return answer.status


def pictures_of(answer):
    """The pictures of a stream as they come, decoded."""
    boundary = b"\r\n--" + answer.headers["Content-Type"].partition("boundary=")[2].encode() + b"\r\n"
    data = b"\r\n"
    while more := answer.read1(65536):
        data += more
        *parts, data = data.split(boundary)
        for part in parts:
            if part:
                head, _, jpeg = part.partition(b"\r\n\r\n")
                assert head == b"Content-Type: image/jpeg"
                yield cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def events_of(answer):
    """The events of a stream as they come: name and values."""
    while line := answer.readline():
        name = line.decode().removeprefix("event: ").strip()
        yield name, json.loads(answer.readline().decode().removeprefix("data: "))
        answer.readline()


def number_in(image) -> int:
    """The number, modulo 64, of the frame that a picture was made of."""
    return round(float(image[4:12].mean()) / 4)


def never_read(sink, path="/stream.mjpg") -> socket.socket:
    """A viewer that asks, and never reads."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(place_of(sink))
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{place_of(sink)[1]}\r\n\r\n".encode())
    return viewer


def wait_for(condition, seconds=8.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
