"""An object store on loopback, and a proxy in front of it that disturbs requests."""

import contextlib
import http.client
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

_OF_A_CONNECTION = ("transfer-encoding", "connection", "content-length", "expect")


class Disturbing(ThreadingHTTPServer):
    """Passes requests on to a server, and disturbs a share of them, chosen by a seed.

    Attributes:
        share: of the requests that are disturbed.
        down: whether nothing is answered at all.
        disturbed: how many were.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.share, self.down = port, 0.0, False
        self.disturbed, self.requests = 0, 0
        self.lock = threading.Lock()
        self.random = random.Random(0)  # noqa: S311 - no secret
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Says nothing: clients go away when they are disturbed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Disturbing

    def _answer(self) -> None:
        server = self.server
        body = self._body()
        with server.lock:
            server.requests += 1
            fault = server.random.choice(("500", "503", "drop", "half", "slow"))
            if not (server.down or server.random.random() < server.share):
                fault = ""
            server.disturbed += bool(fault)
        if server.down or fault == "drop":
            self.close_connection = True
            return
        if fault in ("500", "503"):
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "slow":
            time.sleep(0.5)
        connection = http.client.HTTPConnection("127.0.0.1", server.behind, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*_OF_A_CONNECTION, "server", "date"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "half" else data)
        connection.close()
        if fault == "half":
            self.close_connection = True

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class ObjectStore:
    """Buckets in the memory of this process.

    Attributes:
        proxy: through which they are reached.
    """

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.proxy = Disturbing(self._server.get_host_and_port()[1])
        self.upload(None, "results/")

    def address(self, place: str) -> str:
        """The address of a place, such as ``bucket/folder``."""
        port = self.proxy.server_address[1]
        options = f"scheme=http&endpoint_override=127.0.0.1:{port}&allow_bucket_creation=true&region=us-east-1"
        return f"s3://{place}?{options}"

    def upload(self, folder: Path | None, place: str) -> None:
        """Makes a bucket, and copies the files of a folder there, with all below it."""
        from pyarrow import fs

        system, path = fs.FileSystem.from_uri(self.address(place))
        system.create_dir(path.partition("/")[0])
        for file in folder.rglob("*") if folder else ():
            if file.is_file():
                with system.open_output_stream(f"{path}/{file.relative_to(folder)}") as stream:
                    stream.write(file.read_bytes())

    def stop(self) -> None:
        self.proxy.shutdown()
        self._server.stop()


@contextlib.contextmanager
def running():
    """An object store, and the environment by which its clients find no other one's secrets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing-to-hide")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = ObjectStore()
        try:
            yield store
        finally:
            store.stop()


@pytest.fixture(scope="session")
def object_store():
    pytest.importorskip("moto")
    with running() as store:
        yield store
