"""Runs a web application: uvicorn on an event loop in a thread of its own."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from ageinfer.errors import OutputError
from ageinfer.web import connection as connections
from ageinfer.web.guard import LARGEST_HEAD

_START_S = 10.0
# The last part for a viewer may take so many seconds; then its connection is broken.
_GRACE_S = 0.4
_END_S = 2.0
# asyncio accepts so many connections at once, and only then can there be too many. More may wait to be accepted.
_ACCEPTED_AT_ONCE, _WAITING = 16, 128

log = logging.getLogger(__name__)


class ServerThread:
    """Serves an application on a socket until it is closed.

    Args:
        app: answers the requests.
        listener: a listening socket; the server closes it.
        closing: set when the server closes, so that endless answers end.
        protocol: of its connections.
        before_end: is awaited between that and the end of the connections.
        end_s: the whole end may take so many seconds.
        loggers: of which the messages of each level come seldom, too, because strangers cause them.

    Raises:
        OutputError: the server does not start.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, closing: asyncio.Event, *,
        protocol: type[connections.Connection] = connections.Connection,
        before_end: Callable[[], Awaitable[None]] | None = None, end_s: float = _END_S,
        loggers: Sequence[logging.Logger] = (),
    ) -> None:  # fmt: skip
        self._server = _Server(app, closing, protocol, before_end)
        self._listener = listener
        self._end_s = end_s
        self._heard_s = time.monotonic()
        self._loggers = (connections.log, logging.getLogger("uvicorn.error"), *loggers)
        self._thread = threading.Thread(target=self._run, name="ageinfer-web", daemon=True)
        self._thread.start()
        self._server.settled.wait(_START_S)
        if not self._server.started:
            listener.close()
            raise OutputError("the web server does not start; read the messages above, or do without it")

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function on the event loop of the server if it still runs; any thread may use it."""
        with suppress(RuntimeError):  # the loop is closed
            if self._server.loop is not None:
                self._server.loop.call_soon_threadsafe(function, *arguments)

    def abort(self, client: tuple[str, int]) -> None:
        """Breaks the connection of one client; only the event loop of the server calls it."""
        self._server.abort(client)

    @property
    def runs(self) -> bool:
        """Whether it has neither ended nor failed."""
        return self._thread.is_alive()

    def responds(self, within_s: float) -> bool:
        """Whether the event loop was heard of within so many seconds; it is asked to be heard of again."""
        self.call(self._hear)
        return time.monotonic() - self._heard_s <= within_s

    def _hear(self) -> None:
        self._heard_s = time.monotonic()

    def close(self) -> None:
        """Ends the server within ``end_s`` seconds, even if its viewers do not read."""
        self._server.should_exit = True
        self._thread.join(self._end_s)
        if self._thread.is_alive():
            log.warning("the web server does not end within %g s; it runs until the program ends", self._end_s)

    def _run(self) -> None:
        seldom = connections.Seldom()
        for logger in self._loggers:
            logger.addFilter(seldom)
        try:
            self._server.run(sockets=[self._listener])
        except Exception:  # this thread ends here; the run must go on whatever uvicorn raises
            log.exception("the web server has failed; the run goes on without it")
        finally:
            self._server.settled.set()
            for logger in self._loggers:
                logger.removeFilter(seldom)


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it listens and does not wait for viewers at its end.

    It runs in a thread that is not the main one, where uvicorn installs no signal handlers.

    Attributes:
        settled: set when the server listens or has failed.
        loop: the event loop of the server, or None before it listens.
    """

    def __init__(
        self, app: ASGIApp, closing: asyncio.Event, protocol: type[connections.Connection],
        before_end: Callable[[], Awaitable[None]] | None,
    ) -> None:  # fmt: skip
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=protocol,
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
        self._before_end = before_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_WAITING)
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(connections.explain_error)
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        if self._before_end is not None:
            await self._before_end()
        asyncio.get_running_loop().call_later(_GRACE_S, self.abort)
        await super().shutdown(sockets)

    def abort(self, client: tuple[str, int] | None = None) -> None:
        """Breaks the connection of one client, or all connections, at once; data that waits is lost."""
        for connection in list(self.server_state.connections):
            if client is None or client == getattr(connection, "client", None):
                connection.transport.abort()
