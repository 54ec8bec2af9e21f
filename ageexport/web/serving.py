"""Serves a built site on this machine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class SiteHandler(SimpleHTTPRequestHandler):
    """Serves the files of a site with their types."""

    extensions_map = {  # noqa: RUF012 - as the base class has it
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json", ".onnx": "application/octet-stream",
    }  # fmt: skip

    def log_message(self, *_: object) -> None:
        """Says nothing: whoever tries the site sees it."""


class IsolatingHandler(SiteHandler):
    """Also sends the headers that the service worker would add, without which browsers give WebAssembly one thread."""

    HEADERS = {  # noqa: RUF012 - as the base class has its own
        "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
    }  # fmt: skip

    def end_headers(self) -> None:
        """Adds them to every answer."""
        for name, value in self.HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


def server_of(folder: Path, port: int = 0, handler: type[SiteHandler] = SiteHandler) -> ThreadingHTTPServer:
    """Makes a server of a folder on the loopback address; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    return ThreadingHTTPServer(("127.0.0.1", port), partial(handler, directory=str(folder)))


@contextmanager
def served(folder: Path, handler: type[SiteHandler] = SiteHandler) -> Iterator[str]:
    """Serves a folder in the background; gives its address."""
    server = server_of(folder, handler=handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
