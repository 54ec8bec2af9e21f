"""A web server on 127.0.0.1 that can be told to fail."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What the server holds, and how it misbehaves.

    Attributes:
        address: ``http://127.0.0.1:PORT``.
        files: bytes by path, without the leading slash.
        faults: of the next requests, one each: a status; ``(status, text)``: with ``Retry-After``;
            ``("cut", n)``: the connection breaks after n bytes;
            ``("longer", n)``: n bytes more are announced than come; None: no fault.
        takes_ranges: False to send all of a file whatever part is asked for.
        tells_length: False to leave ``Content-Length`` out.
        version: of all files, as ``ETag``; empty: none is told.
        odd_headers: replace those of a part that would be right, or of a whole file.
        asked: path and ``Range`` of each request so far.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list = field(default_factory=list)
    takes_ranges: bool = True
    tells_length: bool = True
    version: str = ""
    odd_headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving(files):
    """Serves these files as long as the block runs; gives a `Web`."""
    web = Web(files=dict(files))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            answer(self, web)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request, web):
    """Answers a request for a file or a part ``bytes=N-`` of it."""
    path, asked = request.path.lstrip("/"), request.headers.get("Range")
    web.asked.append((path, asked))
    fault = web.faults.pop(0) if web.faults else None
    if isinstance(fault, int):
        request.send_error(fault)
        return
    if isinstance(fault, tuple) and isinstance(fault[0], int):
        request.send_response(fault[0])
        request.send_header("Retry-After", fault[1])
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    if path not in web.files:
        request.send_error(404)
        return
    data = web.files[path]
    same = request.headers.get("If-Range") in (None, web.version)
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and web.takes_ranges and same else 0
    if start and start >= len(data):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(data)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    kind, n = fault or ("", 0)
    body = data[start:]
    request.send_response(206 if start else 200)
    headers = {}
    if web.version:
        headers["ETag"] = web.version
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    if web.tells_length:
        headers["Content-Length"] = str(len(body) + (n if kind == "longer" else 0))
    for name, value in (headers | web.odd_headers).items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body[:n] if kind == "cut" else body)
