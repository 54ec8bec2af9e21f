"""A service on loopback, clients that ask it, and detectors that wait."""

import http.client
import json
import os
import socket
import threading
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from ageinfer.pipeline import Pipeline
from ageinfer.types import Detection

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
from ageinfer.api import Service, server

TOKEN = "t" * 32
_BOUNDARY = "a-boundary-of-the-tests"


@dataclass(frozen=True)
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def pictures(self) -> list[dict]:
        assert self.status == 200, self.body
        return self.json["pictures"]

    @property
    def detail(self) -> str:
        """The line of a problem, which is a valid one."""
        assert self.headers["Content-Type"] == "application/problem+json"
        problem = self.json
        assert set(problem) == {"type", "title", "status", "detail"}
        assert problem["type"] == "about:blank"
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        assert "\n" not in problem["detail"]
        return problem["detail"]


@pytest.fixture(scope="session")
def pipeline():
    return Pipeline.default(provider="cpu", threads=1)


@pytest.fixture
def serve_api(pipeline, monkeypatch):
    """Makes a `Service` on a free port of 127.0.0.1, closed at the end."""
    services = []
    monkeypatch.setattr(server, "_CONNECTING_S", 0.02)  # nobody is far away

    def make(detector=None, **options) -> Service:
        used = pipeline if detector is None else Pipeline(detector, pipeline.estimator)
        services.append(Service(used, **{"port": 0, **options}))
        return services[-1]

    yield make
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def shared_service(pipeline):
    """A service that all tests of a module ask."""
    with Service(pipeline, port=0) as service:
        yield service


def place_of(service) -> tuple[str, int]:
    parts = urlsplit(service.url)
    return parts.hostname, parts.port


def ask(service, path="/v1/faces", method="GET", body=None, **headers) -> Reply:
    with closing(http.client.HTTPConnection(*place_of(service), timeout=20)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return reply_of(connection)


def reply_of(connection) -> Reply:
    answer = connection.getresponse()
    return Reply(answer.status, answer.headers, answer.read())


def post(service, data: bytes, **headers) -> Reply:
    """Sends one picture as the body."""
    return ask(service, method="POST", body=data, **headers)


def post_form(service, *files: tuple[str, bytes], **headers) -> Reply:
    """Sends files with these names and bytes as a form."""
    body, media_type = form_of(*files)
    return ask(service, method="POST", body=body, Content_Type=media_type, **headers)


def form_of(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """The body of a form with these files, and its media type."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="{name}"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
        for name, data in files
    ]  # fmt: skip
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={_BOUNDARY}"


def raw(service, data: bytes = b"") -> socket.socket:
    """A connection on which something was sent as it is."""
    connection = socket.create_connection(place_of(service), timeout=20)
    connection.sendall(data)
    return connection


def head_of(service, *lines: str, path="/v1/faces") -> bytes:
    """The head of a POST."""
    host, port = place_of(service)
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {host}:{port}", *lines, "", ""]).encode()


def read_all(connection) -> bytes:
    """What comes until the server ends the connection."""
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def metric(service, name: str, **headers) -> float:
    """The value of a metric with its labels, as Prometheus writes it."""
    text = ask(service, "/metrics", **headers).body.decode()
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.rpartition(" ")[0] == name]
    return float(found[0]) if found else 0.0


class Held:
    """A detector that finds nothing, and waits until it is let go.

    Attributes:
        begun: one for each picture that it has begun.
    """

    identifier = "held"

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self._go = threading.Event()

    def detect(self, image) -> list[Detection]:
        self.begun.release()
        assert self._go.wait(30)
        return []

    def let_go(self):
        self._go.set()


@pytest.fixture
def held():
    """A detector that waits, and is let go at the end of the test at last."""
    detector = Held()
    yield detector
    detector.let_go()


def environment(**changes) -> dict[str, str]:
    """The environment of a command, without a token unless it is given here."""
    return {name: value for name, value in os.environ.items() if name != "AGEINFER_TOKEN"} | changes
