"""An MJPEG camera of the network on 127.0.0.1 that can be told to fail, and pictures that carry their number."""

import base64
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

BITS = 12


def marked(picture, number: int):
    """The picture with a number as black and white fields in its upper eighth, so that it survives JPEG and scaling."""
    picture = picture.copy()
    height, width = picture.shape[0] // 8, picture.shape[1] / BITS
    for bit in range(BITS):
        picture[:height, round(bit * width) : round((bit + 1) * width)] = 255 * (number >> bit & 1)
    return picture


def number_of(image) -> int:
    """The number that `marked` wrote."""
    height, width = image.shape[0] // 8, image.shape[1] / BITS
    middle = image[height // 4 : height - height // 4]
    fields = [middle[:, round((bit + 0.25) * width) : round((bit + 0.75) * width)] for bit in range(BITS)]
    return sum(1 << bit for bit, field in enumerate(fields) if field.mean() > 127)


class NetworkCamera:
    """Sends pictures as ``multipart/x-mixed-replace`` to whoever asks for ``/live``.

    Attributes:
        mode: "normal"; "stall": the connection stays and nothing comes; "garbage": random bytes for pictures; "close":
            the connection is closed after the next picture, for ever.
        clients: how often the stream was asked for.
        sent: how many pictures went out.
        pages: other answers by path: a status, or a content type and its bytes.
    """

    def __init__(self, picture: Callable, fps: float, user: str | None, password: str | None) -> None:
        self.picture, self.period_s = picture, 1 / fps
        self.mode = "normal"
        self.clients = self.sent = 0
        self.pages = {"missing": 404, "page": ("text/html; charset=utf-8", b"<html>log in</html>"), "broken": 503}
        self.wanted = None
        if user is not None:
            self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._port, self._server = 0, None
        self._running = 0  # number of the present run; streams of earlier ones end
        self.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/live"

    def start(self) -> None:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                camera.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        serve = {"poll_interval": 0.01}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Goes away, with all connections."""
        self._running += 1
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request) -> None:
        if self.wanted is not None and request.headers.get("Authorization") != self.wanted:
            request.send_response(401)
            request.send_header("WWW-Authenticate", 'Basic realm="camera"')
            request.end_headers()
            return
        page = self.pages.get(request.path.partition("?")[0].strip("/"))
        if isinstance(page, int):
            request.send_error(page)
            return
        request.send_response(200)
        if page:
            request.send_header("Content-Type", page[0])
            request.send_header("Content-Length", str(len(page[1])))
            request.end_headers()
            request.wfile.write(page[1])
            return
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        self.clients += 1
        with suppress(OSError):  # the other side has gone
            self._stream(request.wfile)

    def _stream(self, out) -> None:
        run = self._running
        noise = np.random.default_rng(1)
        while run == self._running:
            if self.mode != "stall":
                data = cv2.imencode(".jpg", self.picture(self.sent))[1].tobytes()
                if self.mode == "garbage":
                    data = noise.bytes(len(data))
                out.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                out.write(data + b"\r\n")
                self.sent += 1
            if self.mode == "close":
                return
            time.sleep(self.period_s)


@contextmanager
def network_camera(picture: Callable, fps: float = 30, user: str | None = None, password: str | None = None):
    """A running camera that sends ``picture(number)``, uint8 BGR, and may ask for a user name and a password."""
    camera = NetworkCamera(picture, fps, user, password)
    try:
        yield camera
    finally:
        camera.stop()
