"""Counts every request with its answer, and ends connections so that nobody who has asked loses an answer."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ageinfer.api.limits import Limits
from ageinfer.api.metrics import Metrics
from ageinfer.api.problems import GONE

# Who still sends a body that nobody wants has so many seconds to see the answer, and may send as many bytes as are
# held of all requests; then the connection may end.
_LINGER_S = 5.0
_TAKE_S = 10.0  # and to take an answer


class Exchanges:
    """Passes requests on to an application; it is an ASGI application itself.

    Once the server is closing, every answer ends its connection, and says so.

    Args:
        app: answers them.
        metrics: counts them.
        paths: that are counted under their own name.
        timed: the path whose requests are timed.
        limits: of requests.
        closing: set when the server closes.
        abort: breaks the connection to a client; it gets the address and port of the client.

    Attributes:
        open: requests without a whole answer that came before the server was closing.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, *, paths: Collection[str], timed: str, limits: Limits,
        closing: asyncio.Event, abort: Callable[[tuple[str, int]], None],
    ) -> None:  # fmt: skip
        self._app = app
        self._metrics = metrics
        self._paths = paths
        self._timed = timed
        self._limit_s = limits.time_limit_s + _LINGER_S + _TAKE_S
        self._most_bytes = limits.most_held
        self._closing = closing
        self._abort = abort
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send, self._closing, self._most_bytes)
        began_s = time.monotonic()
        counted = not self._closing.is_set()
        self.open += counted
        try:
            async with asyncio.timeout(self._limit_s):
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:  # the client takes nothing
            self._abort(scope["client"])
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.open -= counted
            path = scope["path"]
            self._metrics.requests.labels(path if path in self._paths else "other", exchange.status).inc()
            if path == self._timed:
                self._metrics.request_seconds.observe(time.monotonic() - began_s)


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send, closing: asyncio.Event, most_bytes: int) -> None:
        self.status = GONE
        self._receive, self._send, self._closing = receive, send, closing
        self._most_bytes = most_bytes
        self._is_whole = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._is_whole = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._closing.is_set():
                MutableHeaders(scope=message)["Connection"] = "close"
        elif not message.get("more_body"):
            # The answer is sent, but not complete for the server, which could close the connection then. A client that
            # still sends would be told so by an error, and lose the answer.
            await self._send({**message, "more_body": True})
            await self._take_the_rest()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _take_the_rest(self) -> None:
        taken = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while not self._is_whole and taken <= self._most_bytes:
                    taken += len((await self.receive()).get("body", b""))
