"""The web server: uvicorn on an event loop in a thread of its own."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any

from ageinfer.errors import MissingDependencyError, OutputError

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from ageinfer.web.guard import Guard
    from ageinfer.web.streams import Hub, make_streams
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"the web view needs {(error.name or '').partition('.')[0]}, which is missing: pip install 'ageinfer[serve]'"
    ) from error

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/plot.js": ("plot.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_START_S = 10.0
# So long may the last words to a viewer take before its connection is broken.
_GRACE_S = 0.4
_END_S = 2.0

log = logging.getLogger(__name__)


class WebServer:
    """Serves page and streams on a socket, until it is closed.

    Args:
        listener: listens already; belongs to the server from now on.
        hub: gives pictures and state.
        token: what a viewer must show, or None.
        hosts: names by which the server may be addressed, or None for any.

    Raises:
        OutputError: it does not start.
    """

    def __init__(self, listener: socket.socket, hub: Hub, *, token: str | None, hosts: frozenset[str] | None) -> None:
        closing = asyncio.Event()
        pictures, events = make_streams(hub, closing, lambda client: self._server.abort(client))
        routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
        app = Starlette(routes=[*routes, Route("/stream.mjpg", pictures), Route("/events", events)])
        guard = Guard(app, port=listener.getsockname()[1], token=token, hosts=hosts)
        self._server = _Server(guard, closing)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="ageinfer-web", daemon=True)
        self._thread.start()
        self._server.settled.wait(_START_S)
        if not self._server.started:
            listener.close()
            raise OutputError("the web server does not start; see the messages above, or leave --serve out")

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function on the event loop of the server, if it still runs; may be used from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            if self._server.loop is not None:
                self._server.loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Ends the server within 2 s, whatever its viewers do."""
        self._server.should_exit = True
        self._thread.join(_END_S)
        if self._thread.is_alive():
            log.warning("the web server does not end; it is left behind")

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except Exception:  # the thread's own end; whatever uvicorn raises, the run must go on
            log.exception("the web server has failed; the run goes on without it")
        finally:
            self._server.settled.set()


class _Server(uvicorn.Server):
    """uvicorn, that says when it listens and does not wait for viewers when it ends.

    In a thread other than the main one uvicorn installs no signal handlers.

    Attributes:
        settled: set when it listens, or has failed to.
        loop: its event loop, when it listens.
    """

    def __init__(self, app: Guard, closing: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        self.settled = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        asyncio.get_running_loop().call_later(_GRACE_S, self.abort)
        await super().shutdown(sockets)

    def abort(self, client: tuple[str, int] | None = None) -> None:
        """Breaks connections at once, with what was not sent yet; all of them, or that of one client."""
        for connection in list(self.server_state.connections):
            if client is None or client == getattr(connection, "client", None):
                connection.transport.abort()


class _Connection(H11Protocol):
    """A connection on which a viewer that is slow to read gets nothing more until it has taken what was sent before.

    Otherwise 64 KiB, which are several small pictures, would be held for it and be old when it comes to them.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)


def _file(name: str, media_type: str) -> Callable[[Request], Any]:
    """Answers with a file of this package."""
    content = (files("ageinfer.web") / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer
