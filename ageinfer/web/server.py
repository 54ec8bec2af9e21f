"""Runs the web server: uvicorn on an event loop in a thread of its own."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any

from ageinfer.errors import MissingDependencyError, OutputError, UsageError
from ageinfer.people.board import Board
from ageinfer.sinks import Playback

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from ageinfer.web import connection as connections
    from ageinfer.web.guard import CONTROL, LARGEST_HEAD, PLACES, Guard
    from ageinfer.web.streams import Hub, make_streams
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"the web view needs {(error.name or '').partition('.')[0]}, which is missing: pip install 'ageinfer[serve]'"
    ) from error

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/audience.js": ("audience.js", "text/javascript"),
    "/people.js": ("people.js", "text/javascript"),
    "/places.js": ("places.js", "text/javascript"),
    "/playback.js": ("playback.js", "text/javascript"),
    "/plot.js": ("plot.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_START_S = 10.0
# The last part for a viewer may take so many seconds; then its connection is broken.
_GRACE_S = 0.4
_END_S = 2.0
# asyncio accepts so many connections at once, and only then can there be too many. More may wait to be accepted.
_ACCEPTED_AT_ONCE, _WAITING = 16, 128

log = logging.getLogger(__name__)


class WebServer:
    """Serves the page and its streams on a socket until it is closed.

    Args:
        listener: a listening socket; the server closes it.
        hub: gives pictures and state.
        playback: of a recording, which the page can pause and repeat; None: there is nothing to change.
        board: whose places the page can change; None: there are none.
        token: the token that a viewer needs, or None.
        hosts: the host names that requests may use, or None for any.
        only_counts: whether there is no picture to be had.

    Raises:
        OutputError: the server does not start.
    """

    def __init__(
        self, listener: socket.socket, hub: Hub, playback: Playback | None, board: Board | None = None, *,
        token: str | None, hosts: frozenset[str] | None, only_counts: bool = False,
    ) -> None:  # fmt: skip
        closing = asyncio.Event()
        pictures, events = make_streams(hub, closing, lambda client: self._server.abort(client))
        routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
        routes.append(Route("/events", events))
        if not only_counts:
            routes.append(Route("/stream.mjpg", pictures))
        if playback is not None:
            routes.append(Route(CONTROL, _control(playback), methods=["POST"]))
        if board is not None:
            routes.append(Route(PLACES, _places(board), methods=["POST"]))
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False  # what is not there is not somewhere else
        guard = Guard(app, port=listener.getsockname()[1], token=token, hosts=hosts)
        self._server = _Server(guard, closing)
        self._listener = listener
        self._thread = threading.Thread(target=self._run, name="ageinfer-web", daemon=True)
        self._thread.start()
        self._server.settled.wait(_START_S)
        if not self._server.started:
            listener.close()
            raise OutputError("the web server does not start; read the messages above, or leave --serve out")

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function on the event loop of the server if it still runs; any thread may use it."""
        with suppress(RuntimeError):  # the loop is closed
            if self._server.loop is not None:
                self._server.loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Ends the server within 2 s, even if its viewers do not read."""
        self._server.should_exit = True
        self._thread.join(_END_S)
        if self._thread.is_alive():
            log.warning("the web server does not end within %g s; it runs until the program ends", _END_S)

    def _run(self) -> None:
        seldom, loggers = connections.Seldom(), (connections.log, logging.getLogger("uvicorn.error"))
        for logger in loggers:
            logger.addFilter(seldom)
        try:
            self._server.run(sockets=[self._listener])
        except Exception:  # this thread ends here; the run must go on whatever uvicorn raises
            log.exception("the web server has failed; the run goes on without it")
        finally:
            self._server.settled.set()
            for logger in loggers:
                logger.removeFilter(seldom)


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it listens and does not wait for viewers at its end.

    It runs in a thread that is not the main one, where uvicorn installs no signal handlers.

    Attributes:
        settled: set when the server listens or has failed.
        loop: the event loop of the server, or None before it listens.
    """

    def __init__(self, app: Guard, closing: asyncio.Event) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=connections.Connection,
                backlog=_ACCEPTED_AT_ONCE,
                h11_max_incomplete_event_size=LARGEST_HEAD,
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
        for listener in sockets or ():
            listener.listen(_WAITING)
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(connections.explain_error)
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        asyncio.get_running_loop().call_later(_GRACE_S, self.abort)
        await super().shutdown(sockets)

    def abort(self, client: tuple[str, int] | None = None) -> None:
        """Breaks the connection of one client, or all connections, at once; data that waits is lost."""
        for connection in list(self.server_state.connections):
            if client is None or client == getattr(connection, "client", None):
                connection.transport.abort()


def _control(playback: Playback) -> Callable[[Request], Any]:
    """Makes a handler that does with the recording what the page asks for: ``?do=pause``, ``play`` or ``repeat``."""

    async def answer(request: Request) -> Response:
        wish = request.query_params.get("do")
        if wish in ("pause", "play"):
            playback.paused = wish == "pause"
        elif wish == "repeat":
            playback.repeat()
        else:
            return PlainTextResponse("Ask for ?do=pause, play or repeat.\n", 400)
        return Response(status_code=204)

    return answer


def _places(board: Board) -> Callable[[Request], Any]:
    """Makes a handler that changes the places of a run: ``?zone=NAME=x,y;...``, ``?line=...`` or ``?remove=NAME``."""

    async def answer(request: Request) -> Response:
        asked = request.query_params
        try:
            if "remove" in asked:
                board.remove_place(asked["remove"])
            elif "zone" in asked:
                board.add_place("zone", asked["zone"])
            elif "line" in asked:
                board.add_place("line", asked["line"])
            else:
                return PlainTextResponse("Ask for ?zone=, ?line= or ?remove=.\n", 400)
        except UsageError as error:
            return PlainTextResponse(f"{error}\n", 400)
        return Response(status_code=204)

    return answer


def _file(name: str, media_type: str) -> Callable[[Request], Any]:
    """Makes a handler that answers with a file of this package."""
    content = (files("ageinfer.web") / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer
