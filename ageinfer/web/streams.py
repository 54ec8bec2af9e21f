"""Pictures and state on their way to the viewers, each viewer at its own pace.

Everything here runs on the event loop of the server.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ageinfer.web.encoder import Picture
from ageinfer.web.feed import Feed

MAX_VIEWERS = 16
# A viewer that took nothing for so long is gone, or will never read; its place is for another.
STALL_S = 20.0
_STATE_S = 0.125
_ALIVE_S = 1.0
_BOUNDARY = "picture"
_PART = f"\r\n--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()


class Hub:
    """The newest picture and state, for every viewer that asks.

    Args:
        feed: where frames and state come from.
        about: what a viewer is told first, as JSON values.
        interval_s: the least time from one picture to the next.
    """

    def __init__(self, feed: Feed, about: dict[str, Any], interval_s: float) -> None:
        self._feed = feed
        self._about = about
        self._interval_s = interval_s
        self._picture: Picture | None = None
        self._published = asyncio.Event()
        self._delivered_s: dict[str, float] = {}

    def publish(self, picture: Picture) -> None:
        """Takes a new picture and wakes all who wait for it."""
        self._picture = picture
        self._published.set()
        self._published = asyncio.Event()

    async def pictures(self, view: str) -> AsyncIterator[bytes]:
        """Motion JPEG: always the newest picture at the time that the viewer is ready for one.

        Args:
            view: a name that the viewer gave itself.
        """
        number = 0
        try:
            self._delivered_s[view] = time.monotonic()
            yield _PART.removeprefix(b"\r\n")
            while True:
                picture = await self._picture_after(number)
                number = picture.number
                # Chromium shows a picture when the head of the next one comes, so that is sent now, before it is known
                # how long the next one will be.
                yield picture.jpeg + _PART
                self._delivered_s[view] = time.monotonic()
        finally:
            self._delivered_s.pop(view, None)

    async def _picture_after(self, number: int) -> Picture:
        while True:
            published, picture = self._published, self._picture
            if picture is not None and picture.number > number and self._is_new(picture):
                return picture
            self._feed.want()
            await published.wait()

    def _is_new(self, picture: Picture) -> bool:
        """Whether it would be a waste to make another. What was made for a viewer long ago is not."""
        return picture.number == self._feed.number or time.monotonic() - picture.made_s < self._interval_s

    async def events(self, view: str) -> AsyncIterator[bytes]:
        """Server-sent events: ``hello`` with what does not change and the last minute, then ``state``, again and again.

        Between two frames state is sent once a second, so that either side notices when the other is gone. To the state
        of the `Feed` comes ``picture_s``: how long ago this viewer had taken in a picture, in seconds; None when none
        is sent to it.

        Args:
            view: the name under which the viewer gets its pictures.
        """
        yield _event("hello", self._about | {"history": self._feed.history()})
        number, sent_s = -1, 0.0
        while True:
            now = time.monotonic()
            if self._feed.number != number or now - sent_s >= _ALIVE_S:
                number, sent_s = self._feed.number, now
                delivered_s = self._delivered_s.get(view)
                picture_s = None if delivered_s is None else round(now - delivered_s, 2)
                yield _event("state", self._feed.state() | {"picture_s": picture_s})
            await asyncio.sleep(_STATE_S)


class Stream:
    """Answers each viewer with parts that never end, as an ASGI application.

    Args:
        media_type: of the answer.
        parts: makes the parts for one viewer, of which it gets the ``view`` in the address.
        last: what is sent when the server closes.
        closing: set when it does.
        abort: breaks the connection to a client, of which it gets address and port.
    """

    def __init__(
        self,
        media_type: str,
        parts: Callable[[str], AsyncIterator[bytes]],
        *,
        last: bytes = b"",
        closing: asyncio.Event,
        abort: Callable[[tuple[str, int]], None],
    ) -> None:
        self._media_type = media_type
        self._parts = parts
        self._last = last
        self._closing = closing
        self._abort = abort
        self._viewers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._viewers >= MAX_VIEWERS:
            text = f"{MAX_VIEWERS} others are watching; try again later.\n"
            await PlainTextResponse(text, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            await Response(media_type=self._media_type)(scope, receive, send)
            return
        self._viewers += 1
        try:
            headers = [(b"content-type", self._media_type.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._serve(scope, receive, send)
            await send({"type": "http.response.body", "body": self._last, "more_body": False})
        finally:
            self._viewers -= 1

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends parts until the viewer goes, stalls, or the server closes."""
        sending = asyncio.create_task(self._send_parts(scope, send))
        tasks = [sending, asyncio.create_task(_until_gone(receive)), asyncio.create_task(self._closing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not sending.cancelled():
            sending.result()  # raises what went wrong in it

    async def _send_parts(self, scope: Scope, send: Send) -> None:
        view = QueryParams(scope["query_string"]).get("view", "")[:40]
        async with aclosing(self._parts(view)) as parts:  # type: ignore[type-var]
            async for part in parts:
                try:
                    async with asyncio.timeout(STALL_S):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                        # Sends nothing, but returns only when most of the part has left this process: what comes next
                        # is chosen then, and is the newest.
                        await send({"type": "http.response.body", "body": b"", "more_body": True})
                except TimeoutError:
                    self._abort(scope["client"])
                    return


def make_streams(hub: Hub, closing: asyncio.Event, abort: Callable[[tuple[str, int]], None]) -> tuple[Stream, Stream]:
    """The stream of pictures and the stream of state of a hub."""
    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
    pictures = Stream(media_type, hub.pictures, closing=closing, abort=abort)
    last = _event("end", {})
    events = Stream("text/event-stream; charset=utf-8", hub.events, last=last, closing=closing, abort=abort)
    return pictures, events


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, values: dict[str, Any]) -> bytes:
    # ASCII alone: a file name need not be UTF-8, and its escapes have no other spelling.
    return f"event: {name}\ndata: {json.dumps(values, allow_nan=False)}\n\n".encode("ascii")
